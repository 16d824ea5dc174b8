//! Crashes at any operation, of the machine and of the process alone: the old manifest or the new one, whole.

use tidewatch_log::fs::{Fate, Fault};

use super::*;

const STEPS: u64 = 5;

/// Checkpoints up to `STEPS`, until something fails. Returns the last that was acknowledged, and the last that was begun.
fn go_on(fs: &MemFs) -> (u64, u64) {
    let Ok((mut folder, found)) = open(fs) else { return (0, 0) };
    let mut done = found.map_or(0, |manifest| manifest.applied.0);
    while done < STEPS {
        if checkpoint(&mut folder, done + 1).is_err() {
            return (done, done + 1);
        }
        done += 1;
    }
    (done, done)
}

fn check(fs: &MemFs, (done, begun): (u64, u64), case: &str) -> u64 {
    let (folder, found) = open(fs).unwrap_or_else(|error| panic!("{case}: {error}"));
    let step = found.map_or(0, |manifest| manifest.applied.0);
    assert!((done..=begun).contains(&step), "{case}: {done} ≤ {step} ≤ {begun}");
    assert_eq!(check_content(&folder, fs, case), step, "{case}");
    step
}

fn operations() -> u64 {
    let whole = MemFs::new();
    assert_eq!(go_on(&whole), (STEPS, STEPS));
    whole.operations()
}

fn fates() -> [Fate; 4] {
    [Fate::Kept(0), Fate::Kept(usize::MAX), Fate::Kept(40), Fate::Blocks(0b0101_0110)]
}

#[test]
fn a_crash_at_any_operation_leaves_one_checkpoint_whole() {
    for operation in 1..=operations() + 1 {
        for fate in fates() {
            let case = format!("halted at operation {operation}, then {fate:?}");
            let fs = MemFs::new();
            fs.fail(operation, Fault::Halt);
            let reached = go_on(&fs);
            fs.crash_with(|_, _| fate);
            check(&fs, reached, &case);
            // And it goes on from there, through a second crash.
            assert_eq!(go_on(&fs), (STEPS, STEPS), "{case}");
            fs.crash();
            check(&fs, (STEPS, STEPS), &case);
        }
    }
}

#[test]
fn a_crash_while_opening_is_opened_after() {
    for operation in 1..=operations() {
        for second in 1..8 {
            let case = format!("halted at operation {operation}, and at {second} of opening");
            let fs = MemFs::new();
            fs.fail(operation, Fault::Halt);
            let reached = go_on(&fs);
            fs.crash_with(|_, unsynced| Fate::Kept(unsynced / 2));
            fs.fail(second, Fault::Halt);
            let _ = open(&fs);
            fs.crash();
            check(&fs, reached, &case);
        }
    }
}

#[test]
fn what_a_killed_process_left_is_seen_and_then_survives_the_machine() {
    for operation in 1..=operations() {
        // The device fails once, and then the process is gone; the page cache is not.
        let case = format!("operation {operation}");
        let fs = MemFs::new();
        fs.fail(operation, Fault::Device);
        let reached = go_on(&fs);
        let seen = check(&fs, reached, &case);
        fs.crash();
        assert_eq!(check(&fs, reached, &case), seen, "{case}: what was read once stays");
    }
}

#[test]
fn a_full_disk_leaves_the_old_checkpoint_and_then_takes_the_new() {
    for fault in [Fault::Full, Fault::FullAfter(1), Fault::FullAfter(60)] {
        let (mut refused, mut poisoned) = (0, 0);
        for operation in 1.. {
            let case = format!("{fault:?} at operation {operation}");
            let fs = MemFs::new();
            let (mut folder, _) = open(&fs).unwrap();
            (1..=3).for_each(|step| checkpoint(&mut folder, step).unwrap());
            let (before, names) = (fs.operations(), files(&fs));
            fs.fail(operation, fault);
            match checkpoint(&mut folder, 4) {
                Ok(()) if fs.operations() - before < operation => break,
                // Only a removal failed: the next sweep does it.
                Ok(()) => folder.sweep(),
                Err(error @ FolderError::Io { .. }) => {
                    refused += 1;
                    assert!(error.is_retryable(), "{case}: {error}");
                    assert_eq!(files(&fs), names, "{case}: what was written is removed");
                    assert_eq!(check_content(&folder, &fs, &case), 3, "{case}");
                    checkpoint(&mut folder, 4).unwrap_or_else(|error| panic!("{case}: {error}"));
                }
                Err(error) => {
                    poisoned += 1;
                    check_poisoned(&mut folder, error, &case);
                    drop(folder);
                    fs.crash();
                    check(&fs, (3, 4), &case);
                    continue;
                }
            }
            assert_eq!(check_content(&folder, &fs, &case), 4, "{case}");
            fs.crash();
            check(&fs, (4, 4), &case);
        }
        // Five files and the manifest: each is made, written and synced; the folder is synced twice; one rename.
        assert_eq!((refused, poisoned), (13, 8), "{fault:?}");
    }
}

fn check_poisoned(folder: &mut Folder, error: FolderError, case: &str) {
    assert!(matches!(error, FolderError::Poisoned { .. }), "{case}: {error}");
    assert!(!error.is_retryable() && error.to_string().contains("restart"), "{case}: {error}");
    for _ in 0..2 {
        assert!(matches!(checkpoint(folder, 4), Err(FolderError::Poisoned { .. })), "{case}");
    }
    let manifest = Manifest::clone(&folder.manifest());
    assert!(matches!(folder.commit(manifest), Err(FolderError::Poisoned { .. })), "{case}");
    assert!(matches!(folder.write_blob("state", b"x"), Err(FolderError::Poisoned { .. })), "{case}");
    // Reading goes on.
    let manifest = folder.manifest();
    folder.read_blob(manifest.state.as_ref().unwrap()).unwrap();
}

#[test]
fn a_failed_sync_stops_the_store_until_a_restart() {
    let mut poisoned = 0;
    for operation in 1..=24 {
        let case = format!("operation {operation}");
        let fs = MemFs::new();
        let (mut folder, _) = open(&fs).unwrap();
        checkpoint(&mut folder, 1).unwrap();
        fs.fail(operation, Fault::Device);
        match checkpoint(&mut folder, 2) {
            Err(error @ FolderError::Poisoned { .. }) => {
                poisoned += 1;
                check_poisoned(&mut folder, error, &case);
                folder.discard();
                folder.sweep();
                // Whether the process ends or the machine does.
                check(&fs, (1, 2), &case);
                fs.crash();
                let step = check(&fs, (1, 2), &case);
                assert_eq!(go_on(&fs), (STEPS, STEPS), "{case}: from step {step}");
            }
            Err(error) => assert!(error.is_retryable(), "{case}: {error}"),
            Ok(()) => {}
        }
    }
    // Six files and two times the folder, and a rename of which nobody knows whether it happened.
    assert_eq!(poisoned, 9);
}
