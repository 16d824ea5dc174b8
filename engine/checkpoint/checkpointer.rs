//! Writes checkpoints, one at a time, while the pipeline goes on: on a thread of its own, or step by step. Where the disk
//! fails for a while it tries again, and the log keeps what is not in a checkpoint.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use tidewatch_log::Log;
use tidewatch_model::limits;
use tidewatch_store::{Cold, NoRoom};

use super::{Checkpoints, Rest};
use crate::{
    condition::Condition,
    core::{FoundDamage, SavedCore},
    quarantine::Quarantine,
    telemetry::{Gauge, Metrics, Stage},
};

/// Between two attempts to write a checkpoint that the disk did not take.
const RETRY: Duration = Duration::from_secs(5);

/// Merges of segments after one checkpoint, and rows that they read. A checkpoint that is handed in meanwhile comes after
/// the merge that is under way.
const MERGES_MAX: usize = 64;
const MERGED_ROWS_MAX: u64 = 4 * limits::MERGE_ROWS_MAX;

/// Merges wait until no checkpoint was handed in for so long: under full load the next is what matters, because what no
/// checkpoint has a restart must apply.
const MERGES_AFTER: Duration = Duration::from_secs(1);

/// Beyond so many segments that were never merged they do not wait any more: then there is a merge for each checkpoint.
const UNMERGED_MAX: usize = 512;

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
    /// What has no room on disk.
    pub no_room: Option<NoRoom>,
    /// What was found damaged since the checkpoint before.
    pub damages: Vec<FoundDamage>,
}

/// What the pipeline sees of the work.
#[derive(Debug, Default)]
struct Progress {
    now: Mutex<Now>,
    changed: Condvar,
    written: Mutex<Option<Written>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Now {
    /// The next can be handed in.
    #[default]
    Idle,
    Writing,
    /// The disk does not take it; it is tried again.
    Failing,
    /// None can be written any more.
    Stopped,
}

impl Progress {
    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is(&self, now: Now) {
        *self.now() = now;
        self.changed.notify_all();
    }
}

/// Where the pipeline hands checkpoints in.
pub struct Checkpointer {
    progress: Arc<Progress>,
    runs: Runs,
}

/// Who writes.
enum Runs {
    Thread {
        jobs: SyncSender<Job>,
        thread: JoinHandle<()>,
    },
    /// Whoever calls `step`: for simulations in one thread.
    Steps {
        worker: Box<Worker>,
        waiting: Option<Job>,
        merging: Merging,
    },
}

impl Checkpointer {
    /// Starts the thread.
    pub fn start(worker: Worker) -> std::io::Result<Self> {
        // One waits at most: the next is handed in when the one before is written.
        let (jobs, receiver) = sync_channel(1);
        let progress = Arc::clone(&worker.progress);
        let thread = std::thread::Builder::new().name("checkpoint".to_owned()).spawn(move || worker.run(&receiver))?;
        Ok(Self { progress, runs: Runs::Thread { jobs, thread } })
    }

    /// Without a thread: nothing is written until `step`.
    pub fn stepped(worker: Worker) -> Self {
        Self {
            progress: Arc::clone(&worker.progress),
            runs: Runs::Steps { worker: Box::new(worker), waiting: None, merging: Merging::default() },
        }
    }

    /// Whether the next checkpoint can be handed in.
    pub fn is_idle(&self) -> bool {
        *self.progress.now() == Now::Idle
    }

    /// Waits for the checkpoint that is being written, if any, unless the disk does not take it. Returns whether the next can
    /// be handed in.
    pub fn settle(&mut self) -> bool {
        if matches!(self.runs, Runs::Steps { .. }) {
            if !self.is_idle() {
                self.step();
            }
            return self.is_idle();
        }
        let now = self.progress.now();
        let now = self.progress.changed.wait_while(now, |now| *now == Now::Writing);
        *now.unwrap_or_else(PoisonError::into_inner) == Now::Idle
    }

