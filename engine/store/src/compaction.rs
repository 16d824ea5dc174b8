//! Compaction: which neighbouring segments of one table become one. The planning is pure;
//! the merging writes one new file and makes nothing visible. What rows mean when they meet is the caller's.

use std::ops::Range;

use arrow::{array::RecordBatch, error::ArrowError};
use tidewatch_model::{Lsn, limits};

use crate::{
    error::FolderError,
    folder::Folder,
    manifest::check_segments,
    segment::{Contents, Segment},
};

/// When segments are merged. Each row is written once a level, so `fan_in` weighs the number of files against the work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergePolicy {
    /// So many segments of one level become one of the next.
    pub fan_in: usize,
    /// Segments of this level stay as they are. With it retention stays fine enough: a segment goes when the last of its
    /// minutes does. A checkpoint every 10 s and levels of eight reach four days at level 5.
    pub level_max: u8,
    /// What a merged segment may have; its inputs together are taken for its size.
    pub bytes_max: u64,
    pub rows_max: u64,
}

impl Default for MergePolicy {
    fn default() -> Self {
        Self {
            fan_in: 8,
            level_max: 5,
            bytes_max: limits::SEGMENT_BYTES_MAX / 4,
            rows_max: limits::SEGMENT_ROWS_MAX / 2,
        }
    }
}

/// Segments that are to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Places in the table's list, one after another: the order of the log is kept, whatever minutes they hold.
    pub inputs: Range<usize>,
    /// Of the result.
    pub level: u8,
}

/// What to merge next of a table's segments; `None` when nothing needs it. Lower levels come first, and old before new.
pub fn plan(segments: &[Segment], policy: &MergePolicy) -> Option<Merge> {
    (0..policy.level_max).find_map(|level| {
        let mut run = Run::default();
        for (at, segment) in segments.iter().enumerate() {
            if segment.level != level {
                run = Run::default();
                continue;
            }
            if !run.has_room(segment, policy) {
                // A few that fill a segment together are merged, one that is nearly full alone stays.
                if run.count > 1 {
                    return Some(run.merge(at, level));
                }
                run = Run::default();
            }
            run.add(segment);
            if run.count >= policy.fan_in.max(2) {
                return Some(run.merge(at + 1, level));
            }
        }
        None
    })
}

/// Neighbours of one level, up to the place that is looked at.
#[derive(Default)]
struct Run {
    count: usize,
    bytes: u64,
    rows: u64,
}

impl Run {
    fn has_room(&self, segment: &Segment, policy: &MergePolicy) -> bool {
        self.bytes.saturating_add(segment.file.bytes) <= policy.bytes_max
            && self.rows.saturating_add(segment.rows) <= policy.rows_max
    }

    fn add(&mut self, segment: &Segment) {
        self.count += 1;
        self.bytes = self.bytes.saturating_add(segment.file.bytes);
        self.rows = self.rows.saturating_add(segment.rows);
    }

    fn merge(&self, end: usize, level: u8) -> Merge {
        Merge { inputs: end.saturating_sub(self.count)..end, level: level.saturating_add(1) }
    }
}

/// The rows of one segment behind those of the other, as they are.
pub fn in_turn(segments: Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, ArrowError> {
    Ok(segments.into_iter().flatten().collect())
}

impl Folder {
    /// Makes one segment of several: `combine` gets the rows of each in the order of the log and returns those of the result,
    /// in the order that they shall have (for a plain table, `in_turn`). The inputs stay visible until a manifest names
    /// the result in their place. `None` where no rows are left.
    pub fn merge(
        &mut self,
        prefix: &str,
        inputs: &[Segment],
        level: u8,
        combine: impl FnOnce(Vec<Vec<RecordBatch>>) -> Result<Vec<RecordBatch>, ArrowError>,
    ) -> Result<Option<Segment>, FolderError> {
        // What is added up must be disjoint, or something would be counted twice.
        check_segments(inputs, Lsn(u64::MAX)).map_err(FolderError::Unsound)?;
        let (Some(oldest), Some(newest)) = (inputs.first(), inputs.last()) else { return Ok(None) };
        let mut minutes = oldest.minutes;
        let mut rows = Vec::with_capacity(inputs.len());
        for input in inputs {
            minutes = (minutes.0.min(input.minutes.0), minutes.1.max(input.minutes.1));
            rows.push(self.read_segment(input)?);
        }
        let merged = combine(rows)
            .map_err(|error| FolderError::Unsound(format!("segments cannot be merged into one: {error}")))?;
        if merged.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(None);
        }
        let contents = Contents { minutes, lsns: (oldest.lsns.0, newest.lsns.1), level };
        self.write_segment(prefix, &merged, contents).map(Some)
    }
}
