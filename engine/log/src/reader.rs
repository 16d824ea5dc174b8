//! Reads records from the log in order, one at a time in memory. It never writes, and never reads
//! past the record it was told is the last.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use tidewatch_model::{Lsn, StreamSchema};

use crate::{
    error::{Damage, LogError},
    frame::{FrameFault, FrameHeader},
    fs::FileSystem,
    record::{Record, RecordKind},
    recovery::{open_segment, scan_error, segments_in},
    scan::{ScanError, Scanner},
    segment,
};

/// The streams that the log's events can be read as, by name.
#[derive(Clone, Debug, Default)]
pub struct Schemas(BTreeMap<String, Arc<StreamSchema>>);

impl Schemas {
    pub fn get(&self, stream: &str) -> Option<&Arc<StreamSchema>> {
        self.0.get(stream)
    }
}

impl FromIterator<Arc<StreamSchema>> for Schemas {
    fn from_iter<I: IntoIterator<Item = Arc<StreamSchema>>>(schemas: I) -> Self {
        Self(schemas.into_iter().map(|schema| (schema.name().to_owned(), schema)).collect())
    }
}

/// Iterates over the records of a log.
///
/// After an `Undecodable` error the next record follows; after any other the iteration is over.
#[derive(Debug)]
pub struct Reader {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    schemas: Schemas,
    /// Records of other kinds are passed over; `None` passes nothing over.
    only: Option<RecordKind>,
    /// Segments that were not begun yet.
    ahead: VecDeque<Lsn>,
    current: Option<(PathBuf, Scanner)>,
    log_id: Option<u64>,
    next: Lsn,
    last: Lsn,
}

impl Reader {
    /// Reads the records `from` to `last`, both included, of the log in `dir`. `last` is what
    /// `Recovered::last` or an acknowledgement said: behind it, writing may be under way.
    pub fn open(fs: Arc<dyn FileSystem>, dir: &Path, from: Lsn, last: Lsn, schemas: Schemas) -> Result<Self, LogError> {
        let from = from.max(Lsn(1));
        let mut ahead: VecDeque<Lsn> = segments_in(&*fs, dir)?.into();
        while ahead.get(1).is_some_and(|second| *second <= from) {
            ahead.pop_front();
        }
        if from <= last && ahead.front().is_none_or(|first| *first > from) {
            let reason = match ahead.front() {
                Some(first) => format!("the oldest record that is left is {first}"),
                None => "there is no segment".to_owned(),
            };
            return Err(Damage { file: dir.to_owned(), offset: 0, lsn: from, reason }.into());
        }
        Ok(Self { fs, dir: dir.to_owned(), schemas, only: None, ahead, current: None, log_id: None, next: from, last })
    }

    /// Records of this kind alone. The others are passed over by what their headers say: they are neither decoded nor are
    /// their checksums looked at.
    #[must_use]
    pub fn only(mut self, kind: RecordKind) -> Self {
        self.only = Some(kind);
        self
    }

    /// Turns to the segment that holds `next`, and to its place in it.
    fn seek(&mut self) -> Result<(), LogError> {
        while self.current.is_none() || self.at_end() {
            let expected = self.current.as_ref().map(|(_, scanner)| scanner.expected());
            let Some(first) = self.ahead.pop_front() else {
                return Err(self.missing(expected.unwrap_or(self.next)));
            };
            if let Some(expected) = expected.filter(|expected| *expected != first) {
                return Err(self.missing(expected));
            }
            let (scanner, log_id) = open_segment(&*self.fs, &self.dir, first, self.log_id)?;
            self.log_id = Some(log_id);
            self.current = Some((self.dir.join(segment::file_name(first)), scanner));
        }
        Ok(())
    }

    fn at_end(&self) -> bool {
        self.current.as_ref().is_some_and(|(_, scanner)| scanner.left() == 0)
    }

    fn missing(&self, lsn: Lsn) -> LogError {
        let (file, offset) = match &self.current {
            Some((path, scanner)) => (path.clone(), scanner.offset()),
            None => (self.dir.clone(), 0),
        };
        Damage { file, offset, lsn, reason: FrameFault::Missing.to_string() }.into()
    }

    /// The next record that is wanted; `None` behind the last.
    fn read(&mut self) -> Result<Option<(Lsn, Record)>, LogError> {
        while self.next <= self.last {
            self.seek()?;
            let Some((path, scanner)) = &mut self.current else { return Err(self.missing(self.next)) };
            let header = match scanner.header() {
                Ok(Some(header)) => header,
                Ok(None) => continue,
                Err(error) => return Err(scan_error(error, path, scanner)),
            };
            if header.lsn < self.next {
                scanner.pass(&header);
                continue;
            }
            if self.only.is_some_and(|only| RecordKind::of_tag(header.kind) != Some(only)) {
                scanner.pass(&header);
                self.next = header.lsn.next();
                continue;
            }
            let decoded = match decode(scanner, &header, &self.schemas) {
                Ok(decoded) => decoded,
                Err(error) => return Err(scan_error(error, path, scanner)),
            };
            scanner.pass(&header);
            self.next = header.lsn.next();
            return decoded.map(|record| Some((header.lsn, record)));
        }
        Ok(None)
    }
}

/// The outer error is one of the frame, the inner one of what it holds.
fn decode(
    scanner: &mut Scanner,
    header: &FrameHeader,
    schemas: &Schemas,
) -> Result<Result<Record, LogError>, ScanError> {
    let payload = scanner.payload(header)?;
    let decoded = Record::decode(header.kind, header.layout, payload, schemas);
    Ok(decoded.map_err(|source| LogError::Undecodable { lsn: header.lsn, source }))
}

impl Iterator for Reader {
    type Item = Result<(Lsn, Record), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read().transpose()?;
        if item.as_ref().is_err_and(|error| !matches!(error, LogError::Undecodable { .. })) {
            self.next = self.last.next();
            self.current = None;
        }
        Some(item)
    }
}
