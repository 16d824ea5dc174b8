//! Backups by the real binary: of a running engine under load, of one that is killed in the middle, of a folder that nobody
//! uses. What is restored elsewhere and started holds exactly the records that the backup says it has.
//!
//! `TIDEWATCH_ROUNDS` sets how often the engine is killed, `TIDEWATCH_SEED` repeats a run's choices.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Output,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction};
use tokio::task::JoinHandle;

use crate::{
    kills::{OFTEN, everything, held, rounds},
    support::{Engine, Folder, Setup, now, output, seed, soon, tidewatch, until},
};

const BATCH: u64 = 20;

/// Nothing is forgotten of the raw events, so that each can be asked for.
fn settings() -> String {
    format!("{OFTEN}raw_bytes_max = \"2GiB\"\n[query]\nrows_max = 10000000\n")
}

/// Events that come until they are told to stop.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    /// Which record each acknowledged batch is.
    sent: JoinHandle<BTreeMap<u64, String>>,
}

impl Load {
    async fn begin(engine: &Engine, name: &str) -> Self {
        let (stop, acknowledged) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (told, count, name) = (Arc::clone(&stop), Arc::clone(&acknowledged), name.to_owned());
        let mut client = engine.ingest().await;
        let start = now().micros() - 30 * 60_000_000;
        let sent = tokio::spawn(async move {
            let mut sent = BTreeMap::new();
            while !told.load(Ordering::Acquire) {
                let number = sent.len() as u64;
                let account = format!("{name}-{number}");
                let event = |at: u64| Transaction {
                    event_id: Some(format!("{account}-{at}")),
                    occurred_at: start + (number * 500_000) as i64,
                    status: ["approved", "denied"][(at % 2) as usize].to_owned(),
                    account_id: Some(account.clone()),
                    amount_minor: Some((number + at) as i64),
                    currency: Some("EUR".to_owned()),
                    ..Transaction::default()
                };
                let transactions = (0..BATCH).map(event).collect();
                let request = SubmitRequest { batch_id: number, transactions, ..SubmitRequest::default() };
                match client.submit(request).await {
                    Ok(answer) => sent.insert(answer.into_inner().lsn, account),
                    // The engine was killed.
                    Err(_) => break,
                };
                count.fetch_add(1, Ordering::AcqRel);
            }
            sent
        });
        Self { stop, acknowledged, sent }
    }

    /// Waits for so many further batches.
    async fn more(&self, batches: u64) {
        let wanted = self.acknowledged.load(Ordering::Acquire) + batches;
        until("events to come in", async || (self.acknowledged.load(Ordering::Acquire) >= wanted).then_some(())).await;
    }

