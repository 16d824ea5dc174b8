//! Crashes at any operation and any byte: what was committed is there, and nothing is invented.

use super::*;
use crate::fs::{FailingFs, Fate, Fault};

/// Appends in commits of one to three records, until something fails. Returns how many records were
/// acknowledged and how many were ever appended.
fn write_some(fs: &MemFs, commits: u64) -> (u64, u64) {
    let Ok((mut writer, found)) = open(fs) else { return (0, 0) };
    let mut acknowledged = found.last().0;
    let mut appended = acknowledged;
    for commit in 0..commits {
        for _ in 0..commit % 3 + 1 {
            appended += 1;
            if writer.append(&encoded(&note(appended))).is_err() {
                return (acknowledged, appended);
            }
        }
        if writer.commit(&no_clock).is_err() {
            return (acknowledged, appended);
        }
        acknowledged = appended;
    }
    (acknowledged, appended)
}

/// The log holds records 1, 2, 3 … up to something between the two numbers.
fn check(fs: &MemFs, acknowledged: u64, appended: u64, case: &str) {
    let records = contents(fs).unwrap_or_else(|error| panic!("{case}: {error}"));
    let count = records.len() as u64;
    assert!((acknowledged..=appended).contains(&count), "{case}: {acknowledged} ≤ {count} ≤ {appended}");
    for (number, (lsn, record)) in (1..).zip(records) {
        assert_eq!((lsn, record), (Lsn(number), note(number)), "{case}");
    }
}

#[test]
fn a_crash_at_any_operation_keeps_what_was_acknowledged() {
    let whole = MemFs::new();
    write_some(&whole, 40);
    assert!(segment_files(&whole).len() > 2, "the test wants several segments");
    let mut rng = rng();
    for operation in 1..=whole.operations() + 1 {
        for fate in
            [Fate::Kept(0), Fate::Kept(usize::MAX), Fate::Kept(rng.random_range(0..200)), Fate::Blocks(rng.random())]
        {
            let case = format!("halted at operation {operation}, then {fate:?}");
            let fs = MemFs::new();
            fs.fail(operation, Fault::Halt);
            let (acknowledged, appended) = write_some(&fs, 40);
            fs.crash_with(|_, _| fate);
            check(&fs, acknowledged, appended, &case);
            // And the log goes on, through a second crash.
            let (acknowledged, appended) = write_some(&fs, 3);
            fs.crash();
            // Numbers that were taken back are given again, so `note` tells the same as before.
            check(&fs, acknowledged, appended, &case);
        }
    }
}

