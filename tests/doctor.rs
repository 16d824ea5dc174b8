//! The doctor over the disk of a small engine: it finds every flipped byte, changes nothing unless told to, and what it
//! repairs is sound afterwards and serves every number as before.

use std::{path::Path, sync::Arc, time::Duration};

use tidewatch::{
    doctor::{Action, Examination, Remedy, examine, repair},
    quarantine::Quarantine,
};
use tidewatch_log::{Contained, Encoded, FileSystem, Journal, JournalTopic, LogConfig, MemFs, Record, Writer};
use tidewatch_model::{EventTime, Lsn, ManualClock};

use crate::flips::{LOG, STORE, plan, small_engine, started, with};

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
