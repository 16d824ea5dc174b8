//! Opening a log: surveys it, cuts a tail that a crash tore, and goes on behind what is damaged. After it the log ends with
//! a whole record that is durable, or a new segment is to be made. It appends nothing.

use std::path::Path;

use tidewatch_model::Lsn;

use crate::{
    error::LogError,
    fs::FileSystem,
    lost::Lost,
    segment,
    survey::{Contained, Cut, Tail, segments_in, survey},
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
    /// What is damaged, as far as it was looked at. The files stay as they are.
    pub lost: Vec<Lost>,
}

impl Recovered {
    /// The newest record; 0 in a log that never had one.
    pub fn last(&self) -> Lsn {
        Lsn(self.next.0.saturating_sub(1))
    }
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

/// Recovers the log in `dir`. Segments whose records a checkpoint has are not read, so that the time this takes is bounded
/// by what lies behind the checkpoint.
pub(crate) fn recover(
    fs: &dyn FileSystem,
    dir: &Path,
    new_log_id: u64,
    contained: Contained,
) -> Result<Found, LogError> {
    fs.create_dir(dir).map_err(LogError::io("make the folder", dir))?;
    if let Some(last) = segments_in(fs, dir)?.last() {
        // The process before may have been restarted because a sync had failed. What memory still shows of that is not
        // on disk, and taking it for durable would lose it in the next power cut.
        let path = dir.join(segment::file_name(*last));
        fs.forget_cached(&path).map_err(LogError::io("read anew", &path))?;
    }
    let mut found = survey(fs, dir, contained, contained.before)?;
    let mut cut = None;
    match &found.tail {
        Tail::Absent | Tail::Whole | Tail::Damaged => {}
        Tail::Torn(torn) => cut = Some(torn.clone()),
        Tail::Unborn(unborn) => {
            // Its header was never synced, so it holds no record that anybody was promised.
            fs.remove(&unborn.file).map_err(LogError::io("remove", &unborn.file))?;
            fs.sync_dir(dir).map_err(LogError::io("sync the folder", dir))?;
            cut = Some(unborn.clone()).filter(|cut| cut.bytes > 0);
        }
    }
    let end = match found.segments.last() {
        Some(last) => Some(settle(fs, dir, *last, cut.as_ref())?),
        None => None,
    };
    let begins_anew = end.is_none() || found.tail == Tail::Damaged;
    if begins_anew {
        found.segments.push(found.next);
    }
    let log_id = found.log_id.unwrap_or(new_log_id);
    let report = Recovered { log_id, first: found.first, next: found.next, cut, lost: found.lost };
    Ok(Found { report, segments: found.segments, end: end.filter(|_| !begins_anew) })
}

/// Cuts the torn tail of the last segment, if it has one, and syncs the segment. Returns its length.
fn settle(fs: &dyn FileSystem, dir: &Path, last: Lsn, cut: Option<&Cut>) -> Result<u64, LogError> {
    let path = dir.join(segment::file_name(last));
    let mut file = fs.append(&path).map_err(LogError::io("open for writing", &path))?;
    if let Some(cut) = cut.filter(|cut| cut.file == path) {
        file.truncate(cut.offset).map_err(LogError::io("cut the torn end of", &path))?;
    }
    // What a process left in the page cache must not be lost after somebody has read it.
    file.sync_data().map_err(LogError::io("sync", &path))?;
    fs.sync_dir(dir).map_err(LogError::io("sync the folder", dir))?;
    fs.open(&path).and_then(|file| file.len()).map_err(LogError::io("read", &path))
}
