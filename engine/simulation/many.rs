//! Many cases on several threads, each case in one of them.

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Coverage, Failure, run};
use crate::planted::Planted;

/// Runs the seeds until one fails; of several that fail, the least. `done` hears of each case that went well.
///
/// # Errors
/// The first failure.
pub fn run_many(
    seeds: Range<u64>,
    planted: Option<Planted>,
    threads: usize,
    done: &(dyn Fn(&Coverage) + Sync),
) -> Result<Coverage, Box<Failure>> {
    let next = AtomicU64::new(seeds.start);
    let outcome: Mutex<(Coverage, Option<Failure>)> = Mutex::default();
    let worker = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let ran = catch_unwind(AssertUnwindSafe(|| run(seed, planted))).unwrap_or_else(|_| {
                let reason = "it panicked; the message is on standard error".to_owned();
                Err(Failure { seed, reason, trace: Vec::new() })
            });
            let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
            match ran {
                Ok(report) => {
                    outcome.0 += report.met;
                    done(&outcome.0);
                }
                Err(failure) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    if outcome.1.as_ref().is_none_or(|before| failure.seed < before.seed) {
                        outcome.1 = Some(failure);
                    }
                }
            }
        }
    };
    std::thread::scope(|scope| (0..threads.max(1)).for_each(|_| drop(scope.spawn(worker))));
    match outcome.into_inner().unwrap_or_else(PoisonError::into_inner) {
        (met, None) => Ok(met),
        (_, Some(failure)) => Err(Box::new(failure)),
    }
}
