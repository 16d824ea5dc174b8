//! `Survey`: what a log in a folder holds, where it ends and what of it is damaged, found by reading alone. Opening a log
//! acts on it; whoever only wants to know asks for it too. It changes nothing.

use std::path::{Path, PathBuf};

use tidewatch_model::Lsn;

use crate::{
    error::{Damage, LogError},
    fs::FileSystem,
    lost::Lost,
    segment,
    walk::{Step, Walk, read_header},
};

/// What a checkpoint holds of a log, so that the log need not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Contained {
    /// Which log that is; `None` where there is no checkpoint.
    pub log_id: Option<u64>,
    /// All records before this one were synced, and are in the checkpoint.
    pub before: Lsn,
}

/// A log as it lies there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// `None` where no segment was ever finished.
    pub log_id: Option<u64>,
    /// The oldest record that is still there; the same as `next` where there is none.
    pub first: Lsn,
    /// The record that will be appended next.
    pub next: Lsn,
    /// What is damaged, in order.
    pub lost: Vec<Lost>,
    pub tail: Tail,
    /// The first record of each segment, oldest first, without one that was never finished.
    pub(crate) segments: Vec<Lsn>,
}

/// How a log ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tail {
    /// There is no segment.
    Absent,
    /// With a whole record.
    Whole,
    /// With something that a crash left and nobody was promised.
    Torn(Cut),
    /// With a segment that a crash kept from being made.
    Unborn(Cut),
    /// With something that was durable and is not what it was: nothing can be appended to that file.
    Damaged,
}

/// A torn tail, which recovery cuts off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: PathBuf,
    pub offset: u64,
    pub bytes: u64,
    pub reason: String,
}

/// Looks at the log in `dir`. Segments whose records all lie before `from` are not read.
pub fn survey(fs: &dyn FileSystem, dir: &Path, contained: Contained, from: Lsn) -> Result<Survey, LogError> {
    let mut segments = segments_in(fs, dir)?;
    let mut unborn = match segments.last() {
        Some(last) => unborn_segment(fs, dir, *last)?.map(|cut| (*last, cut)),
        None => None,
    };
    if unborn.is_some() {
        segments.pop();
    }
    let Some(log_id) = common_log_id(fs, dir, &segments, contained)? else {
        let first = unborn.as_ref().map_or(Lsn(1), |(first, _)| *first);
        let tail = unborn.map_or(Tail::Absent, |(_, cut)| Tail::Unborn(cut));
        return Ok(Survey { log_id: None, first, next: first, lost: Vec::new(), tail, segments });
    };
    let mut surveyor = Surveyor { fs, dir, log_id, contained, lost: Vec::new() };
    let untils = segments.iter().skip(1).copied().map(Some).chain([unborn.as_ref().map(|(first, _)| *first)]);
    let mut end = (Lsn(1), Tail::Absent);
    for (first, until) in segments.iter().copied().zip(untils) {
        end = match until {
            None => surveyor.last(first)?,
            Some(until) if until <= from && until != unborn_first(unborn.as_ref()) => (until, Tail::Whole),
            Some(until) => (until, if surveyor.closed(first, until)? { Tail::Whole } else { Tail::Damaged }),
        };
    }
    if let Some((first, cut)) = unborn.take() {
        end.1 = match end.1 {
            Tail::Damaged => {
                // The segment before it does not reach up to it, so it had records.
                segments.push(first);
                surveyor.gone(cut, first);
                end.0 = first.next().max(contained.before);
                Tail::Damaged
            }
            _ => Tail::Unborn(cut),
        };
    }
    let (next, tail) = end;
    let first = segments.first().copied().unwrap_or(next);
    Ok(Survey { log_id: Some(log_id), first, next, lost: surveyor.lost, tail, segments })
}

fn unborn_first(unborn: Option<&(Lsn, Cut)>) -> Lsn {
    unborn.map(|(first, _)| *first).unwrap_or_default()
}

/// Collects what is lost, segment by segment.
struct Surveyor<'a> {
    fs: &'a dyn FileSystem,
    dir: &'a Path,
    log_id: u64,
    contained: Contained,
    lost: Vec<Lost>,
}

