//! Opening a log: finds its segments, checks them, cuts a tail that a crash tore, and refuses what is
//! damaged. After it the log ends with a whole record that is durable. It appends nothing.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use tidewatch_model::Lsn;

use crate::{
    error::{Damage, LogError},
    frame::FrameFault,
    fs::FileSystem,
    scan::{ScanError, Scanner},
    segment::{self, FORMAT_VERSION, HeaderFault, SegmentHeader},
};

/// What was found on opening.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub log_id: u64,
    /// The oldest record that is still there; the same as `next` where there is none.
    pub first: Lsn,
    /// The record that will be appended next.
    pub next: Lsn,
    /// What a crash had left at the end and nobody was promised.
    pub cut: Option<Cut>,
}

impl Recovered {
    /// The newest record; 0 in a log that never had one.
    pub fn last(&self) -> Lsn {
        Lsn(self.next.0.saturating_sub(1))
    }
}

/// A torn tail that was cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    pub file: PathBuf,
    pub offset: u64,
    pub bytes: u64,
    pub reason: String,
}

/// The log's files as recovery leaves them.
#[derive(Debug)]
pub(crate) struct Found {
    pub report: Recovered,
    /// The first record of each segment, oldest first. The last is the one to append to.
    pub segments: Vec<Lsn>,
    /// The length of the last segment; `None` where its file is still to be made.
    pub end: Option<u64>,
}

/// Recovers the log in `dir`. Records before `verify_from` are taken as checked (a checkpoint has
/// them), so that the time this takes is bounded by what lies behind the checkpoint.
pub(crate) fn recover(fs: &dyn FileSystem, dir: &Path, new_log_id: u64, verify_from: Lsn) -> Result<Found, LogError> {
    fs.create_dir(dir).map_err(LogError::io("make the folder", dir))?;
    let mut segments = segments_in(fs, dir)?;
    if let Some(last) = segments.last() {
        // The process before may have been restarted because a sync had failed. What memory still shows of that is not
        // on disk, and taking it for durable would lose it in the next power cut.
        let path = dir.join(segment::file_name(*last));
        fs.forget_cached(&path).map_err(LogError::io("read anew", &path))?;
    }
    let mut cut = None;
    if let Some(first) = segments.last().copied()
        && let Some(unborn) = unborn_segment(fs, dir, first)?
    {
        // Its header was never synced, so it holds no record that anybody was promised. The one
        // before it was synced as a whole first, which is checked before anything is removed.
        segments.pop();
        if let Some(before) = segments.last() {
            verify_closed(fs, dir, None, *before, first)?;
        }
        fs.remove(&unborn.file).map_err(LogError::io("remove", &unborn.file))?;
        fs.sync_dir(dir).map_err(LogError::io("sync the folder", dir))?;
        cut = Some(unborn).filter(|cut| cut.bytes > 0);
        if segments.is_empty() {
            let report = Recovered { log_id: new_log_id, first, next: first, cut };
            return Ok(Found { report, segments: vec![first], end: None });
        }
    }
    let Some(last) = segments.last().copied() else {
        let report = Recovered { log_id: new_log_id, first: Lsn(1), next: Lsn(1), cut };
        return Ok(Found { report, segments: vec![Lsn(1)], end: None });
    };
    let log_id = common_log_id(fs, dir, &segments)?;
    let closed = segments.iter().zip(segments.iter().skip(1));
    for (first, next) in closed.filter(|(_, next)| **next > verify_from) {
        verify_closed(fs, dir, Some(log_id), *first, *next)?;
    }
    let (next, end, torn) = recover_last(fs, dir, log_id, last)?;
    let first = segments.first().copied().unwrap_or(next);
    let report = Recovered { log_id, first, next, cut: torn.or(cut) };
    Ok(Found { report, segments, end: Some(end) })
}

/// The first records of the segments in a folder, in order. Other files are none of the log's.
pub(crate) fn segments_in(fs: &dyn FileSystem, dir: &Path) -> Result<Vec<Lsn>, LogError> {
    let names = fs.list(dir).map_err(LogError::io("list", dir))?;
    let mut segments: Vec<Lsn> = names.iter().filter_map(|name| segment::parse_file_name(name)).collect();
    segments.sort();
    Ok(segments)
}

