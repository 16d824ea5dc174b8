//! The log's only writer: appends records to a buffer, and commits the buffer with one write and one
//! fdatasync. Synchronous; it starts no thread and reads no clock.
//!
//! A write that fails is taken back, and the log goes on; where it cannot be taken back yet, nothing is written before
//! it is. A sync that fails poisons the log: after it nobody knows what the disk has.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tidewatch_model::{Lsn, limits};

use crate::{
    durability::Durability,
    encoded::Encoded,
    error::LogError,
    frame::FrameHeader,
    fs::{FileSystem, WriteFile, out_of_handles},
    observer::Commit,
    recovery::{Recovered, recover},
    segment::{self, SegmentHeader},
    survey::Contained,
};

/// How a log is opened.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub durability: Durability,
    /// A segment is finished at the first commit that finds it at or over this size.
    pub segment_bytes: u64,
    /// Any number, drawn at random by the caller, for a log that does not exist yet.
    pub new_log_id: u64,
    /// What a checkpoint has: segments that hold nothing else are not read on opening.
    pub contained: Contained,
}

impl LogConfig {
    pub fn new(new_log_id: u64) -> Self {
        let durability = Durability::default();
        Self { durability, segment_bytes: limits::LOG_SEGMENT_BYTES, new_log_id, contained: Contained::default() }
    }
}

#[derive(Debug)]
pub struct Writer {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    log_id: u64,
    durability: Durability,
    segment_bytes: u64,
    /// The first record of each segment, oldest first; the last is open in `file`.
    segments: Vec<Lsn>,
    file: Box<dyn WriteFile>,
    /// Bytes of the open segment that hold whole records.
    offset: u64,
    /// Frames that wait for the commit.
    buffer: Vec<u8>,
    waiting: Commit,
    next: Lsn,
    written: Lsn,
    durable: Lsn,
    /// Behind `offset` there may be parts of a write that failed, which could not be cut off yet.
    torn: bool,
    poison: Option<Arc<str>>,
}

