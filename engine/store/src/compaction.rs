//! Compaction: which segments of one hour or of one day become one. The planning is pure;
//! the merging writes one new file and makes nothing visible. What rows mean when they meet is the caller's.

use std::collections::{BTreeMap, BTreeSet};

use arrow::{array::RecordBatch, error::ArrowError};
use tidewatch_model::{Lsn, Window, limits};

use crate::{
    bucket::Bucket,
    error::FolderError,
    folder::Folder,
    manifest::check_segments,
    segment::{Contents, Segment},
};

/// When segments are merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergePolicy {
    /// So many segments of one hour and one level become one of the next: each row is written once a level.
    pub fan_in: usize,
    /// So many of one day and one level do, whatever hours they hold: a bound where hours do not come together, because
    /// what is strewn over the day came in between.
    pub crowd: usize,
    /// What all inputs of a merge may have together, since they are read at once.
    pub bytes_max: u64,
    pub rows_max: u64,
}

impl Default for MergePolicy {
    fn default() -> Self {
        Self { fan_in: 8, crowd: 32, bytes_max: limits::MERGE_BYTES_MAX, rows_max: limits::MERGE_ROWS_MAX }
    }
}

/// An hour or a day is over when there are minutes of so long after it. What comes later is merged as it gathers.
const OVER_AFTER_MINUTES: i64 = 5;

/// Segments that are to become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merge {
    /// Places in the table's list, ascending. No other segment of the list has both minutes and records in common with
    /// what they become.
    pub inputs: Vec<usize>,
    /// Of the result.
    pub level: u8,
}

impl Merge {
    pub fn inputs_of(&self, segments: &[Segment]) -> Vec<Segment> {
        self.inputs.iter().filter_map(|at| segments.get(*at)).cloned().collect()
    }

    /// Puts what the inputs became in their place.
    pub fn apply(&self, segments: &mut Vec<Segment>, merged: Option<Segment>) {
        let mut at = 0;
        segments.retain(|_| {
            at += 1;
            self.inputs.binary_search(&(at - 1)).is_err()
        });
        segments.extend(merged);
        Segment::sort(segments);
    }
}

/// What to merge next of a table's segments; `None` when nothing needs it. First fresh segments of an hour, then all of an
/// hour that is over, then those of a day; old ones before new ones. Segments that are not `whole` are gone around: they stay as they are.
pub fn plan(segments: &[Segment], policy: &MergePolicy, whole: impl Fn(&Segment) -> bool) -> Option<Merge> {
    let planning = Planning { segments, policy };
    let newest = segments.iter().map(|segment| segment.minutes.1).max()?;
    for (bucket, members) in buckets(segments, whole) {
        let count = match bucket {
            Bucket::Hour(_) => policy.fan_in,
            Bucket::Day(_) => policy.crowd,
        };
        let merge = planning.of_one_level(&members, count.max(2));
        let over = bucket.minutes().1.plus(OVER_AFTER_MINUTES) <= newest;
        let merge = merge.or_else(|| over.then(|| planning.of_all(&members)).flatten());
        if merge.is_some() {
            return merge;
        }
    }
    None
}

/// The same for what is kept by windows: they count as minutes. So what sixty of them have is merged first, whatever their length.
pub fn plan_windows(
    window: Window,
    segments: &[Segment],
    policy: &MergePolicy,
    whole: impl Fn(&Segment) -> bool,
) -> Option<Merge> {
    if window == Window::Minute {
        return plan(segments, policy, whole);
    }
    let numbered = |segment: &Segment| {
        let minutes = (window.number(segment.minutes.0), window.number(segment.minutes.1));
        Segment { minutes, ..segment.clone() }
    };
    let numbered: Vec<Segment> = segments.iter().map(numbered).collect();
    plan(&numbered, policy, whole)
}

/// A segment at its place in the list. One that must not be merged parts its neighbours.
#[derive(Clone, Copy)]
struct Member<'a> {
    at: usize,
    segment: &'a Segment,
    merges: bool,
}

/// For each hour and each day all segments that have minutes in it, in the order of the log; hours first.
fn buckets(segments: &[Segment], whole: impl Fn(&Segment) -> bool) -> BTreeMap<Bucket, Vec<Member<'_>>> {
    let mut buckets: BTreeMap<Bucket, Vec<Member<'_>>> = BTreeMap::new();
    for bucket in segments.iter().filter_map(|segment| Bucket::of(segment.minutes)) {
        buckets.entry(bucket).or_default();
        buckets.entry(bucket.day()).or_default();
    }
    for (at, segment) in segments.iter().enumerate() {
        let whole = whole(segment);
        for span in Bucket::spans(segment.minutes) {
            for (bucket, members) in buckets.range_mut(span) {
                members.push(Member { at, segment, merges: whole && bucket.contains(segment.minutes) });
            }
        }
    }
    buckets
}

/// What is asked of one list of segments.
struct Planning<'a> {
    segments: &'a [Segment],
    policy: &'a MergePolicy,
}