#[test]
fn a_crash_in_recovery_is_recovered_from() {
    for operation in 1..8 {
        let fs = MemFs::new();
        fs.fail(40, Fault::Halt);
        let (acknowledged, appended) = write_some(&fs, 40);
        fs.crash_with(|_, unsynced| Fate::Kept(unsynced / 2));
        fs.fail(operation, Fault::Halt);
        let _ = open(&fs);
        fs.crash_with(|_, unsynced| Fate::Kept(unsynced / 2));
        check(&fs, acknowledged, appended, &format!("operation {operation}"));
    }
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_reported() {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    for number in 1..=4 {
        writer.append(&encoded(&note(number))).unwrap();
        if number == 2 {
            writer.commit(&no_clock).unwrap();
        }
    }
    let path = dir().join(&segment_files(&fs)[0]);
    let kept = fs.bytes(&path).unwrap().len();
    writer.commit(&no_clock).unwrap();
    let bytes = fs.bytes(&path).unwrap();
    let frame = (bytes.len() - kept) / 2;
    for length in kept..bytes.len() {
        let torn = MemFs::new();
        torn.create_dir(dir()).unwrap();
        torn.put(&path, bytes[..length].to_vec());
        let (_, found) = open(&torn).unwrap();
        let whole = (length - kept) / frame;
        assert_eq!(found.last(), Lsn(2 + whole as u64), "at {length}");
        let left_over = (length - kept) % frame;
        assert_eq!(found.cut.map_or(0, |cut| cut.bytes), left_over as u64, "at {length}");
        assert_eq!(torn.bytes(&path).unwrap().len(), length - left_over);
    }
}

#[test]
fn blocks_written_out_of_order_are_a_torn_tail() {
    // Several frames in one commit, of which the first ones are lost and the last is whole.
    for written in [0b1000_u64, 0b1110, 0b0101, 0b1011] {
        let fs = MemFs::new();
        let (acknowledged, _) = write_some(&fs, 1);
        let (mut writer, _) = open(&fs).unwrap();
        for number in 2..60 {
            writer.append(&encoded(&note(number))).unwrap();
        }
        let sync = 2;
        fs.fail(sync, Fault::Halt);
        assert!(writer.commit(&no_clock).is_err());
        fs.crash_with(|_, _| Fate::Blocks(written));
        check(&fs, acknowledged, 59, &format!("{written:b}"));
    }
}

#[test]
fn a_full_disk_is_refused_and_then_taken() {
    for fault in [Fault::Full, Fault::FullAfter(1), Fault::FullAfter(50), Fault::Device] {
        let fs = MemFs::new();
        let (mut writer, _) = open(&fs).unwrap();
        writer.append(&encoded(&note(1))).unwrap();
        writer.commit(&no_clock).unwrap();
        for number in [2, 3] {
            writer.append(&encoded(&note(number + 100))).unwrap();
        }
        fs.fail(1, fault);
        let error = writer.commit(&no_clock).unwrap_err();
        assert!(error.is_retryable(), "{fault:?}: {error}");
        assert_eq!(writer.append(&encoded(&note(2))).unwrap(), Lsn(2));
        writer.commit(&no_clock).unwrap();
        fs.crash_with(|_, _| Fate::Kept(usize::MAX));
        check(&fs, 2, 2, &format!("{fault:?}"));
    }
}

#[test]
fn a_segment_that_cannot_be_made_is_refused_and_then_made() {
    // Made and written; a sync that fails is another matter.
    for operation in 1..=2 {
        let fs = MemFs::new();
        let (mut writer, _) =
            Writer::open(Arc::new(fs.clone()), dir(), &LogConfig { segment_bytes: 1, ..config() }).unwrap();
        for number in 1..=2 {
            writer.append(&encoded(&note(number))).unwrap();
            if number == 2 {
                fs.fail(operation, Fault::Full);
                assert!(writer.commit(&no_clock).unwrap_err().is_retryable(), "operation {operation}");
                writer.append(&encoded(&note(number))).unwrap();
            }
            writer.commit(&no_clock).unwrap();
        }
        fs.crash();
        check(&fs, 2, 2, &format!("operation {operation}"));
    }
}

#[test]
fn a_failed_sync_poisons_the_log_until_a_restart() {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    writer.append(&encoded(&note(1))).unwrap();
    writer.commit(&no_clock).unwrap();
    writer.append(&encoded(&note(2))).unwrap();
    fs.fail(2, Fault::Device);
    assert!(matches!(writer.commit(&no_clock), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.append(&encoded(&note(2))), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.commit(&no_clock), Err(LogError::Poisoned { .. })));
    assert!(matches!(writer.sync(), Err(LogError::Poisoned { .. })));
    fs.crash();
    check(&fs, 1, 2, "after a failed sync");
}

#[test]
fn what_a_failed_sync_dropped_is_not_taken_for_durable_after_a_restart() {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    writer.append(&encoded(&note(1))).unwrap();
    writer.commit(&no_clock).unwrap();
    writer.append(&encoded(&note(2))).unwrap();
    fs.fail(2, Fault::Device);
    assert!(matches!(writer.commit(&no_clock), Err(LogError::Poisoned { .. })));
    // The process is restarted; the system goes on showing the record that the disk does not have.
    fs.kill();
    let (mut writer, found) = open(&fs).unwrap();
    assert_eq!(found.last(), Lsn(1));
    writer.append(&encoded(&note(2))).unwrap();
    writer.commit(&no_clock).unwrap();
    fs.crash();
    check(&fs, 2, 2, "after a failed sync, a restart and a power cut");
}

#[test]
fn a_failed_sync_of_a_new_segment_or_of_the_folder_poisons_as_well() {
    // A new segment is made, written, synced, and so is its name; removing one syncs the folder.
    for operation in [3, 4, 6] {
        let fs = MemFs::new();
        let config = LogConfig { segment_bytes: 1, ..config() };
        let (mut writer, _) = Writer::open(Arc::new(fs.clone()), dir(), &config).unwrap();
        writer.append(&encoded(&note(1))).unwrap();
        writer.commit(&no_clock).unwrap();
        writer.append(&encoded(&note(2))).unwrap();
        let failed = if operation == 6 {
            writer.commit(&no_clock).unwrap();
            fs.fail(2, Fault::Device);
            writer.forget_before(Lsn(2)).unwrap_err()
        } else {
            fs.fail(operation, Fault::Device);
            writer.commit(&no_clock).unwrap_err()
        };
        assert!(matches!(failed, LogError::Poisoned { .. }), "{operation}: {failed}");
        assert!(matches!(writer.append(&encoded(&note(3))), Err(LogError::Poisoned { .. })), "{operation}");
    }
}

#[test]
fn what_cannot_be_taken_back_is_taken_back_before_anything_else_is_written() {
    let (fs, told) = (MemFs::new(), Arc::new(std::sync::Mutex::new("")));
    let command = Arc::clone(&told);
    let failing = FailingFs::over(Arc::new(fs.clone()), Arc::new(move || command.lock().unwrap().to_string()));
    let tell = |text| *told.lock().unwrap() = text;
    for fault in ["write ENOSPC\nchange EIO", "all EROFS", "write EIO\nchange EROFS"] {
        fs.crash();
        let (mut writer, found) = Writer::open(Arc::new(failing.clone()), dir(), &config()).unwrap();
        let last = found.last().0;
        writer.append(&encoded(&note(last + 1))).unwrap();
        writer.commit(&no_clock).unwrap();
        tell(fault);
        for number in [100, 200] {
            writer.append(&encoded(&note(number))).unwrap();
            writer.append(&encoded(&note(number + 1))).unwrap();
            let error = writer.commit(&no_clock).unwrap_err();
            assert!(error.is_retryable(), "{fault}: {error}");
            assert_eq!(matches!(error, LogError::NotTakenBack { .. }), number == 100, "{fault}: {error}");
        }
        tell("");
        assert_eq!(writer.append(&encoded(&note(last + 2))).unwrap(), Lsn(last + 2));
        writer.commit(&no_clock).unwrap();
        fs.crash_with(|_, _| Fate::Kept(usize::MAX));
        check(&fs, last + 2, last + 2, fault);
    }
}

#[test]
fn too_many_open_files_are_refused_and_never_taken_for_a_failed_sync() {
    let (fs, told) = (MemFs::new(), Arc::new(std::sync::Mutex::new("")));
    let command = Arc::clone(&told);
    let failing = FailingFs::over(Arc::new(fs.clone()), Arc::new(move || command.lock().unwrap().to_string()));
    let config = LogConfig { segment_bytes: 1, ..config() };
    let (mut writer, _) = Writer::open(Arc::new(failing), dir(), &config).unwrap();
    let mut number = 0;
    // The first meets the making of a file, the second the syncing of the folder.
    for fault in ["", "open EMFILE", "open EMFILE 2"] {
        number += 1;
        *told.lock().unwrap() = fault;
        writer.append(&encoded(&note(number))).unwrap();
        if !fault.is_empty() {
            let error = writer.commit(&no_clock).unwrap_err();
            assert!(matches!(error, LogError::Refused { .. }), "{fault}: {error}");
            *told.lock().unwrap() = "";
            assert_eq!(writer.append(&encoded(&note(number))).unwrap(), Lsn(number));
        }
        writer.commit(&no_clock).unwrap();
    }
    *told.lock().unwrap() = "open EMFILE";
    let error = writer.forget_before(Lsn(3)).unwrap_err();
    assert!(!matches!(error, LogError::Poisoned { .. }), "{error}");
    *told.lock().unwrap() = "";
    assert_eq!(writer.forget_before(Lsn(3)).unwrap(), 2);
    fs.crash();
    let (_, found) = Writer::open(Arc::new(fs), dir(), &config).unwrap();
    assert_eq!((found.first, found.next), (Lsn(3), Lsn(4)));
}
