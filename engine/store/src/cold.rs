//! `Cold`: minutes and rows that are on disk, read back when somebody asks. It holds the manifest that it reads by, so that its files
//! stay; what was read is kept in a cache for the next who asks.
//!
//! A damaged segment is reported once and left out, and the rest is served. A disk that does not answer is an error.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{array::AsArray, datatypes::TimestampMicrosecondType};
use tidewatch_model::{EventTime, Minute, Window};
use tidewatch_views::PartialRows;

use crate::{
    cache::{CacheKey, HourCache},
    damages::Damages,
    error::{Damage, FolderError, StoreError},
    files::Files,
    frames::added_up,
    hour::{Hour, Mask, Seen, hour_of, mark, short},
    manifest::Manifest,
    parts::ViewParts,
    segment::Segment,
};

/// What all views have on disk, as one manifest names it.
#[derive(Clone, Debug)]
pub struct Cold {
    files: Files,
    manifest: Arc<Manifest>,
    cache: Arc<HourCache>,
    damages: Arc<Damages>,
}

/// An hour of which some minutes are on disk. Of a roll-up, windows count as minutes, and sixty of them are an hour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub hour: i64,
    pub minutes: Mask,
    pub version: u32,
}

impl Cold {
    /// What is read is kept in a cache of so many bytes.
    pub fn new(files: Files, manifest: Arc<Manifest>, cache_bytes_max: usize) -> Self {
        Self { files, manifest, cache: Arc::new(HourCache::new(cache_bytes_max)), damages: Arc::default() }
    }

    /// The same by another manifest, with the same cache.
    #[must_use]
    pub fn with_manifest(&self, manifest: Arc<Manifest>) -> Self {
        Self { manifest, ..self.clone() }
    }

    /// What was read, or `None` where it is damaged: that is told of and left out.
    pub fn spare<T>(&self, read: Result<T, FolderError>) -> Result<Option<T>, FolderError> {
        self.damages.spare(read)
    }

    /// Damage that somebody else met who reads the same files.
    pub fn met(&self, damage: &Damage) {
        self.damages.tell(damage);
    }

    /// Damage that reading met since the last call; of each file once.
    pub fn take_damages(&self) -> Vec<Damage> {
        self.damages.take_new()
    }

    pub(crate) fn cache(&self) -> &HourCache {
        &self.cache
    }

    /// The wanted minutes of these hours, which come in order; each minute is there, also where nothing was in it. Missing are
    /// minutes of which a part is damaged: half a sum would be a wrong number.
    pub(crate) fn hours(&self, parts: &ViewParts, wanted: &[Wanted]) -> Result<BTreeMap<i64, Arc<Hour>>, StoreError> {
        let key = |of: &Wanted| CacheKey { place: parts.place, hour: of.hour, version: of.version };
        let mut hours = BTreeMap::new();
        let mut missing: Vec<Wanted> = Vec::new();
        for of in wanted {
            match self.cache.hour(key(of)) {
                Some(hour) => {
                    hours.insert(of.hour, hour);
                }
                None => missing.push(*of),
            }
        }
        for run in missing.chunk_by(|before, after| before.hour + 1 == after.hour) {
            let (mut rows, lost) = self.minutes(parts, run)?;
            for of in run {
                let hour = Arc::new(finished(parts, of, &mut rows, &lost)?);
                self.cache.put_hour(key(of), &hour);
                hours.insert(of.hour, hour);
            }
        }
        Ok(hours)
    }

    /// What the segments hold of a run of hours, added up, and which minutes damaged ones may have rows of.
    fn minutes(&self, parts: &ViewParts, run: &[Wanted]) -> Result<(BTreeMap<Minute, PartialRows>, Lost), StoreError> {
        let (mut rows, mut lost) = (Vec::new(), Lost::new());
        for segment in self.segments(parts, run) {
            let read = self.files.read_minutes(segment, None, span(parts.window(), run));
            match self.spared(parts, read)? {
                Some(batches) => {
                    let wanted = |rows: &PartialRows| is_wanted(run, parts.window().number(rows.minute()));
                    rows.extend(parts.frames.read(&batches)?.into_iter().filter(wanted));
                }
                None => lost.push(segment.minutes),
            }
        }
        Ok((added_up(parts.window(), &rows), lost))
    }

