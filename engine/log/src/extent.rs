//! `Extent`: which bytes of which segments hold a stretch of the log, for whoever copies it while it is written. It checks
//! every record of the stretch, and reads nothing behind it.

use std::path::Path;

use tidewatch_model::Lsn;

use crate::{
    error::{Damage, LogError},
    fs::FileSystem,
    segment,
    survey::segments_in,
    walk::{Step, Walk, read_header},
};

/// A stretch of the log that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    pub log_id: u64,
    /// In the order of their records; never none, so that a copy knows which log it is of.
    pub segments: Vec<SegmentExtent>,
}

/// A segment's file, as far as the stretch goes: a copy of so many bytes is a whole segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentExtent {
    /// In the log's folder.
    pub name: String,
    pub bytes: u64,
}

impl Extent {
    /// From the segment with the record `from` to the record `last`, which the caller knows to be durable. Where there is
    /// no record from `from` on, the segment with `last`.
    pub fn of(fs: &dyn FileSystem, dir: &Path, from: Lsn, last: Lsn) -> Result<Self, LogError> {
        let mut firsts = segments_in(fs, dir)?;
        // One that was begun behind `last` is not needed, unless it is all there is.
        let needed = firsts.iter().filter(|first| **first <= last).count().max(1);
        firsts.truncate(needed);
        let before = firsts.iter().skip(1).take_while(|second| **second <= from).count();
        let firsts = firsts.split_off(before);
        if from <= last && firsts.first().is_none_or(|first| *first > from) {
            return Err(missing(dir, 0, from));
        }
        let Some(oldest) = firsts.first() else { return Err(missing(dir, 0, from)) };
        let header = read_header(fs, dir, *oldest)?;
        let log_id =
            header.map_err(|reason| damaged(&dir.join(segment::file_name(*oldest)), 0, *oldest, reason))?.log_id;
        let mut segments = Vec::with_capacity(firsts.len());
        for (at, first) in firsts.iter().enumerate() {
            let next = firsts.get(at + 1).copied();
            let mut walk = Walk::open(fs, dir, *first, next, log_id)?;
            verify(&mut walk, last)?;
            if walk.expected() < next.unwrap_or(last.next()) {
                return Err(missing(walk.path(), walk.offset(), walk.expected()));
            }
            segments.push(SegmentExtent { name: segment::file_name(*first), bytes: walk.offset() });
        }
        Ok(Self { log_id, segments })
    }
}

/// Checks frames up to `last`, or up to the end of the segment. A damaged one ends it.
fn verify(walk: &mut Walk, last: Lsn) -> Result<(), LogError> {
    while walk.expected() <= last {
        match walk.step()? {
            Step::Frame(header) => {
                if let Err(reason) = walk.payload(&header)? {
                    return Err(damaged(walk.path(), walk.offset(), header.lsn, reason));
                }
                walk.pass(&header);
            }
            Step::Broken(reason) => return Err(damaged(walk.path(), walk.offset(), walk.expected(), reason)),
            Step::End => break,
        }
    }
    Ok(())
}

fn damaged(file: &Path, offset: u64, lsn: Lsn, reason: String) -> LogError {
    Damage { file: file.to_owned(), offset, lsn, reason }.into()
}

fn missing(file: &Path, offset: u64, lsn: Lsn) -> LogError {
    damaged(file, offset, lsn, "the records end here".to_owned())
}
