//! The doctor over the disk of a small engine: it finds every flipped byte, changes nothing unless told to, and what it
//! repairs is sound afterwards and serves every number as before.

use std::{collections::BTreeMap, path::Path, process::Output, sync::Arc, time::Duration};

use tidewatch::{
    doctor::{Action, Examination, Remedy, examine, repair},
    quarantine::Quarantine,
};
use tidewatch_log::{Contained, Encoded, FileSystem, Journal, JournalTopic, LogConfig, MemFs, Record, Writer};
use tidewatch_model::{EventTime, Lsn, ManualClock};

use crate::{
    flips::{LOG, STORE, plan, small_engine, started, with},
    support::{Setup, output, tidewatch},
};

const DATA: &str = "/data";

fn disk_of(fs: &MemFs) -> Arc<dyn FileSystem> {
    Arc::new(fs.clone())
}

/// The small engine with its secret.
fn sound() -> MemFs {
    let fs = small_engine(&plan());
    fs.put(Path::new("/data/id.key"), vec![7; 32]);
    fs
}

/// A copy of the disk with one file changed.
fn damaged(fs: &MemFs, path: &Path, bytes: Vec<u8>) -> MemFs {
    let copy = with(fs, path, bytes);
    copy.put(Path::new("/data/id.key"), vec![7; 32]);
    copy
}

fn examined(fs: &MemFs) -> Examination {
    let before = everything(fs);
    let examination = examine(&disk_of(fs), Path::new(DATA)).unwrap();
    assert_eq!(before, everything(fs), "an examination changes nothing");
    examination
}

fn everything(fs: &MemFs) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    for dir in [DATA, LOG, STORE, "/data/quarantine"].map(Path::new) {
        for name in fs.list(dir).unwrap_or_default() {
            files.push((name.clone(), fs.bytes(&dir.join(name)).unwrap()));
        }
    }
    files
}

fn repaired(fs: &MemFs, examination: &Examination) -> (Vec<Action>, Examination) {
    let clock = Arc::new(ManualClock::at(EventTime::from_micros(0)));
    let quarantine = Quarantine::new(disk_of(fs), Path::new(DATA), clock);
    let done = repair(&disk_of(fs), Path::new(DATA), examination, &quarantine).unwrap();
    (done, examined(fs))
}

#[test]
fn a_sound_folder_is_sound() {
    let examination = examined(&sound());
    assert_eq!(examination.findings, []);
    let empty = MemFs::new();
    empty.create_dir(Path::new(DATA)).unwrap();
    assert!(examined(&empty).is_sound());
}

#[test]
fn every_flipped_byte_is_found_and_what_is_repaired_is_sound() {
    let plan = plan();
    let fs = sound();
    let whole = started(&with(&fs, Path::new("/nowhere"), Vec::new()), &plan).unwrap().rows;
    for dir in [LOG, STORE].map(Path::new) {
        for name in fs.list(dir).unwrap() {
            let path = dir.join(&name);
            let good = fs.bytes(&path).unwrap();
            for at in 0..good.len() {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << (at % 8);
                let fs = damaged(&fs, &path, bytes);
                let examination = examined(&fs);
                let case = format!("{name} at {at}: {:?}", examination.findings);
                assert!(examination.findings.iter().any(|finding| finding.place.contains(&name)), "{case}");
                if examination.is_sound() {
                    continue;
                }
                let (done, after) = repaired(&fs, &examination);
                // The log reaches back to its first record, so whatever is damaged in the store can be built anew.
                assert_eq!(dir == Path::new(STORE), !done.is_empty(), "{case}");
                assert_eq!(after.is_sound(), !done.is_empty(), "{case}: {:?}", after.findings);
                if done == [Action::RebuildFromLog] && at % 50 == 0 {
                    assert_eq!(started(&fs, &plan).unwrap().rows, whole, "{case}");
                }
            }
        }
    }
}

