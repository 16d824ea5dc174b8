//! Group commit: order, one sync for many, answers only after it, exactly one answer each.

use std::sync::{Mutex, mpsc};

use super::*;
use crate::{Commit, Durability, Log, Observer, StdFs, Unobserved, fs::Fault};

#[derive(Default)]
struct Commits(Mutex<Vec<Commit>>);

impl Observer for Commits {
    fn committed(&self, commit: &Commit) {
        self.0.lock().unwrap().push(*commit);
    }
}

fn writer(fs: &MemFs, durability: Durability) -> Writer {
    Writer::open(Arc::new(fs.clone()), dir(), &LogConfig { durability, ..config() }).unwrap().0
}

/// Appends and collects the answers, in the order in which they are given.
fn append(log: &Log, numbers: std::ops::RangeInclusive<u64>, answers: &Arc<Mutex<Vec<Result<u64, String>>>>) {
    for number in numbers {
        let answers = Arc::clone(answers);
        let then = move |answer: Result<Lsn, LogError>| {
            answers.lock().unwrap().push(answer.map(|lsn| lsn.0).map_err(|error| error.to_string()));
        };
        log.append(encoded(&note(number)), Box::new(then));
    }
}

#[test]
fn one_sync_answers_all_that_waited_in_order() {
    let (fs, commits, answers) = (MemFs::new(), Arc::new(Commits::default()), Arc::default());
    let log = Log::stepped(writer(&fs, Durability::Fsync), commits.clone());
    append(&log, 1..=9, &answers);
    assert!(answers.lock().unwrap().is_empty(), "nobody is answered before the commit");
    let before = fs.operations();
    assert!(log.step());
    assert_eq!(fs.operations() - before, 2, "one write and one sync");
    assert_eq!(*answers.lock().unwrap(), (1..=9).map(Ok).collect::<Vec<_>>());
    let commit = commits.0.lock().unwrap()[0];
    assert_eq!((commit.records, commit.synced), (9, true));
    assert!(!log.step());
    fs.crash();
    assert_eq!(contents(&fs).unwrap().len(), 9);
}

#[test]
fn what_is_answered_survives_what_its_level_says() {
    for (durability, in_a_crash) in [(Durability::Fsync, 3), (Durability::Os, 0), (Durability::Memory, 0)] {
        let (fs, answers) = (MemFs::new(), Arc::default());
        let log = Log::stepped(writer(&fs, durability), Arc::new(Unobserved));
        append(&log, 1..=3, &answers);
        log.step();
        assert_eq!(answers.lock().unwrap().len(), 3);
        fs.crash();
        assert_eq!(contents(&fs).unwrap().len(), in_a_crash, "{durability:?}");
    }
    assert_eq!(serde_json::from_str::<Durability>("\"os\"").unwrap(), Durability::Os);
    assert_eq!(Durability::default(), Durability::Fsync);
}

#[test]
fn a_failed_sync_answers_everybody_with_an_error() {
    let (fs, answers) = (MemFs::new(), Arc::default());
    let log = Log::stepped(writer(&fs, Durability::Fsync), Arc::new(Unobserved));
    append(&log, 1..=3, &answers);
    fs.fail(2, Fault::Device);
    log.step();
    append(&log, 4..=4, &answers);
    log.step();
    let answers = answers.lock().unwrap();
    assert_eq!(answers.len(), 4);
    assert!(answers.iter().all(|answer| answer.as_ref().is_err_and(|error| error.contains("restart"))), "{answers:?}");
}

#[test]
fn memory_promises_before_it_writes_and_so_stops_on_a_full_disk() {
    let (fs, answers) = (MemFs::new(), Arc::default());
    let log = Log::stepped(writer(&fs, Durability::Memory), Arc::new(Unobserved));
    append(&log, 1..=1, &answers);
    fs.fail(1, Fault::Full);
    log.step();
    append(&log, 2..=2, &answers);
    log.step();
    let answers = answers.lock().unwrap();
    assert!(matches!(&answers[..], [Ok(1), Err(_)]), "{answers:?}");
}

#[test]
fn threads_that_append_at_once_are_each_answered_once_and_in_order() {
    let (fs, answers) = (MemFs::new(), Arc::default());
    let log = Log::start(writer(&fs, Durability::Fsync), Arc::new(Unobserved)).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let (log, answers) = (&log, Arc::clone(&answers));
            scope.spawn(move || append(log, thread * 1_000..=thread * 1_000 + 999, &answers));
        }
    });
    log.close().unwrap();
    assert_eq!(*answers.lock().unwrap(), (1..=4_000).map(Ok).collect::<Vec<_>>());
    fs.crash();
    assert_eq!(contents(&fs).unwrap().len(), 4_000);
    append(&log, 1..=1, &answers);
    assert!(answers.lock().unwrap().last().unwrap().is_err(), "a closed log says so");
}

#[test]
fn a_sync_covers_what_was_appended_before_it_at_every_level() {
    for durability in [Durability::Fsync, Durability::Os, Durability::Memory] {
        let (fs, answers) = (MemFs::new(), Arc::default());
        let log = Log::start(writer(&fs, durability), Arc::new(Unobserved)).unwrap();
        append(&log, 1..=500, &answers);
        log.sync().unwrap();
        fs.crash();
        assert_eq!(contents(&fs).unwrap().len(), 500, "{durability:?}");
        // The disk forgot what the log knows, so how it ends proves nothing.
        let _ = log.close();
        assert!(matches!(log.sync(), Err(LogError::Closed)));
    }
}

#[test]
fn a_panicking_callback_stops_the_log_and_leaves_nobody_waiting() {
    let (fs, answers) = (MemFs::new(), Arc::default());
    let log = Log::start(writer(&fs, Durability::Fsync), Arc::new(Unobserved)).unwrap();
    let (send, held) = mpsc::channel::<()>();
    // The first callback holds the thread until more wait behind it.
    log.append(encoded(&note(1)), Box::new(move |_| held.recv().unwrap_or(())));
    log.append(encoded(&note(2)), Box::new(|_| panic!("planned by the test")));
    append(&log, 3..=5, &answers);
    drop(send);
    assert!(log.close().is_err());
    assert_eq!(answers.lock().unwrap().len(), 3);
}

#[test]
fn the_real_disk_does_the_same() {
    let folder = std::env::temp_dir().join(format!("tidewatch-log-{}", std::process::id()));
    let open = || Writer::open(Arc::new(StdFs), &folder, &config()).unwrap();
    let answers = Arc::default();
    let log = Log::start(open().0, Arc::new(Unobserved)).unwrap();
    append(&log, 1..=200, &answers);
    log.forget_before(Lsn(2));
    log.close().unwrap();
    let (writer, found) = open();
    assert_eq!((found.last(), found.cut.clone()), (Lsn(200), None));
    drop(writer);
    let read: Vec<_> =
        Reader::open(Arc::new(StdFs), &folder, LOG_ID, (Lsn(7), Lsn(200)), schemas()).unwrap().flatten().collect();
    assert_eq!(read.len(), 194);
    assert_eq!(read[0], (Lsn(7), note(7)));
    std::fs::remove_dir_all(&folder).unwrap();
}