    /// What was written since the last call: the newest, where there was more than one.
    pub fn take_written(&self) -> Option<Written> {
        self.progress.written.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Hands a checkpoint in; the caller has seen that the one before is written.
    pub fn write(&mut self, saved: SavedCore, rest: Rest) {
        self.progress.is(Now::Writing);
        let job = Job { saved, rest };
        match &mut self.runs {
            Runs::Thread { jobs, .. } => {
                if jobs.try_send(job).is_err() {
                    self.progress.is(Now::Stopped);
                    tracing::error!("the checkpoint thread is gone; the log has everything, restart the engine");
                }
            }
            Runs::Steps { waiting, .. } => *waiting = Some(job),
        }
    }

    /// One attempt to write what waits, or else one merge, on this thread. Returns whether there was anything to do; always
    /// `false` where a thread does it.
    pub fn step(&mut self) -> bool {
        let Runs::Steps { worker, waiting, merging } = &mut self.runs else { return false };
        let Some(job) = waiting.take() else {
            let merges = merging.goes_on();
            worker.merge(merging);
            return merges;
        };
        match worker.attempt(&job) {
            Attempt::Written => {
                worker.written(job.saved.save);
                *merging = Merging::begun(job.saved.save);
            }
            Attempt::Again => *waiting = Some(job),
            Attempt::Never => {}
        }
        true
    }

    /// Waits for the checkpoint that is being written, if any. One that the disk does not take is given up: the log has
    /// what it would hold.
    pub fn close(mut self) {
        self.step();
        if let Runs::Thread { jobs, thread } = self.runs {
            drop(jobs);
            if thread.join().is_err() {
                tracing::error!("the checkpoint thread ended abnormally; the log has everything");
            }
        }
    }
}

/// What does the work, on whichever thread.
pub struct Worker {
    checkpoints: Checkpoints,
    log: Arc<Log>,
    metrics: Arc<Metrics>,
    condition: Arc<Condition>,
    progress: Arc<Progress>,
    quarantine: Quarantine,
    /// False once merging failed for good: segments are read as they are.
    merges: bool,
}

/// Nobody waits for a thread that is gone, however it went.
struct Ended(Arc<Progress>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.is(Now::Stopped);
    }
}

/// How an attempt to write a checkpoint went.
enum Attempt {
    Written,
    /// The disk may take it later.
    Again,
    /// No checkpoint can be written any more.
    Never,
}

/// How many merges may still follow a checkpoint.
#[derive(Default)]
struct Merging {
    /// The number of the checkpoint's save.
    save: u64,
    merges_left: usize,
    rows_left: u64,
}

impl Merging {
    fn begun(save: u64) -> Self {
        Self { save, merges_left: MERGES_MAX, rows_left: MERGED_ROWS_MAX }
    }

    fn has_begun(&self) -> bool {
        self.merges_left < MERGES_MAX
    }

    fn goes_on(&self) -> bool {
        self.merges_left > 0 && self.rows_left > 0
    }
}

impl Worker {
    pub fn new(
        checkpoints: Checkpoints,
        log: Arc<Log>,
        metrics: Arc<Metrics>,
        condition: Arc<Condition>,
        quarantine: Quarantine,
    ) -> Self {
        Self { checkpoints, log, metrics, condition, progress: Arc::default(), quarantine, merges: true }
    }

