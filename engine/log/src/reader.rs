//! Reads records from the log in order, one at a time in memory, past what is damaged. It never writes, and never reads
//! past the record it was told is the last.

use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::Arc,
};

use tidewatch_model::{Lsn, StreamSchema};

use crate::{
    error::{Damage, LogError},
    fs::FileSystem,
    lost::Lost,
    record::{Record, RecordKind},
    survey::segments_in,
    walk::{Step, Walk},
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
/// After an `Undecodable` and a `Lost` error the next record follows; after any other the iteration is over.
#[derive(Debug)]
pub struct Reader {
    fs: Arc<dyn FileSystem>,
    dir: PathBuf,
    schemas: Schemas,
    /// Records of other kinds are passed over; `None` passes nothing over.
    only: Option<RecordKind>,
    /// Segments that were not begun yet.
    ahead: VecDeque<Lsn>,
    current: Option<Walk>,
    log_id: u64,
    next: Lsn,
    last: Lsn,
}

impl Reader {
    /// Reads the records `from` to `last`, both included, of the log `log_id` in `dir`. `last` is what
    /// `Recovered::last` or an acknowledgement said: behind it, writing may be under way.
    pub fn open(
        fs: Arc<dyn FileSystem>,
        dir: &Path,
        log_id: u64,
        (from, last): (Lsn, Lsn),
        schemas: Schemas,
    ) -> Result<Self, LogError> {
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
        Ok(Self { fs, dir: dir.to_owned(), schemas, only: None, ahead, current: None, log_id, next: from, last })
    }

    /// Records of this kind alone. The others are passed over by what their headers say: they are neither decoded nor are
    /// their checksums looked at.
    #[must_use]
    pub fn only(mut self, kind: RecordKind) -> Self {
        self.only = Some(kind);
        self
    }

    /// Turns to the next segment.
    fn begin(&mut self) -> Result<Option<Walk>, LogError> {
        let Some(first) = self.ahead.pop_front() else { return Ok(None) };
        let until = self.ahead.front().copied().unwrap_or(self.last.next());
        Walk::open(&*self.fs, &self.dir, first, Some(until), self.log_id).map(Some)
    }

    /// The next record that is wanted; `None` behind the last.
    fn read(&mut self) -> Result<Option<(Lsn, Record)>, LogError> {
        while self.next <= self.last {
            let mut walk = match self.current.take() {
                Some(walk) => walk,
                None => match self.begin()? {
                    Some(walk) => walk,
                    None => return Ok(None),
                },
            };
            let read = self.step(&mut walk)?;
            match read {
                Read::End => {}
                Read::Passed => self.current = Some(walk),
                Read::Wanted(lsn, record) => {
                    self.current = Some(walk);
                    return record.map(|record| Some((lsn, record)));
                }
                Read::Lost(mut lost) => {
                    self.current = Some(walk);
                    if lost.next > self.next {
                        lost.first = lost.first.max(self.next);
                        self.next = lost.next;
                        return Err(lost.into());
                    }
                }
            }
        }
        Ok(None)
    }

    fn step(&mut self, walk: &mut Walk) -> Result<Read, LogError> {
        let header = match walk.step()? {
            Step::Frame(header) => header,
            Step::Broken(reason) => return Ok(Read::Lost(walk.skip(reason)?)),
            Step::End => return Ok(Read::End),
        };
        let unwanted = self.only.is_some_and(|only| RecordKind::of_tag(header.kind) != Some(only));
        if header.lsn < self.next || unwanted {
            walk.pass(&header);
            self.next = self.next.max(header.lsn.next());
            return Ok(Read::Passed);
        }
        let record = match walk.payload(&header)? {
            Ok(payload) => Record::decode(header.kind, header.layout, payload, &self.schemas),
            Err(reason) => return Ok(Read::Lost(walk.skip_frame(&header, reason))),
        };
        walk.pass(&header);
        self.next = header.lsn.next();
        Ok(Read::Wanted(header.lsn, record.map_err(|source| LogError::Undecodable { lsn: header.lsn, source })))
    }
}

/// What a place in a segment gave.
enum Read {
    Wanted(Lsn, Result<Record, LogError>),
    Passed,
    Lost(Lost),
    End,
}

impl Iterator for Reader {
    type Item = Result<(Lsn, Record), LogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let item = self.read().transpose()?;
        if item.as_ref().is_err_and(|error| !matches!(error, LogError::Undecodable { .. } | LogError::Lost(_))) {
            self.next = self.last.next();
            self.current = None;
        }
        Some(item)
    }
}