impl Planning<'_> {
    /// Neighbours of one level, as soon as there are so many of them; low levels first.
    fn of_one_level(&self, members: &[Member<'_>], count: usize) -> Option<Merge> {
        let levels: BTreeSet<u8> = members.iter().map(|member| member.segment.level).collect();
        levels.into_iter().find_map(|level| {
            let of_level = |member: &Member<'_>| member.merges && member.segment.level == level;
            // A few that fill a segment together are merged, too.
            let enough = |run: &[Member<'_>], is_full| run.len() >= count || is_full;
            let mut runs = self.runs(members, of_level, count).into_iter();
            runs.find_map(|(run, is_full)| if enough(&run, is_full) { self.merge(&run, |_| true) } else { None })
        })
    }

    /// Neighbours that are worth it. Those of a stretch of time can be merged whatever records they come from; where something
    /// that is strewn over the day lies among them, those that came one after the other may still.
    fn of_all(&self, members: &[Member<'_>]) -> Option<Merge> {
        let mut by_minute = members.to_vec();
        by_minute.sort_by_key(|member| member.segment.minutes.0);
        [by_minute.as_slice(), members].into_iter().find_map(|members| {
            let runs = self.runs(members, |member| member.merges, usize::MAX);
            runs.into_iter().find_map(|(run, _)| self.worth_merging(&run, 2))
        })
    }

    /// What lies beside the largest of a run must not be little, or a large segment would be written anew for the sake of each
    /// small one that comes after it. Otherwise those before it are looked at, and those behind it.
    fn worth_merging(&self, run: &[Member<'_>], count_min: usize) -> Option<Merge> {
        if run.len() < count_min {
            return None;
        }
        let worth = |run: &[Member<'_>]| {
            let rows = || run.iter().map(|member| member.segment.rows);
            let largest = rows().max().unwrap_or_default();
            rows().sum::<u64>().saturating_sub(largest).saturating_mul(2) >= largest
        };
        self.merge(run, worth).or_else(|| {
            let (largest, _) = run.iter().enumerate().max_by_key(|(_, member)| member.segment.rows)?;
            let (before, rest) = run.split_at_checked(largest)?;
            let few = (self.policy.fan_in / 2).max(2);
            self.worth_merging(before, few).or_else(|| self.worth_merging(rest.get(1..)?, few))
        })
    }

    /// Runs of neighbours that have room together, at most `count` in each, and whether the next had no room.
    fn runs<'m>(
        &self,
        members: &[Member<'m>],
        merges: impl Fn(&Member<'m>) -> bool,
        count: usize,
    ) -> Vec<(Vec<Member<'m>>, bool)> {
        let mut runs = Vec::new();
        let mut run: Vec<Member<'m>> = Vec::new();
        for member in members {
            if !merges(member) {
                runs.push((std::mem::take(&mut run), false));
                continue;
            }
            let is_full = !self.has_room(&run, member.segment);
            if is_full || run.len() >= count {
                runs.push((std::mem::take(&mut run), is_full));
            }
            run.push(*member);
        }
        runs.push((run, false));
        runs
    }

    fn has_room(&self, run: &[Member<'_>], next: &Segment) -> bool {
        let all = || run.iter().map(|member| member.segment).chain([next]);
        let bytes = all().fold(0_u64, |bytes, of| bytes.saturating_add(of.file.bytes));
        let rows = all().fold(0_u64, |rows, of| rows.saturating_add(of.rows));
        bytes <= self.policy.bytes_max && rows <= self.policy.rows_max
    }

    /// The merge of these neighbours, or of as many of the first of them as no other segment comes in between.
    fn merge(&self, run: &[Member<'_>], worth: impl Fn(&[Member<'_>]) -> bool) -> Option<Merge> {
        (2..=run.len()).rev().filter_map(|count| run.get(..count)).find_map(|run| {
            let hull = hull(run.iter().map(|member| member.segment))?;
            let mut inputs: Vec<usize> = run.iter().map(|member| member.at).collect();
            inputs.sort_unstable();
            let others = self.segments.iter().enumerate().filter(|(at, _)| inputs.binary_search(at).is_err());
            let fits = worth(run) && !others.into_iter().any(|(_, other)| other.meets(&hull));
            fits.then_some(Merge { inputs, level: hull.level.saturating_add(1) })
        })
    }
}

/// What several segments have together.
fn hull<'a>(segments: impl IntoIterator<Item = &'a Segment>) -> Option<Contents> {
    segments.into_iter().map(Segment::contents).reduce(|a, b| Contents {
        minutes: (a.minutes.0.min(b.minutes.0), a.minutes.1.max(b.minutes.1)),
        lsns: (a.lsns.0.min(b.lsns.0), a.lsns.1.max(b.lsns.1)),
        level: a.level.max(b.level),
    })
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
        let Some(hull) = hull(inputs) else { return Ok(None) };
        let rows = inputs.iter().map(|input| self.read_segment(input)).collect::<Result<Vec<_>, _>>()?;
        let merged = combine(rows)
            .map_err(|error| FolderError::Unsound(format!("segments cannot be merged into one: {error}")))?;
        if merged.iter().all(|batch| batch.num_rows() == 0) {
            return Ok(None);
        }
        self.write_segment(prefix, &merged, Contents { level, ..hull }).map(Some)
    }
}