    fn run(mut self, jobs: &Receiver<Job>) {
        let _ended = Ended(Arc::clone(&self.progress));
        while let Ok(job) = jobs.recv() {
            let mut next = Some(job);
            let mut merging = Merging::default();
            while next.is_some() || merging.goes_on() {
                if let Some(job) = next.take() {
                    if !self.write(&job, jobs) {
                        return;
                    }
                    merging = Merging::begun(job.saved.save);
                }
                let crowded = self.checkpoints.unmerged() > UNMERGED_MAX;
                match jobs.recv_timeout(if crowded || merging.has_begun() { Duration::ZERO } else { MERGES_AFTER }) {
                    Ok(job) => next = Some(job),
                    Err(RecvTimeoutError::Timeout) => {}
                    // The engine has ended; merges can wait for the next.
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                if next.is_none() || crowded {
                    self.merge(&mut merging);
                }
            }
        }
    }

    /// Tries until the checkpoint is written. False where the engine has ended, or none can be written any more.
    fn write(&mut self, job: &Job, jobs: &Receiver<Job>) -> bool {
        loop {
            match self.attempt(job) {
                Attempt::Written => break,
                // Nothing is handed in while this is under way: the end of the channel is the engine's.
                Attempt::Again if matches!(jobs.recv_timeout(RETRY), Err(RecvTimeoutError::Timeout)) => {}
                Attempt::Again | Attempt::Never => return false,
            }
        }
        self.written(job.saved.save);
        true
    }

    fn attempt(&mut self, job: &Job) -> Attempt {
        let timer = self.metrics.time(Stage::Checkpoint);
        // A checkpoint must not know records that a crash of the machine would take from the log: their numbers
        // would be given again.
        let synced = self.log.sync().map_err(|error| (error.to_string(), error.is_retryable()));
        let written = synced.and_then(|_| {
            let written = self.checkpoints.write(&job.saved, &job.rest);
            written.map_err(|error| (error.to_string(), error.is_retryable()))
        });
        drop(timer);
        match written {
            Ok(()) => {
                self.metrics.checkpointed(job.saved.applied);
                self.log.forget_before(self.checkpoints.log_from());
                Attempt::Written
            }
            Err((error, retryable)) => {
                self.metrics.checkpoint_failed();
                self.progress.is(if retryable { Now::Failing } else { Now::Stopped });
                if retryable {
                    tracing::error!(error, "a checkpoint could not be written; it is tried again");
                    return Attempt::Again;
                }
                self.condition.checkpoints_stopped(&error);
                Attempt::Never
            }
        }
    }

    /// The next may be handed in.
    fn written(&self, save: u64) {
        self.tell(save, self.no_room());
        self.progress.is(Now::Idle);
    }

    fn no_room(&self) -> Option<NoRoom> {
        self.metrics.set(Gauge::StoreBytes, self.checkpoints.bytes() as f64);
        let no_room = self.checkpoints.no_room()?;
        self.metrics.made_room();
        tracing::warn!(
            before = %no_room.before,
            roll_ups_before = no_room.roll_ups_before.map(tracing::field::display),
            "the store is larger than `store.disk_bytes_max`: its oldest minutes and rows go"
        );
        Some(no_room)
    }

    fn tell(&self, save: u64, no_room: Option<NoRoom>) {
        let mut new = self.checkpoints.damages(&self.quarantine);
        let mut written = self.progress.written.lock().unwrap_or_else(PoisonError::into_inner);
        // What the pipeline has not taken yet is still to be told.
        let (mut damages, no_room_yet) = written.take().map(|w| (w.damages, w.no_room)).unwrap_or_default();
        damages.append(&mut new);
        let no_room = no_room.into_iter().chain(no_room_yet).reduce(NoRoom::and);
        *written = Some(Written { save, cold: self.checkpoints.cold(), no_room, damages });
    }

    /// One merge, if one is due.
    fn merge(&mut self, merging: &mut Merging) {
        if !self.merges || !merging.goes_on() {
            return *merging = Merging::default();
        }
        let timer = self.metrics.time(Stage::Merge);
        let merged = self.checkpoints.compact();
        drop(timer);
        match merged {
            Ok(Some(read)) => {
                merging.merges_left -= 1;
                merging.rows_left = merging.rows_left.saturating_sub(read);
                self.tell(merging.save, None);
            }
            Ok(None) => *merging = Merging::default(),
            Err(error) => {
                self.merges = error.is_retryable();
                *merging = Merging::default();
                tracing::error!(%error, again = self.merges, "segments could not be merged; they are read as they are");
            }
        }
    }
}
