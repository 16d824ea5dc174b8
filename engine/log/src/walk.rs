//! Walks over one segment past what is damaged in it: the frames that are whole, and between them what is lost. It never
//! writes, and it does not know which tail is torn: whoever walks over the last segment decides that.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tidewatch_model::Lsn;

use crate::{
    error::LogError,
    frame::FrameHeader,
    fs::FileSystem,
    lost::Lost,
    record::RecordKind,
    scan::{ScanError, Scanner},
    segment::{self, FORMAT_VERSION, HeaderFault, SegmentHeader},
};

#[derive(Debug)]
pub(crate) struct Walk {
    path: PathBuf,
    scanner: Scanner,
    /// The record that the next segment begins with: all before it belong here. None in a log's last segment.
    until: Option<Lsn>,
    /// What is wrong with the segment's own header, until that was told.
    headless: Option<String>,
}

/// What stands at a place.
#[derive(Debug)]
pub(crate) enum Step {
    /// A frame whose header is right. Its payload was not looked at.
    Frame(FrameHeader),
    /// Something else, and what is wrong with it.
    Broken(String),
    End,
}

impl Walk {
    /// Begins with the segment `first` of the log `log_id`. Where the segment's header is damaged, its frames still tell by
    /// themselves which log and which records they are of.
    pub fn open(
        fs: &dyn FileSystem,
        dir: &Path,
        first: Lsn,
        until: Option<Lsn>,
        log_id: u64,
    ) -> Result<Self, LogError> {
        let path = dir.join(segment::file_name(first));
        let header = read_header(fs, dir, first)?;
        let headless = match header {
            Ok(header) if header.log_id != log_id => Some("the segment belongs to another log".to_owned()),
            Ok(_) => None,
            Err(reason) => Some(reason),
        };
        let file = fs.open(&path).map_err(LogError::io("open", &path))?;
        let mut scanner = Scanner::new(Arc::clone(&file), log_id, first).map_err(LogError::io("read", &path))?;
        if headless.is_some() {
            scanner.go_to(0, first);
        }
        Ok(Self { path, scanner, until, headless })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it stands.
    pub fn offset(&self) -> u64 {
        self.scanner.offset()
    }

    /// Bytes from there to the end.
    pub fn left(&self) -> u64 {
        self.scanner.left()
    }

    /// The record that should stand there.
    pub fn expected(&self) -> Lsn {
        self.scanner.expected()
    }

    /// Whether the segment's own header is damaged; known until the first `skip`.
    pub fn is_headless(&self) -> bool {
        self.headless.is_some()
    }

    pub fn step(&mut self) -> Result<Step, LogError> {
        if let Some(reason) = &self.headless {
            return Ok(Step::Broken(reason.clone()));
        }
        let (expected, until) = (self.scanner.expected(), self.until);
        match self.scanner.header() {
            Ok(Some(header)) => match until.filter(|until| header.lsn >= *until) {
                Some(until) => Ok(Step::Broken(format!("the records go on, but the next ones begin with {until}"))),
                None => Ok(Step::Frame(header)),
            },
            Ok(None) => match until.filter(|until| expected < *until) {
                Some(until) => Ok(Step::Broken(format!("the records end here, but the next ones begin with {until}"))),
                None => Ok(Step::End),
            },
            Err(ScanError::Broken(fault)) => Ok(Step::Broken(fault.to_string())),
            Err(ScanError::Io(error)) => Err(LogError::io("read", &self.path)(error)),
        }
    }

    /// The payload of the frame that the last step gave, or what is wrong with it. Does not move.
    pub fn payload(&mut self, header: &FrameHeader) -> Result<Result<&[u8], String>, LogError> {
        match self.scanner.payload(header) {
            Ok(payload) => Ok(Ok(payload)),
            Err(ScanError::Broken(fault)) => Ok(Err(fault.to_string())),
            Err(ScanError::Io(error)) => Err(LogError::io("read", &self.path)(error)),
        }
    }

    /// Moves behind the frame with this header.
    pub fn pass(&mut self, header: &FrameHeader) {
        self.scanner.pass(header);
    }

    /// Moves behind a frame whose payload is damaged: its header says where the next one stands, so it is all that is lost.
    pub fn skip_frame(&mut self, header: &FrameHeader, reason: String) -> Lost {
        let (offset, bytes) = (self.scanner.offset(), header.frame_bytes());
        self.scanner.pass(header);
        let (file, first, next) = (self.path.clone(), header.lsn, header.lsn.next());
        Lost { file, offset, bytes, first, next, exact: true, kind: RecordKind::of_tag(header.kind), reason }
    }

    /// Moves to the next whole frame of a record that belongs here, or to the end where there is none.
    pub fn skip(&mut self, reason: String) -> Result<Lost, LogError> {
        self.headless = None;
        let (offset, first) = (self.scanner.offset(), self.scanner.expected());
        let unread = LogError::io("read", &self.path);
        let found = self.scanner.search(self.until.unwrap_or(Lsn(u64::MAX))).map_err(unread)?;
        let (to, next) = match (found, self.until) {
            (Some((at, lsn)), _) => (at, lsn),
            // Behind the last segment nothing tells how many records there were: at least those that a header names.
            (None, None) => {
                let highest = self.scanner.highest().map_err(LogError::io("read", &self.path))?;
                (offset + self.scanner.left(), highest.map_or(first, Lsn::next).max(first))
            }
            (None, Some(until)) => (offset + self.scanner.left(), until.max(first)),
        };
        self.scanner.go_to(to, next);
        let exact = found.is_some() || self.until.is_some();
        Ok(Lost { file: self.path.clone(), offset, bytes: to - offset, first, next, exact, kind: None, reason })
    }

    /// Whether anything behind this place says that the record expected here had been durable.
    pub fn was_durable(&mut self) -> Result<bool, LogError> {
        self.scanner.was_durable().map_err(LogError::io("read", &self.path))
    }
}

/// A segment's header, or what is wrong with it.
pub(crate) fn read_header(
    fs: &dyn FileSystem,
    dir: &Path,
    first: Lsn,
) -> Result<Result<SegmentHeader, String>, LogError> {
    let path = dir.join(segment::file_name(first));
    let file = fs.open(&path).map_err(LogError::io("open", &path))?;
    let length = file.len().map_err(LogError::io("read", &path))?;
    let mut bytes = vec![0; segment::HEADER_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(0, &mut bytes).map_err(LogError::io("read", &path))?;
    match SegmentHeader::decode(&bytes) {
        Ok(header) if header.first != first => {
            Ok(Err(format!("the segment says that it begins with record {}", header.first)))
        }
        Ok(header) => Ok(Ok(header)),
        Err(HeaderFault::Damaged(reason)) => Ok(Err(reason.to_owned())),
        Err(HeaderFault::Newer(found)) => {
            Err(LogError::Newer { what: path.display().to_string(), found, known: FORMAT_VERSION })
        }
    }
}