impl Surveyor<'_> {
    /// A segment that has a successor: it was synced before that was made, so whatever is not whole is damaged. Answers
    /// whether its frames reach up to the next segment.
    fn closed(&mut self, first: Lsn, until: Lsn) -> Result<bool, LogError> {
        let mut walk = Walk::open(self.fs, self.dir, first, Some(until), self.log_id)?;
        let mut reaches = true;
        loop {
            match walk.step()? {
                Step::End => return Ok(reaches),
                Step::Frame(header) => match walk.payload(&header)? {
                    Ok(_) => walk.pass(&header),
                    Err(reason) => self.lost.push(walk.skip_frame(&header, reason)),
                },
                Step::Broken(reason) => {
                    self.lost.push(walk.skip(reason)?);
                    reaches = walk.left() > 0;
                }
            }
        }
    }

    /// The last segment: what is not whole is torn, unless it is known to have been durable. Answers the next record, too.
    fn last(&mut self, first: Lsn) -> Result<(Lsn, Tail), LogError> {
        let mut walk = Walk::open(self.fs, self.dir, first, None, self.log_id)?;
        let headless = walk.is_headless();
        loop {
            let (broken, reason) = match walk.step()? {
                Step::End if headless => return Ok((self.above(&walk, first), Tail::Damaged)),
                Step::End => return Ok((walk.expected(), Tail::Whole)),
                Step::Frame(header) => match walk.payload(&header)? {
                    Ok(_) => {
                        walk.pass(&header);
                        continue;
                    }
                    Err(reason) => (Some(header), reason),
                },
                Step::Broken(reason) => (None, reason),
            };
            // A header is synced before there is any record, so what is behind a damaged one was durable too.
            if !headless && walk.expected() >= self.contained.before && !walk.was_durable()? {
                let (file, offset, bytes) = (walk.path().to_owned(), walk.offset(), walk.left());
                return Ok((walk.expected(), Tail::Torn(Cut { file, offset, bytes, reason })));
            }
            match broken {
                Some(header) => self.lost.push(walk.skip_frame(&header, reason)),
                None => {
                    let mut lost = walk.skip(reason)?;
                    if walk.left() == 0 {
                        let next = self.above(&walk, first);
                        (lost.next, lost.exact) = (next, false);
                        self.lost.push(lost);
                        return Ok((next, Tail::Damaged));
                    }
                    self.lost.push(lost);
                }
            }
        }
    }

    /// The first number that was certainly never given, and that no file bears as its name.
    fn above(&self, walk: &Walk, first: Lsn) -> Lsn {
        walk.expected().max(first.next()).max(self.contained.before)
    }

    /// A last segment of which not even the header is left.
    fn gone(&mut self, cut: Cut, first: Lsn) {
        let Cut { file, offset, bytes, reason } = cut;
        self.lost.push(Lost { file, offset, bytes, first, next: first.next(), exact: false, kind: None, reason });
    }
}

/// The first records of the segments in a folder, in order. Other files are none of the log's.
pub(crate) fn segments_in(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<Lsn>, LogError> {
    let names = fs.list(dir).map_err(LogError::io("list", dir))?;
    let mut segments: Vec<Lsn> = names.iter().filter_map(|name| segment::parse_file_name(name)).collect();
    segments.sort();
    Ok(segments)
}

/// A last segment that a crash kept from being made: it has no good header and no room for a record.
fn unborn_segment(fs: &dyn FileSystem, dir: &Path, first: Lsn) -> Result<Option<Cut>, LogError> {
    let path = dir.join(segment::file_name(first));
    let file = fs.open(&path).map_err(LogError::io("open", &path))?;
    let length = file.len().map_err(LogError::io("read", &path))?;
    if length > segment::HEADER_BYTES as u64 {
        return Ok(None);
    }
    let header = read_header(fs, dir, first)?;
    Ok(header.err().map(|reason| Cut { file: path, offset: 0, bytes: length, reason }))
}

/// Which log the segments are of: the checkpoint's, if any says so, or that of the oldest that says anything. `None` where
/// there are no segments.
fn common_log_id(
    fs: &dyn FileSystem,
    dir: &Path,
    segments: &[Lsn],
    contained: Contained,
) -> Result<Option<u64>, LogError> {
    let mut ids = Vec::new();
    let mut nameless = None;
    for first in segments {
        match read_header(fs, dir, *first)? {
            Ok(header) => ids.push(header.log_id),
            Err(reason) => nameless = nameless.or(Some((*first, reason))),
        }
    }
    let known = contained.log_id.filter(|id| ids.is_empty() || ids.contains(id));
    match (known.or(ids.first().copied()), nameless) {
        (None, Some((first, reason))) => {
            let file = dir.join(segment::file_name(first));
            Err(Damage { file, offset: 0, lsn: first, reason }.into())
        }
        (log_id, _) => Ok(log_id.filter(|_| !segments.is_empty())),
    }
}