impl Writer {
    /// Recovers the log in `dir`, or makes a new one, and opens it for appending.
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, config: &LogConfig) -> Result<(Self, Recovered), LogError> {
        let found = recover(&*fs, dir, config.new_log_id, config.contained)?;
        let report = found.report;
        // Recovery leaves at least the name of one segment.
        let first = found.segments.last().copied().unwrap_or(report.next);
        let path = dir.join(segment::file_name(first));
        let (file, offset) = match found.end {
            Some(end) => (fs.append(&path).map_err(LogError::io("open for writing", &path))?, end),
            None => {
                let file = new_segment(&*fs, dir, report.log_id, first)
                    .map_err(|unmade| LogError::io("make", &path)(unmade.into_error()))?;
                (file, segment::HEADER_BYTES as u64)
            }
        };
        let writer = Self {
            fs,
            dir: dir.to_owned(),
            log_id: report.log_id,
            durability: config.durability,
            segment_bytes: config.segment_bytes,
            segments: found.segments,
            file,
            offset,
            buffer: Vec::new(),
            waiting: Commit::default(),
            next: report.next,
            written: report.last(),
            durable: report.last(),
            torn: false,
            poison: None,
        };
        Ok((writer, report))
    }

    pub fn durability(&self) -> Durability {
        self.durability
    }

    /// The newest record that survives what its durability says.
    pub fn committed(&self) -> Lsn {
        self.written
    }

    /// The newest record that survives a crash of the machine.
    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// Numbers a record and puts it into the buffer. A commit that is refused takes it back, and its
    /// number is given again.
    pub fn append(&mut self, record: &Encoded) -> Result<Lsn, LogError> {
        self.check()?;
        let lsn = self.next;
        let header = FrameHeader {
            // `Encoded` is never longer than RECORD_BYTES_MAX, which fits.
            length: u32::try_from(record.payload().len())
                .map_err(|_| LogError::TooLarge { bytes: record.payload().len() })?,
            lsn,
            durable: self.durable,
            kind: record.kind(),
            layout: record.layout(),
            payload_crc: record.payload_crc(),
        };
        self.buffer.extend_from_slice(&header.encode(self.log_id));
        self.buffer.extend_from_slice(record.payload());
        self.waiting.records += 1;
        self.waiting.events += record.events();
        self.next = lsn.next();
        Ok(lsn)
    }

    /// Makes what was appended as durable as configured. `monotonic` measures.
    pub fn commit(&mut self, monotonic: &dyn Fn() -> Duration) -> Result<Commit, LogError> {
        self.check()?;
        if self.buffer.is_empty() {
            return Ok(Commit::default());
        }
        let begun = monotonic();
        if self.torn {
            self.mend()?;
        }
        // A segment without a record is never finished: the next would have its name.
        if self.offset >= self.segment_bytes.max(segment::HEADER_BYTES as u64 + 1) {
            self.roll()?;
        }
        if let Err(error) = self.file.write_all(&self.buffer) {
            return Err(self.take_back(error));
        }
        let written = monotonic();
        if self.durability == Durability::Fsync
            && let Err(error) = self.file.sync_data()
        {
            return Err(self.poison(format!("syncing {} failed: {error}", self.path().display())));
        }
        let mut commit = std::mem::take(&mut self.waiting);
        commit.bytes = self.buffer.len();
        commit.synced = self.durability == Durability::Fsync;
        commit.write = written.saturating_sub(begun);
        commit.sync = monotonic().saturating_sub(written);
        self.offset += self.buffer.len() as u64;
        self.empty_buffer();
        self.written = Lsn(self.next.0 - 1);
        if commit.synced {
            self.durable = self.written;
        }
        Ok(commit)
    }

    /// Makes everything committed survive a crash of the machine, whatever the durability.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.check()?;
        if self.durable < self.written {
            if let Err(error) = self.file.sync_data() {
                return Err(self.poison(format!("syncing {} failed: {error}", self.path().display())));
            }
            self.durable = self.written;
        }
        Ok(())
    }

    /// Removes segments whose records all lie before `lsn`; the open one always stays. Returns how
    /// many went. What fails to go is tried again the next time.
    pub fn forget_before(&mut self, lsn: Lsn) -> Result<usize, LogError> {
        self.check()?;
        let mut gone = 0;
        while let [first, second, ..] = self.segments.as_slice()
            && *second <= lsn
        {
            let path = self.dir.join(segment::file_name(*first));
            match self.fs.remove(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(LogError::io("remove", path)(error));
                }
                // Each removal is synced before the next, or a crash could leave a gap.
                _ => self.sync_folder()?,
            }
            self.segments.remove(0);
            gone += 1;
        }
        Ok(gone)
    }

    /// Whether it can still be written.
    pub(crate) fn is_sound(&self) -> bool {
        self.poison.is_none()
    }

    fn sync_folder(&mut self) -> Result<(), LogError> {
        self.fs.sync_dir(&self.dir).map_err(|error| match out_of_handles(&error) {
            true => LogError::io("sync the folder", &self.dir)(error),
            false => self.poison(format!("syncing the folder {} failed: {error}", self.dir.display())),
        })
    }

    /// Stops the log for good, and says why to every later call.
    pub(crate) fn poison(&mut self, reason: String) -> LogError {
        tracing::error!(reason, "the log has stopped");
        self.empty_buffer();
        let reason: Arc<str> = self.poison.get_or_insert_with(|| reason.into()).clone();
        LogError::Poisoned { reason }
    }

    fn check(&self) -> Result<(), LogError> {
        match &self.poison {
            Some(reason) => Err(LogError::Poisoned { reason: Arc::clone(reason) }),
            None => Ok(()),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.join(segment::file_name(self.segments.last().copied().unwrap_or_default()))
    }

    fn empty_buffer(&mut self) {
        self.buffer.clear();
        // One large commit must not hold its memory for ever.
        self.buffer.shrink_to(limits::LOG_COMMIT_BYTES_MAX);
        self.waiting = Commit::default();
    }

    /// Finishes the open segment and begins the next. A finished segment is synced at every
    /// durability, so that only the last one of a log can ever be torn.
    fn roll(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let first = self.written.next();
        match new_segment(&*self.fs, &self.dir, self.log_id, first) {
            Ok(file) => {
                self.file = file;
                self.segments.push(first);
                self.offset = segment::HEADER_BYTES as u64;
                Ok(())
            }
            Err(Unmade::Refused(error)) => {
                let path = self.dir.join(segment::file_name(first));
                Err(self.refuse(format!("making {}", path.display()), error))
            }
            Err(Unmade::Unsynced(error)) => {
                let path = self.dir.join(segment::file_name(first));
                Err(self.poison(format!("syncing the new {} failed: {error}", path.display())))
            }
        }
    }

    /// After a failed write: cuts off what of it reached the file, and forgets the records.
    fn take_back(&mut self, error: io::Error) -> LogError {
        let action = format!("writing to {}", self.path().display());
        self.torn = true;
        match self.mend() {
            Ok(()) => self.refuse(action, error),
            // Half of the records may outlive a crash before the cut.
            Err(LogError::Refused { .. }) => self.not_taken_back(action, error),
            Err(poisoned) => poisoned,
        }
    }

    /// Cuts off what a failed write left. Synced, so that a record whose submitter was told of a failure does not appear
    /// in a crash.
    fn mend(&mut self) -> Result<(), LogError> {
        if let Err(error) = self.file.truncate(self.offset) {
            return Err(self.refuse(format!("cutting off what was half written to {}", self.path().display()), error));
        }
        if let Err(error) = self.file.sync_data() {
            return Err(self.poison(format!("syncing {} failed: {error}", self.path().display())));
        }
        self.torn = false;
        self.durable = self.written;
        Ok(())
    }

    fn not_taken_back(&self, action: String, error: io::Error) -> LogError {
        LogError::NotTakenBack { action, source: Arc::new(error) }
    }

    fn refuse(&mut self, action: String, error: io::Error) -> LogError {
        if self.durability == Durability::Memory {
            return self
                .poison(format!("{action} failed: {error}; records were acknowledged before they were written"));
        }
        self.empty_buffer();
        self.next = self.written.next();
        LogError::Refused { action, source: Arc::new(error) }
    }
}