    async fn end(self) -> BTreeMap<u64, String> {
        self.stop.store(true, Ordering::Release);
        soon("the last event", self.sent).await.unwrap()
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

async fn back_up(data: &Path, target: &str) -> Output {
    let mut command = tidewatch(["backup", "--to", target, "--data-dir"]);
    command.arg(data);
    output(command).await
}

/// The name of the backup that was made, and its last record.
async fn backed_up(data: &Path, target: &str) -> (String, u64) {
    let made = back_up(data, target).await;
    assert!(made.status.success(), "{}", text(&made));
    let said = text(&made);
    let (id, rest) = said.split_once(": records up to ").unwrap();
    (id.to_owned(), rest.split_once(';').unwrap().0.parse().unwrap())
}

async fn restore(target: &str, id: &str, data: &Path) -> Output {
    let mut command = tidewatch(["restore", "--from", target, "--id", id, "--data-dir"]);
    command.arg(data);
    output(command).await
}

/// An engine on what a backup holds, in a folder of its own.
async fn restored(target: &str, id: &str) -> (Setup, Engine) {
    let setup = Setup::configured(&settings());
    let done = restore(target, id, &setup.data()).await;
    assert!(done.status.success(), "{}", text(&done));
    let engine = setup.start().await;
    (setup, engine)
}

/// The engine holds these batches, all of them whole, and nothing else.
async fn holds<'a>(engine: &Engine, batches: impl Iterator<Item = &'a String>) {
    let expected: BTreeMap<String, (u64, u64)> = batches.map(|batch| (batch.clone(), (BATCH, BATCH))).collect();
    assert_eq!(held(engine).await, expected);
    let events = i64::try_from(expected.len() as u64 * BATCH).unwrap();
    for view in ["payments", "payments_by_status"] {
        let counted = format!("SELECT coalesce(sum(transactions), 0) AS n FROM {view}");
        assert_eq!(engine.number(&counted).await, events, "{view}");
    }
}

/// A target for backups in a folder of the test's own.
fn target(folder: &Folder) -> String {
    folder.path().join("backups").display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_holds_what_was_acknowledged_up_to_its_last_record() {
    let (setup, kept) = (Setup::configured(&settings()), Folder::new());
    let target = target(&kept);
    let engine = setup.start().await;
    let load = Load::begin(&engine, "load").await;
    let mut backups = Vec::new();
    for _ in 0..4 {
        // Checkpoints and merges go on meanwhile.
        load.more(60).await;
        backups.push(backed_up(&setup.data(), &target).await);
    }
    load.more(60).await;
    let sent = load.end().await;
    for (id, last) in &backups {
        let (_setup, engine) = restored(&target, id).await;
        holds(&engine, sent.range(..=last).map(|(_, batch)| batch)).await;
    }
    assert!(backups.windows(2).all(|pair| pair[0].1 < pair[1].1), "{backups:?}");
    let listed = output(tidewatch(["backup", "--list", "--to", &target])).await;
    for (id, last) in &backups {
        assert!(text(&listed).contains(&format!("{id}  ")), "{}", text(&listed));
        assert!(text(&listed).contains(&format!("records up to {last};")), "{}", text(&listed));
    }
    // Nothing comes in any more: then every table is the same.
    let (id, _) = backed_up(&setup.data(), &target).await;
    let before = everything(&engine).await;
    let (_setup, copy) = restored(&target, "latest").await;
    let after = everything(&copy).await;
    for (table, rows) in &before {
        assert!(after[table] == *rows, "`{table}` of the backup {id} is not the source's");
    }
    // Each is an engine of its own from here on.
    let more = Load::begin(&copy, "more").await;
    more.more(5).await;
    let more = more.end().await;
    holds(&copy, sent.values().chain(more.values())).await;
    holds(&engine, sent.values()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_in_the_middle_leaves_whole_backups_or_none() {
    let seed = seed("kills while a backup is made");
    let mut rng = StdRng::seed_from_u64(seed);
    let (setup, kept) = (Setup::configured(&settings()), Folder::new());
    let target = target(&kept);
    let mut sent = BTreeMap::new();
    let (mut made, mut given_up) = (0, 0);
    for round in 0..rounds(12).min(100) {
        let engine = setup.start().await;
        let load = Load::begin(&engine, &format!("round-{round}")).await;
        load.more(30).await;
        let (data, to) = (setup.data(), target.clone());
        let backing_up = tokio::spawn(async move { back_up(&data, &to).await });
        let objects = kept.path().join("backups/objects/log");
        let before = std::fs::read_dir(&objects).map_or(0, Iterator::count);
        let mut within = 30;
        if rng.random_bool(0.7) {
            let sending = async || {
                let new = std::fs::read_dir(&objects).map_or(0, Iterator::count) > before;
                (new || backing_up.is_finished()).then_some(())
            };
            until("an object to be sent", sending).await;
            within = 6;
        }
        // Any moment will do, so there is nothing to wait for.
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..within))).await;
        engine.kill();
        let ended = soon("the command to notice", backing_up).await.unwrap();
        if ended.status.success() {
            made += 1
        } else {
            given_up += 1
        }
        sent.extend(load.end().await);
    }
    println!("{made} backups were made and {given_up} were cut off by a kill");
    let listed = text(&output(tidewatch(["backup", "--list", "--to", &target])).await);
    let mut whole = 0;
    for id in listed.lines().map(|line| line.split_once("  ").unwrap().0) {
        let (_setup, engine) = restored(&target, id).await;
        let held = held(&engine).await;
        assert!(held.values().all(|batch| *batch == (BATCH, BATCH)), "{id}");
        whole += 1;
    }
    assert!(whole >= made, "{whole} of {made}");
    // Nothing is in the way of the next, and it holds everything.
    let engine = setup.start().await;
    backed_up(&setup.data(), &target).await;
    let (_setup, copy) = restored(&target, "latest").await;
    assert_eq!(held(&copy).await, held(&engine).await);
    let held = held(&copy).await;
    assert!(sent.values().all(|batch| held.contains_key(batch)), "what was acknowledged is in the backup");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_nobody_uses_is_backed_up_by_the_command_itself() {
    let (setup, kept) = (Setup::configured(&settings()), Folder::new());
    let target = target(&kept);
    let nothing = back_up(&setup.data(), &target).await;
    assert_eq!(nothing.status.code(), Some(1));
    assert!(text(&nothing).contains("there is no data in"), "{}", text(&nothing));
    assert!(!setup.data().exists(), "asking for a backup makes no data folder");
    let engine = setup.start().await;
    let load = Load::begin(&engine, "load").await;
    load.more(40).await;
    let sent = load.end().await;
    let before = everything(&engine).await;
    engine.kill();
    let (id, last) = backed_up(&setup.data(), &target).await;
    assert!(last >= *sent.keys().next_back().unwrap());
    let (other, copy) = restored(&target, &id).await;
    assert_eq!(everything(&copy).await, before);
    // Also from a place that is written as a URL, and once more from the same data.
    assert!(copy.terminate().await.success());
    let url = reqwest::Url::from_file_path(&target).unwrap().to_string();
    let again = backed_up(&other.data(), &url).await;
    assert!(again.1 >= last);
    let occupied = restore(&target, &id, &setup.data()).await;
    assert_eq!(occupied.status.code(), Some(1));
    assert!(text(&occupied).contains("is not empty"), "{}", text(&occupied));
    let unknown = restore(&target, "yesterday", &kept.path().join("nowhere")).await;
    assert!(text(&unknown).contains("there is no backup `yesterday` at"), "{}", text(&unknown));
    assert!(!kept.path().join("nowhere").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_object_is_named_and_nothing_starts_on_a_part() {
    let (setup, kept) = (Setup::configured(&settings()), Folder::new());
    let target = target(&kept);
    let engine = setup.start().await;
    let load = Load::begin(&engine, "load").await;
    load.more(20).await;
    load.end().await;
    let (id, _) = backed_up(&setup.data(), &target).await;
    let log = kept.path().join("backups/objects/log");
    let object = std::fs::read_dir(&log).unwrap().next().unwrap().unwrap().path();
    let mut bytes = std::fs::read(&object).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&object, bytes).unwrap();
    let other = Setup::configured(&settings());
    let refused = restore(&target, &id, &other.data()).await;
    assert_eq!(refused.status.code(), Some(1));
    let name = object.file_name().unwrap().to_str().unwrap();
    assert!(text(&refused).contains(name) && text(&refused).contains("checksum"), "{}", text(&refused));
    let (code, said) = other.refused(&[]).await;
    assert!(code == 1 && said.contains("was not finished, so what is there is only a part"), "{code}: {said}");
    // A target that cannot be written gives a clear error, and no backup.
    std::fs::remove_dir_all(kept.path().join("backups/backups")).unwrap();
    std::fs::write(kept.path().join("backups/backups"), "in the way").unwrap();
    let failed = back_up(&setup.data(), &target).await;
    assert!(!failed.status.success() && text(&failed).contains("could not"), "{}", text(&failed));
    let wrong = back_up(&setup.data(), "ftp://host/folder").await;
    assert!(text(&wrong).contains("`ftp://host/folder` is no place for backups"), "{}", text(&wrong));
}
