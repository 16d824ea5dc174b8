//! The bounded queue before the commit thread: records with what to do when they are durable. Each
//! submitter is answered exactly once, whatever happens to the thread. It writes nothing.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc::SyncSender},
};

use tidewatch_model::{Lsn, limits};

use crate::{encoded::Encoded, error::LogError};

/// What to do when a record is durable, or failed to become so.
pub type Then = Box<dyn FnOnce(Result<Lsn, LogError>) + Send>;

/// A record that waits, with its submitter.
pub(crate) struct Pending {
    pub record: Encoded,
    pub answer: Answer,
}

/// A submitter who was not answered yet. Dropping it answers that the log is closed.
pub(crate) struct Answer(Option<Then>);

impl Answer {
    pub fn new(then: Then) -> Self {
        Self(Some(then))
    }

    pub fn give(mut self, result: Result<Lsn, LogError>) {
        if let Some(then) = self.0.take() {
            then(result);
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if let Some(then) = self.0.take() {
            then(Err(LogError::Closed));
        }
    }
}

/// Hears how a sync went, and up to which record.
pub(crate) type Synced = SyncSender<Result<Lsn, LogError>>;

/// What the commit thread takes at once.
#[derive(Default)]
pub(crate) struct Work {
    pub records: Vec<Pending>,
    /// Segments before this record are no longer needed.
    pub forget_before: Option<Lsn>,
    /// Who waits for everything before to survive a crash of the machine.
    pub syncs: Vec<Synced>,
}

impl Work {
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.forget_before.is_none() && self.syncs.is_empty()
    }
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Pending>,
    bytes: usize,
    forget_before: Option<Lsn>,
    syncs: Vec<Synced>,
    closed: bool,
}

#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    drained: Condvar,
}

impl Queue {
    /// Puts a record at the end; waits while the queue is full. Gives it back where the queue is closed.
    pub fn push(&self, pending: Pending) -> Result<(), Pending> {
        let bytes = pending.record.payload().len();
        let mut state = self.state();
        while !state.closed && !state.has_room(bytes) {
            state = self.drained.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.closed {
            return Err(pending);
        }
        state.bytes += bytes;
        state.waiting.push_back(pending);
        drop(state);
        self.filled.notify_one();
        Ok(())
    }

    /// Whether a record of so many bytes would have to wait.
    pub fn is_full_for(&self, bytes: usize) -> bool {
        !self.state().has_room(bytes)
    }

    pub fn forget_before(&self, lsn: Lsn) {
        let mut state = self.state();
        state.forget_before = state.forget_before.max(Some(lsn));
        drop(state);
        self.filled.notify_one();
    }

    /// After what is queued. Where the queue is closed the answer is dropped.
    pub fn sync(&self, answer: Synced) {
        let mut state = self.state();
        if !state.closed {
            state.syncs.push(answer);
        }
        drop(state);
        self.filled.notify_one();
    }

    pub fn close(&self) {
        self.state().closed = true;
        self.filled.notify_all();
        self.drained.notify_all();
    }

    /// Waits for work, and takes as much as one commit may have. Empty only when closed and drained.
    pub fn wait(&self) -> Work {
        let mut state = self.state();
        while state.is_idle() && !state.closed {
            state = self.filled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        self.take_from(state)
    }

    /// The same without waiting.
    pub fn take(&self) -> Work {
        self.take_from(self.state())
    }

    fn take_from(&self, mut state: MutexGuard<'_, State>) -> Work {
        let mut work = Work { records: Vec::new(), forget_before: state.forget_before.take(), syncs: Vec::new() };
        let mut bytes = 0;
        while let Some(next) = state.waiting.front() {
            bytes += next.record.payload().len();
            if bytes > limits::LOG_COMMIT_BYTES_MAX && !work.records.is_empty() {
                break;
            }
            work.records.extend(state.waiting.pop_front());
        }
        let taken: usize = work.records.iter().map(|pending| pending.record.payload().len()).sum();
        state.bytes -= taken;
        if state.waiting.is_empty() {
            work.syncs = std::mem::take(&mut state.syncs);
        }
        drop(state);
        self.drained.notify_all();
        work
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method panics while it holds the lock, and a record is in the queue or out of it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.forget_before.is_none() && self.syncs.is_empty()
    }

    /// One record always fits into an empty queue, however large.
    fn has_room(&self, bytes: usize) -> bool {
        self.waiting.is_empty()
            || (self.waiting.len() < limits::RECORDS_IN_FLIGHT_MAX && self.bytes + bytes <= limits::LOG_QUEUE_BYTES_MAX)
    }
}