    /// Notes every row of the wanted minutes; only the keys are read.
    pub(crate) fn mark(&self, parts: &ViewParts, wanted: &[Wanted], seen: &mut Seen) -> Result<(), StoreError> {
        let meta = &parts.view().meta;
        let columns: Vec<&str> =
            std::iter::once("minute").chain(meta.keys.iter().map(|key| key.name().as_str())).collect();
        for run in wanted.chunk_by(|before, after| before.hour + 1 == after.hour) {
            for segment in self.segments(parts, run) {
                let read = self.files.read_minutes(segment, Some(&columns), span(parts.window(), run));
                for batch in self.spared(parts, read)?.unwrap_or_default() {
                    mark_rows(parts, run, &batch, seen)?;
                }
            }
        }
        Ok(())
    }

    /// The segments that can hold minutes of a run of hours.
    fn segments<'a>(&'a self, parts: &ViewParts, run: &[Wanted]) -> impl Iterator<Item = &'a Segment> {
        let (from, to) = span(parts.window(), run);
        let stored = self.manifest.views.get(parts.frames.name());
        let ours = stored.filter(|stored| stored.fingerprint == parts.frames.fingerprint());
        let segments = ours.map_or(&[][..], |stored| stored.segments.as_slice());
        segments.iter().filter(move |segment| segment.minutes.0 <= to && from <= segment.minutes.1)
    }

    fn spared<T>(&self, parts: &ViewParts, read: Result<T, FolderError>) -> Result<Option<T>, StoreError> {
        self.spare(read).map_err(|source| StoreError::Unread { name: parts.frames.name().to_owned(), source })
    }

    /// The segments of a table, in order.
    pub(crate) fn table(&self, name: &str) -> &[Segment] {
        self.manifest.tables.get(name).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn files(&self) -> &Files {
        &self.files
    }
}

/// First and last minute of each damaged segment.
type Lost = Vec<(Minute, Minute)>;

/// From the first minute of a run of hours to its last; from the first window to the last, where it is of a roll-up.
fn span(window: Window, run: &[Wanted]) -> (Minute, Minute) {
    let first = run.first().map_or(0, |of| of.hour);
    let last = run.last().map_or(0, |of| of.hour);
    let number = Minute::from_index;
    (window.first(number(first.saturating_mul(60))), window.first(number(last.saturating_mul(60).saturating_add(59))))
}

fn is_wanted(run: &[Wanted], minute: Minute) -> bool {
    let hour = hour_of(minute);
    let at = run.first().and_then(|first| usize::try_from(hour.checked_sub(first.hour)?).ok());
    at.and_then(|at| run.get(at)).is_some_and(|of| of.minutes.contains(minute))
}

fn finished(
    parts: &ViewParts,
    of: &Wanted,
    rows: &mut BTreeMap<Minute, PartialRows>,
    lost: &Lost,
) -> Result<Hour, StoreError> {
    let mut hour = Hour::default();
    let whole = |minute: &Minute| !lost.iter().any(|(first, last)| (first..=last).contains(&minute));
    for minute in of.minutes.minutes(of.hour).map(|number| parts.window().first(number)).filter(whole) {
        let partial = rows.remove(&minute).unwrap_or_else(|| parts.view().no_rows(minute));
        hour.minutes.insert(minute, Arc::new(parts.stored(partial)?.0));
    }
    Ok(hour)
}

fn mark_rows(
    parts: &ViewParts,
    run: &[Wanted],
    batch: &arrow::array::RecordBatch,
    seen: &mut Seen,
) -> Result<(), StoreError> {
    let shown = batch.columns().get(1..).unwrap_or_default();
    let times = batch.columns().first().and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| parts.frames.misfit("a segment has no minutes"))?;
    let keys = parts.frames.keys_of(batch)?;
    let numbers = parts.series.intern(&keys, shown).map_err(|source| parts.columns_error(source))?;
    for (series, micros) in numbers.iter().zip(times.values()) {
        let minute = EventTime::from_micros(*micros).minute();
        if is_wanted(run, minute) {
            mark(seen, *series, short(minute));
        }
    }
    Ok(())
}
