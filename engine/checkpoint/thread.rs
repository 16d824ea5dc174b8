//! The thread that writes checkpoints, one at a time, while the pipeline goes on. Where the disk fails for a while it tries
//! again, and the log keeps what is not in a checkpoint.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tidewatch_log::Log;
use tidewatch_model::limits;
use tidewatch_store::Cold;

use super::{Checkpoints, Rest};
use crate::{
    condition::Condition,
    core::SavedCore,
    telemetry::{Metrics, Stage},
};

/// Between two attempts to write a checkpoint that the disk did not take.
const RETRY: Duration = Duration::from_secs(5);

/// Merges of segments after one checkpoint, and rows that they read, so that the next is not kept waiting for long: every
/// view and table comes to its turn, and a few of the greatest merges.
const MERGES_MAX: usize = 64;
const MERGED_ROWS_MAX: u64 = 4 * limits::MERGE_ROWS_MAX;

struct Job {
    saved: SavedCore,
    rest: Rest,
}

/// What the newest checkpoint has on disk.
#[derive(Debug)]
pub struct Written {
    /// The number of the save.
    pub save: u64,
    pub cold: Cold,
}

/// Where the pipeline hands checkpoints in.
#[derive(Debug)]
pub struct CheckpointThread {
    jobs: SyncSender<Job>,
    busy: Arc<AtomicBool>,
    written: Arc<Mutex<Option<Written>>>,
    thread: JoinHandle<()>,
}

impl CheckpointThread {
    pub fn start(
        checkpoints: Checkpoints,
        log: Arc<Log>,
        metrics: Arc<Metrics>,
        condition: Arc<Condition>,
    ) -> std::io::Result<Self> {
        // One waits at most: the next is handed in when the one before is written.
        let (jobs, receiver) = sync_channel(1);
        let busy = Arc::new(AtomicBool::new(false));
        let written = Arc::default();
        let worker = Worker {
            checkpoints,
            log,
            metrics,
            condition,
            busy: Arc::clone(&busy),
            written: Arc::clone(&written),
            merges: true,
        };
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || worker.run(&receiver))?;
        Ok(Self { jobs, busy, written, thread })
    }

    /// Whether the next checkpoint can be handed in.
    pub fn is_idle(&self) -> bool {
        !self.busy.load(Ordering::Acquire)
    }

    /// What was written since the last call: the newest, where there was more than one.
    pub fn take_written(&self) -> Option<Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands a checkpoint in; the caller has seen that the thread is idle.
    pub fn write(&self, saved: SavedCore, rest: Rest) {
        self.busy.store(true, Ordering::Release);
        if self.jobs.try_send(Job { saved, rest }).is_err() {
            tracing::error!("the checkpoint thread is gone; the log has everything, restart the engine");
        }
    }

    /// Waits for the checkpoint that is being written, if any. One that the disk does not take is given up: the log has
    /// what it would hold.
    pub fn close(self) {
        drop(self.jobs);
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread ended abnormally; the log has everything");
        }
    }
}

struct Worker {
    checkpoints: Checkpoints,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    condition: Arc<Condition>,
    busy: Arc<AtomicBool>,
    written: Arc<Mutex<Option<Written>>>,
    /// False once merging failed for good: segments are read as they are.
    merges: bool,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            if !self.write(&job, jobs) {
                // Stays busy for good: no further checkpoint is asked for.
                return;
            }
            // Nothing is handed in before this one counts as written: if the channel has ended, so has the engine.
            if matches!(jobs.try_recv(), Err(TryRecvError::Disconnected)) {
                return;
            }
            self.tell(job.saved.save);
            if self.merge() {
                self.tell(job.saved.save);
            }
            self.busy.store(false, Ordering::Release);
        }
    }

    /// False where no checkpoint can be written any more.
    fn write(&mut self, job: &Job, jobs: &Receiver<Job>) -> bool {
        loop {
            let timer = self.metrics.time(Stage::Checkpoint);
            // A checkpoint must not know records that a crash of the machine would take from the log: their numbers
            // would be given again.
            let synced = self.log.sync().map_err(|error| (error.to_string(), error.is_retryable()));
            let written = synced.and_then(|()| {
                let written = self.checkpoints.write(&job.saved, &job.rest);
                written.map_err(|error| (error.to_string(), error.is_retryable()))
            });
            drop(timer);
            if written.is_err() {
                self.metrics.checkpoint_failed();
            }
            match written {
                Ok(()) => {
                    self.metrics.checkpointed(job.saved.applied);
                    self.log.forget_before(job.saved.applied.next());
                    return true;
                }
                Err((error, true)) => {
                    tracing::error!(error, "a checkpoint could not be written; it is tried again");
                    // Nothing is handed in while this is under way: the end of the channel is the engine's.
                    if !matches!(jobs.recv_timeout(RETRY), Err(RecvTimeoutError::Timeout)) {
                        return false;
                    }
                }
                Err((error, false)) => {
                    self.condition.checkpoints_stopped(&error);
                    return false;
                }
            }
        }
    }

    fn tell(&self, save: u64) {
        let written = Written { save, cold: self.checkpoints.cold() };
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
    }

    /// Whether anything was merged.
    fn merge(&mut self) -> bool {
        let (mut merges, mut rows) = (0, 0);
        while self.merges && merges < MERGES_MAX && rows < MERGED_ROWS_MAX {
            match self.checkpoints.compact() {
                Ok(Some(read)) => (merges, rows) = (merges + 1, rows + read),
                Ok(None) => break,
                Err(error) => {
                    self.merges = error.is_retryable();
                    tracing::error!(%error, again = self.merges, "segments could not be merged; they are read as they are");
                    break;
                }
            }
        }
        merges > 0
    }
}
