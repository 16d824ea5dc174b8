//! Group commit: one thread takes what is queued, writes it all, syncs once, and then answers in the
//! order of the records. It numbers and writes; it neither encodes nor interprets.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc::sync_channel},
    thread::JoinHandle,
};

use tidewatch_model::Lsn;

use crate::{
    durability::Durability,
    encoded::Encoded,
    error::LogError,
    observer::Observer,
    queue::{Answer, Pending, Queue, Then, Work},
    writer::Writer,
};

/// The log as the engine appends to it.
pub struct Log {
    queue: Arc<Queue>,
    runs: Mutex<Runs>,
}

/// Who commits.
enum Runs {
    Thread(JoinHandle<Result<(), LogError>>),
    /// Whoever calls `step`: for tests and simulations in one thread.
    Steps(Box<Committer>),
    Closed,
}

struct Committer {
    writer: Writer,
    observer: Arc<dyn Observer>,
}

impl Log {
    /// Starts the commit thread.
    pub fn start(writer: Writer, observer: Arc<dyn Observer>) -> Result<Self, LogError> {
        let queue = Arc::new(Queue::default());
        let committer = Committer { writer, observer };
        let its_queue = Arc::clone(&queue);
        let thread = std::thread::Builder::new()
            .name("log-commit".to_owned())
            .spawn(move || run(committer, &its_queue))
            .map_err(LogError::io("start the commit thread for", "the log"))?;
        Ok(Self { queue, runs: Mutex::new(Runs::Thread(thread)) })
    }

    /// A log without a thread: nothing happens until `step`, save that appending to a full queue steps.
    pub fn stepped(writer: Writer, observer: Arc<dyn Observer>) -> Self {
        let committer = Box::new(Committer { writer, observer });
        Self { queue: Arc::default(), runs: Mutex::new(Runs::Steps(committer)) }
    }

    /// Queues a record; waits while the queue is full. `then` is called exactly once: with the
    /// record's number when it is as durable as configured, or with what went wrong. Calls come in
    /// the order of the numbers, on the commit thread, and must not block, nor append.
    pub fn append(&self, record: Encoded, then: Then) {
        // With a thread, `step` does nothing and `push` waits.
        while self.queue.is_full_for(record.payload().len()) && self.step() {}
        let pending = Pending { record, answer: Answer::new(then) };
        if let Err(pending) = self.queue.push(pending) {
            pending.answer.give(Err(LogError::Closed));
        }
    }

    /// Lets go of segments whose records all lie before `lsn`, soon. A failure is reported to the
    /// trace and tried again at the next call.
    pub fn forget_before(&self, lsn: Lsn) {
        self.queue.forget_before(lsn);
    }

    /// Waits until everything that was appended before survives a crash of the machine, whatever the durability. Gives the
    /// newest record that does.
    pub fn sync(&self) -> Result<Lsn, LogError> {
        let (answer, synced) = sync_channel(1);
        self.queue.sync(answer);
        while self.step() {}
        synced.recv().unwrap_or(Err(LogError::Closed))
    }

    /// One commit of what is queued, on this thread. Returns whether there was anything to do; always
    /// `false` for a log with a thread.
    pub fn step(&self) -> bool {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let Runs::Steps(committer) = &mut *runs else { return false };
        let work = self.queue.take();
        let worked = !work.is_empty();
        committer.work(work);
        worked
    }

    /// Takes no more records, commits those that are queued, syncs, and ends the thread. The first
    /// call says how that went; later ones do nothing.
    pub fn close(&self) -> Result<(), LogError> {
        self.queue.close();
        let runs = std::mem::replace(&mut *self.runs.lock().unwrap_or_else(PoisonError::into_inner), Runs::Closed);
        match runs {
            Runs::Thread(thread) => thread.join().unwrap_or(Err(LogError::Closed)),
            Runs::Steps(mut committer) => committer.finish(&self.queue),
            Runs::Closed => Ok(()),
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!(%error, "closing the log failed");
        }
    }
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").finish_non_exhaustive()
    }
}

/// The commit thread's life. A panic, which only a callback or the observer can cause, closes the
/// log: whoever waits is told so, and nothing pretends to succeed.
fn run(mut committer: Committer, queue: &Queue) -> Result<(), LogError> {
    let ended = catch_unwind(AssertUnwindSafe(|| {
        loop {
            let work = queue.wait();
            if work.is_empty() {
                return committer.writer.sync();
            }
            committer.work(work);
        }
    }));
    ended.unwrap_or_else(|_| {
        queue.close();
        let error = committer.writer.poison("the commit thread panicked".to_owned());
        loop {
            let work = queue.take();
            if work.records.is_empty() {
                return Err(error);
            }
            for pending in work.records {
                pending.answer.give(Err(error.clone()));
            }
        }
    })
}

impl Committer {
    fn finish(&mut self, queue: &Queue) -> Result<(), LogError> {
        loop {
            let work = queue.take();
            if work.is_empty() {
                return self.writer.sync();
            }
            self.work(work);
        }
    }

    fn work(&mut self, work: Work) {
        if !work.records.is_empty() {
            self.commit(work.records);
        }
        for waiting in work.syncs {
            let synced = self.writer.sync().map(|()| self.writer.durable());
            if let Err(error) = &synced {
                self.observer.failed(error);
            }
            // Whoever asked may have gone.
            let _ = waiting.send(synced);
        }
        if let Some(lsn) = work.forget_before
            && let Err(error) = self.writer.forget_before(lsn)
        {
            tracing::warn!(%error, before = %lsn, "old segments of the log stay for now");
            if !self.writer.is_sound() {
                self.observer.failed(&error);
            }
        }
    }

    fn commit(&mut self, records: Vec<Pending>) {
        let mut answers = Vec::with_capacity(records.len());
        for Pending { record, answer } in records {
            match self.writer.append(&record) {
                Ok(lsn) => answers.push((lsn, answer)),
                Err(error) => answer.give(Err(error)),
            }
        }
        if self.writer.durability() == Durability::Memory {
            for (lsn, answer) in answers.drain(..) {
                answer.give(Ok(lsn));
            }
        }
        let observer = Arc::clone(&self.observer);
        match self.writer.commit(&|| observer.monotonic()) {
            Ok(commit) => {
                self.observer.committed(&commit);
                for (lsn, answer) in answers {
                    answer.give(Ok(lsn));
                }
            }
            Err(error) => {
                self.observer.failed(&error);
                for (_, answer) in answers {
                    answer.give(Err(error.clone()));
                }
            }
        }
    }
}