/// Why there is no new segment.
enum Unmade {
    /// Nothing is left of it, or what is left is removed by the next attempt.
    Refused(io::Error),
    /// Nobody knows what the disk has of it.
    Unsynced(io::Error),
}

impl Unmade {
    fn into_error(self) -> io::Error {
        let (Self::Refused(error) | Self::Unsynced(error)) = self;
        error
    }
}

/// Makes a segment whose header and name are synced, so that no record is ever in a file without them.
fn new_segment(fs: &dyn FileSystem, dir: &Path, log_id: u64, first: Lsn) -> Result<Box<dyn WriteFile>, Unmade> {
    let path = dir.join(segment::file_name(first));
    let made = fs.create(&path).or_else(|error| match error.kind() {
        // Left by an attempt that failed before; it never held a record.
        io::ErrorKind::AlreadyExists => fs.remove(&path).and_then(|()| fs.create(&path)),
        _ => Err(error),
    });
    let mut file = made.map_err(Unmade::Refused)?;
    let ready = file.write_all(&SegmentHeader { log_id, first }.encode()).map_err(Unmade::Refused).and_then(|()| {
        file.sync_data().map_err(Unmade::Unsynced)?;
        fs.sync_dir(dir).map_err(|error| match out_of_handles(&error) {
            true => Unmade::Refused(error),
            false => Unmade::Unsynced(error),
        })
    });
    if let Err(Unmade::Refused(_)) = &ready
        // If this fails too, the next attempt or recovery removes it.
        && let Err(second) = fs.remove(&path)
    {
        tracing::warn!(path = %path.display(), error = %second, "a segment that could not be made stays");
    }
    ready.map(|()| file)
}