/// Opens a segment for scanning after checking its header.
pub(crate) fn open_segment(
    fs: &dyn FileSystem,
    dir: &Path,
    first: Lsn,
    log_id: Option<u64>,
) -> Result<(Scanner, u64), LogError> {
    let path = dir.join(segment::file_name(first));
    let damaged =
        |reason: &str| LogError::from(Damage { file: path.clone(), offset: 0, lsn: first, reason: reason.to_owned() });
    let file = fs.open(&path).map_err(LogError::io("open", &path))?;
    let length = file.len().map_err(LogError::io("read", &path))?;
    let mut bytes = vec![0; segment::HEADER_BYTES.min(usize::try_from(length).unwrap_or(usize::MAX))];
    file.read_exact_at(0, &mut bytes).map_err(LogError::io("read", &path))?;
    let header = match SegmentHeader::decode(&bytes) {
        Ok(header) => header,
        Err(HeaderFault::Damaged(reason)) => return Err(damaged(reason)),
        Err(HeaderFault::Newer(found)) => {
            return Err(LogError::Newer { what: path.display().to_string(), found, known: FORMAT_VERSION });
        }
    };
    if header.first != first {
        return Err(damaged(&format!("the segment says that it begins with record {}", header.first)));
    }
    if log_id.is_some_and(|id| id != header.log_id) {
        return Err(damaged("the segment belongs to another log"));
    }
    let scanner = Scanner::new(Arc::clone(&file), header.log_id, first).map_err(LogError::io("read", &path))?;
    Ok((scanner, header.log_id))
}

/// A scan's error with its place.
pub(crate) fn scan_error(error: ScanError, path: &Path, scanner: &Scanner) -> LogError {
    match error {
        ScanError::Io(error) => LogError::io("read", path)(error),
        ScanError::Broken(fault) => broken(&fault, path, scanner),
    }
}

fn broken(fault: &FrameFault, path: &Path, scanner: &Scanner) -> LogError {
    let (file, reason) = (path.to_owned(), fault.to_string());
    Damage { file, offset: scanner.offset(), lsn: scanner.expected(), reason }.into()
}

/// A last segment that a crash kept from being made: it has no good header and no room for a record.
fn unborn_segment(fs: &dyn FileSystem, dir: &Path, first: Lsn) -> Result<Option<Cut>, LogError> {
    let path = dir.join(segment::file_name(first));
    let file = fs.open(&path).map_err(LogError::io("open", &path))?;
    let length = file.len().map_err(LogError::io("read", &path))?;
    if length > segment::HEADER_BYTES as u64 {
        return Ok(None);
    }
    match open_segment(fs, dir, first, None) {
        Ok(_) => Ok(None),
        Err(LogError::Damaged(damage)) => Ok(Some(Cut { file: path, offset: 0, bytes: length, reason: damage.reason })),
        Err(error) => Err(error),
    }
}

fn common_log_id(fs: &dyn FileSystem, dir: &Path, segments: &[Lsn]) -> Result<u64, LogError> {
    let mut log_id = None;
    for first in segments {
        let (_, id) = open_segment(fs, dir, *first, log_id)?;
        log_id = Some(id);
    }
    // The caller passes at least one segment.
    Ok(log_id.unwrap_or_default())
}

/// Checks a segment that has a successor: it was synced before that was made, so it is whole or damaged.
fn verify_closed(fs: &dyn FileSystem, dir: &Path, log_id: Option<u64>, first: Lsn, next: Lsn) -> Result<(), LogError> {
    let path = dir.join(segment::file_name(first));
    let (mut scanner, _) = open_segment(fs, dir, first, log_id)?;
    scanner.verify().map_err(|error| scan_error(error, &path, &scanner))?;
    if scanner.expected() != next {
        return Err(Damage {
            file: path,
            offset: scanner.offset(),
            lsn: scanner.expected(),
            reason: format!("the segment ends here, but the next one begins with record {next}"),
        }
        .into());
    }
    Ok(())
}

/// Checks the last segment and cuts its torn tail. Returns the next record, the length and the cut.
fn recover_last(fs: &dyn FileSystem, dir: &Path, log_id: u64, first: Lsn) -> Result<(Lsn, u64, Option<Cut>), LogError> {
    let path = dir.join(segment::file_name(first));
    let (mut scanner, _) = open_segment(fs, dir, first, Some(log_id))?;
    let mut cut = None;
    match scanner.verify() {
        Ok(()) => {}
        Err(ScanError::Io(error)) => return Err(LogError::io("read", &path)(error)),
        Err(ScanError::Broken(fault)) => {
            if scanner.was_durable().map_err(LogError::io("read", &path))? {
                return Err(broken(&fault, &path, &scanner));
            }
            let (offset, bytes) = (scanner.offset(), scanner.left());
            cut = Some(Cut { file: path.clone(), offset, bytes, reason: fault.to_string() });
        }
    }
    let mut file = fs.append(&path).map_err(LogError::io("open for writing", &path))?;
    if cut.is_some() {
        file.truncate(scanner.offset()).map_err(LogError::io("cut the torn end of", &path))?;
    }
    // What a process left in the page cache must not be lost after somebody has read it.
    file.sync_data().map_err(LogError::io("sync", &path))?;
    fs.sync_dir(dir).map_err(LogError::io("sync the folder", dir))?;
    Ok((scanner.expected(), scanner.offset(), cut))
}