/// The sound disk after the log forgot what the checkpoint has.
fn with_a_short_log() -> MemFs {
    let fs = sound();
    let config = LogConfig { segment_bytes: 600, contained: Contained::default(), ..LogConfig::new(1) };
    let (mut writer, _) = Writer::open(disk_of(&fs), Path::new(LOG), &config).unwrap();
    assert!(writer.forget_before(Lsn(10)).unwrap() > 0);
    assert!(examined(&fs).is_sound());
    fs
}

fn store_file(fs: &MemFs, prefix: &str) -> std::path::PathBuf {
    let names = fs.list(Path::new(STORE)).unwrap();
    Path::new(STORE).join(names.into_iter().find(|name| name.starts_with(prefix)).unwrap())
}

fn flip(fs: &MemFs, path: &Path) {
    let mut bytes = fs.bytes(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs.put(path, bytes);
}

#[test]
fn without_the_whole_log_the_doctor_says_what_cannot_be_repaired() {
    let plan = plan();
    for (prefix, repairable) in [("kinds", false), ("state", false), ("ids", false), ("transactions", true)] {
        let fs = with_a_short_log();
        let path = store_file(&fs, prefix);
        flip(&fs, &path);
        let served = started(&with(&fs, Path::new("/nowhere"), Vec::new()), &plan).map(|started| started.rows);
        let examination = examined(&fs);
        let [finding] = &examination.findings[..] else { panic!("{:?}", examination.findings) };
        assert_eq!(matches!(finding.remedy, Remedy::Repair(Action::DropTableSegment(_))), repairable, "{finding:?}");
        let (done, after) = repaired(&fs, &examination);
        assert_eq!((!done.is_empty(), after.is_sound()), (repairable, repairable), "{prefix}");
        let copy = Path::new("/data/quarantine").join(path.file_name().unwrap());
        assert!(fs.bytes(&copy).is_some(), "{prefix}");
        assert_eq!(started(&fs, &plan).map(|started| started.rows), served, "{prefix}");
    }
}

#[test]
fn a_manifest_that_was_written_and_not_put_in_force_takes_the_place_of_a_damaged_one() {
    let fs = with_a_short_log();
    let manifest = Path::new(STORE).join("MANIFEST");
    fs.put(&Path::new(STORE).join("MANIFEST.part"), fs.bytes(&manifest).unwrap());
    flip(&fs, &manifest);
    let (done, after) = repaired(&fs, &examined(&fs));
    assert_eq!(done, [Action::UseNextManifest]);
    assert!(after.is_sound(), "{:?}", after.findings);
    // Without it there is nothing to go by.
    flip(&fs, &manifest);
    let (done, after) = repaired(&fs, &examined(&fs));
    assert_eq!((done, after.is_sound()), (Vec::new(), false));
}

#[test]
fn a_secret_that_is_missing_beside_data_is_told() {
    let fs = sound();
    fs.remove(Path::new("/data/id.key")).unwrap();
    let examination = examined(&fs);
    let [finding] = &examination.findings[..] else { panic!("{:?}", examination.findings) };
    assert_eq!(finding.place, "id.key");
    assert!(finding.what.contains("count again"), "{}", finding.what);
    assert!(!examination.is_sound());
}

#[test]
fn a_lost_record_stays_a_fault_until_a_checkpoint_is_behind_it() {
    let fs = with_a_short_log();
    let config = LogConfig::new(1);
    let (mut writer, found) = Writer::open(disk_of(&fs), Path::new(LOG), &config).unwrap();
    let note = Record::Journal(Journal { topic: JournalTopic::Rules, json: b"{}".to_vec() });
    writer.append(&Encoded::new(&note).unwrap()).unwrap();
    writer.commit(&|| Duration::ZERO).unwrap();
    let newest = fs.list(Path::new(LOG)).unwrap().pop().unwrap();
    let path = Path::new(LOG).join(newest);
    let mut bytes = fs.bytes(&path).unwrap();
    // The payload of the last but one record.
    let at = bytes.len() - Encoded::new(&note).unwrap().payload().len() - 36 - 1;
    bytes[at] ^= 1;
    fs.put(&path, bytes);
    let examination = examined(&fs);
    let [finding] = &examination.findings[..] else { panic!("{:?}", examination.findings) };
    assert!(finding.what.contains(&format!("Record {} is lost. It held events.", found.last())), "{}", finding.what);
    let (done, after) = repaired(&fs, &examination);
    assert_eq!((done, after.is_sound()), (Vec::new(), false));
    assert_eq!(fs.list(Path::new("/data/quarantine")).unwrap().len(), 2);
}

/// `tidewatch doctor` over the engine's data, to its end.
async fn doctor(setup: &Setup, more: &[&str]) -> (i32, String) {
    let mut command = tidewatch(["doctor", "--data-dir"]);
    command.arg(setup.data()).args(more).current_dir(setup.folder.path());
    let Output { status, stdout, stderr } = output(command).await;
    (status.code().unwrap(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(dir).unwrap().map(|file| file.unwrap());
    let files = files.filter(|file| file.file_type().unwrap().is_file() && file.file_name() != "LOCK");
    files.map(|file| (file.file_name().into_string().unwrap(), std::fs::read(file.path()).unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_engine_starts_over_a_damaged_log_and_says_what_is_missing() {
    let setup = Setup::configured("[store]\ncheckpoint_interval = \"1h\"\n");
    let engine = setup.start().await;
    for (name, minute) in [("a", 0), ("b", 5), ("c", 10)] {
        let event = |at: usize| format!("{name}-{at},2025-01-01T12:{minute:02}:{at:02}Z,approved\n");
        let csv = "event_id,occurred_at,status\n".to_owned() + &(0..10).map(event).collect::<String>();
        let file = setup.folder.write(&format!("{name}.csv"), &csv);
        engine.replay(&file, &[]).await;
    }
    assert_eq!(engine.number("SELECT sum(transactions) FROM payments_by_status").await, 30);
    engine.kill();
    let log = setup.data().join("log/00000000000000000001.log");
    let mut bytes = std::fs::read(&log).unwrap();
    let at = bytes.windows(4).position(|text| text == b"b-0b").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&log, bytes).unwrap();

    let before = [setup.data(), setup.data().join("log"), setup.data().join("store")].map(|dir| files(&dir));
    let (code, said) = doctor(&setup, &[]).await;
    assert!(code == 3 && said.contains("is lost. It held events."), "{code}: {said}");
    let after = [setup.data(), setup.data().join("log"), setup.data().join("store")].map(|dir| files(&dir));
    assert!(before == after && !setup.data().join("quarantine").exists(), "the doctor changes nothing unless told to");

    let engine = setup.start().await;
    let (code, said) = doctor(&setup, &["--repair"]).await;
    assert!(code == 1 && said.contains(&format!("in use by process {}", engine.pid())), "{code}: {said}");
    assert_eq!(engine.number("SELECT sum(transactions) FROM payments_by_status").await, 20);
    let missing = "SELECT kind, records, minute_from <= TIMESTAMP '2025-01-01T12:05:00Z' AS from_there,
                   minute_to >= TIMESTAMP '2025-01-01T12:05:00Z' AS to_there, quarantined_as FROM damages";
    let rows = engine.query(missing).await;
    let [row] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&row["kind"], &row["records"]), (&"log".into(), &1.into()));
    assert_eq!((&row["from_there"], &row["to_there"]), (&true.into(), &true.into()), "{row}");
    assert!(setup.data().join(row["quarantined_as"].as_str().unwrap()).exists());
    assert!(engine.terminate().await.success());

    let (code, said) = doctor(&setup, &[]).await;
    assert!(code == 0 && said.contains("the checkpoint has what was there"), "{code}: {said}");
    let engine = setup.start().await;
    assert_eq!(engine.query(missing).await, rows);
    assert_eq!(engine.number("SELECT sum(transactions) FROM payments_by_status").await, 20);
}
