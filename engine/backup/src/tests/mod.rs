//! The tests of backups: what they share. A data folder of a log and a store, written as the engine writes them.

mod descriptors;
mod flaky;
mod round_trip;
mod targets;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tempfile::TempDir;
use tidewatch_log::{Encoded, FileSystem, Journal, JournalTopic, LogConfig, Record, StdFs, Writer};
use tidewatch_model::{EventTime, Lsn};
use tidewatch_store::{Folder, Manifest};

use crate::{BackupError, Descriptor, Making, Progress, Source, Target, back_up, restore, source};

const LOG_ID: u64 = 7;

/// A data folder, and a target beside it.
struct Site {
    root: TempDir,
    log: Writer,
    store: Folder,
}

impl Site {
    /// Records 1 to 20 in the log, the first ten in a checkpoint.
    fn new() -> Self {
        Self::of_log(LOG_ID)
    }

    fn of_log(log_id: u64) -> Self {
        let root = tempfile::tempdir().unwrap();
        let data = root.path().join("data");
        let config = LogConfig { segment_bytes: 300, ..LogConfig::new(log_id) };
        let (log, _) = Writer::open(disk(), &data.join(source::LOG), &config).unwrap();
        let (store, _) = Folder::open(disk(), &data.join(source::STORE)).unwrap();
        disk().create_private(&data.join(source::ID_KEY)).unwrap().write_all(&[9; 32]).unwrap();
        let mut site = Self { root, log, store };
        site.append(10);
        site.checkpoint();
        site.append(10);
        site
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    fn target_folder(&self) -> PathBuf {
        self.root.path().join("backups here")
    }

    fn target(&self) -> Target {
        Target::make(self.target_folder().to_str().unwrap()).unwrap()
    }

    fn append(&mut self, records: u64) {
        for _ in 0..records {
            let json = format!("{{\"after\":{}}}", self.log.durable()).into_bytes();
            let record = Record::Journal(Journal { topic: JournalTopic::Alerts, json });
            self.log.append(&Encoded::new(&record).unwrap()).unwrap();
            self.log.commit(&|| Duration::ZERO).unwrap();
        }
    }

    /// Of all records, with a state and ids.
    fn checkpoint(&mut self) {
        let applied = self.log.durable();
        let mut next = Manifest { log_id: LOG_ID, applied, ..Manifest::clone(&self.store.manifest()) };
        next.state = Some(self.store.write_blob("state", format!("after {applied}").as_bytes()).unwrap());
        self.store.commit(next).unwrap();
    }

    /// What the engine backs up while it runs.
    fn source(&self) -> Source {
        let (disk, pin) = (disk(), self.store.pins().pin());
        let log_id = if pin.applied > Lsn(0) { pin.log_id } else { LOG_ID };
        Source { disk, data_dir: self.data(), pin, log_id, last: self.log.durable() }
    }

    async fn back_up(&self, target: &Target, seconds: i64) -> Result<(Descriptor, Progress), BackupError> {
        back_up(self.source(), target, at(seconds), |_| {}).await
    }
}

fn disk() -> Arc<dyn FileSystem> {
    Arc::new(StdFs)
}

fn at(seconds: i64) -> Making {
    let at = EventTime::from_micros(1_752_321_600_000_000 + seconds * 1_000_000);
    Making { at, engine: "0.1.0".to_owned() }
}

/// Every file below a folder.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

async fn restored(target: &Target, descriptor: &Descriptor, folder: &Path) -> Result<(), BackupError> {
    std::fs::create_dir_all(folder).unwrap();
    restore(descriptor, target, &StdFs, folder, |_| {}).await
}
