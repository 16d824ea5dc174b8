//! Forgetting what a checkpoint has: whole segments go, oldest first, and a crash at any point leaves a log without a gap.

use super::*;
use crate::{
    Log, Unobserved,
    fs::{Fate, Fault},
};

const RECORDS: u64 = 100;

/// The log holds the records from its first to `last`; what is at or behind `before` was not forgotten.
fn check(fs: &MemFs, before: u64, last: u64, case: &str) -> Lsn {
    let (_, found) = open(fs).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert!(found.first <= Lsn(before), "{case}: {found:?}");
    let records = contents(fs).unwrap_or_else(|error| panic!("{case}: {error}"));
    let expected: Vec<_> = (found.first.0..=last).map(|number| (Lsn(number), note(number))).collect();
    assert_eq!(records, expected, "{case}");
    found.first
}

#[test]
fn a_crash_while_forgetting_leaves_a_log_that_opens() {
    for before in [1, 2, 17, RECORDS, RECORDS + 1, u64::MAX] {
        for operation in 1.. {
            let case = format!("before {before}, halted at operation {operation}");
            let (fs, mut writer) = written(RECORDS, 4);
            let done = fs.operations();
            fs.fail(operation, Fault::Halt);
            let forgotten = writer.forget_before(Lsn(before));
            let whole = fs.operations() - done < operation;
            assert_eq!(forgotten.is_ok(), whole, "{case}");
            fs.crash_with(|_, _| Fate::Kept(usize::MAX));
            check(&fs, before, RECORDS, &case);
            if whole {
                break;
            }
        }
    }
}

#[test]
fn what_failed_to_go_goes_the_next_time() {
    for fault in [Fault::Full, Fault::Device] {
        // Removals; behind each, the folder is synced, and should that fail the log stops.
        for operation in [1, 3] {
            let case = format!("{fault:?} at operation {operation}");
            let (fs, mut writer) = written(RECORDS, 4);
            fs.fail(operation, fault);
            assert!(writer.forget_before(Lsn(RECORDS)).is_err(), "{case}");
            check(&fs, RECORDS, RECORDS, &case);
            writer.forget_before(Lsn(RECORDS)).unwrap();
            writer.append(&encoded(&note(RECORDS + 1))).unwrap();
            writer.commit(&no_clock).unwrap();
            fs.crash();
            let first = check(&fs, RECORDS, RECORDS + 1, &case);
            assert!(first > Lsn(RECORDS / 2), "{case}: {first}");
        }
    }
}

#[test]
fn the_open_segment_stays_and_numbers_go_on() {
    let (fs, writer) = written(RECORDS, 4);
    let log = Log::stepped(writer, Arc::new(Unobserved));
    log.forget_before(Lsn(u64::MAX));
    assert!(log.step());
    assert_eq!(segment_files(&fs).len(), 1);
    let (send, answer) = std::sync::mpsc::channel();
    log.append(encoded(&note(RECORDS + 1)), Box::new(move |lsn| send.send(lsn.unwrap()).unwrap()));
    assert!(log.step());
    assert_eq!(answer.recv().unwrap(), Lsn(RECORDS + 1));
    drop(log);
    fs.crash();
    check(&fs, RECORDS, RECORDS + 1, "after forgetting all");
}
