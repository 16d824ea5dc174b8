//! Minutes of a view as the rows of a segment: sorted by key, then minute, so that a series lies together and its numbers
//! differ little from row to row.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{ArrayRef, AsArray, RecordBatch, TimestampMicrosecondArray},
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
    datatypes::{SchemaRef, TimestampMicrosecondType},
};
use tidewatch_model::{EventTime, Minute, Window};
use tidewatch_views::{KeyBytes, KeyCodec, PartialRows, View};

use crate::head::SeenBefore;

/// Columns that are not those of the view, or do not go together.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the columns of the view `{view}` do not fit: {reason}")]
pub struct Misfit {
    pub view: String,
    pub reason: String,
}

/// A view, and the codec of its keys, with which its frames are written and read.
#[derive(Debug)]
pub struct ViewFrames {
    view: Arc<View>,
    codec: KeyCodec,
}

impl ViewFrames {
    pub fn new(view: Arc<View>) -> Result<Self, Misfit> {
        let codec = view.key_codec();
        let codec = codec.map_err(|error| Misfit { view: view.meta.name.clone(), reason: error.to_string() })?;
        Ok(Self { view, codec })
    }

    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    pub fn codec(&self) -> &KeyCodec {
        &self.codec
    }

    pub fn window(&self) -> Window {
        self.view.meta.window
    }

    pub fn name(&self) -> &str {
        &self.view.meta.name
    }

    pub fn fingerprint(&self) -> u64 {
        self.view.fingerprint()
    }

    /// Adds up what belongs to one minute, or one window. `None` where there are no rows.
    pub fn write<'a>(&self, minutes: impl IntoIterator<Item = &'a PartialRows>) -> Result<Option<RecordBatch>, Misfit> {
        let rows: Vec<PartialRows> =
            added_up(self.window(), minutes).into_values().filter(|rows| !rows.is_empty()).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let frame = self.view.to_frame(&self.codec, &rows).map_err(|error| self.misfit(error))?;
        self.sorted(&frame).map(Some)
    }

    fn sorted(&self, frame: &RecordBatch) -> Result<RecordBatch, Misfit> {
        // The minute comes first and the keys follow it.
        let keys = frame.columns().iter().skip(1).take(self.view.keys.len());
        let by: Vec<SortColumn> = keys
            .chain(frame.columns().first())
            .map(|column| SortColumn { values: Arc::clone(column), options: None })
            .collect();
        let order = lexsort_to_indices(&by, None).map_err(|error| self.misfit(error))?;
        take_record_batch(frame, &order).map_err(|error| self.misfit(error))
    }

    /// The minutes of one segment. Its rows are sorted by key, so that each of its batches may have rows of every minute:
    /// together they make each minute once.
    pub fn read(&self, batches: &[RecordBatch]) -> Result<Vec<PartialRows>, Misfit> {
        let Some(first) = batches.first() else { return Ok(Vec::new()) };
        let whole = concat_batches(&first.schema(), batches).map_err(|error| self.misfit(error))?;
        self.view.from_frame(&self.codec, &whole).map_err(|error| self.misfit(error))
    }

    /// What was seen before an hour: the minutes in which the keys were seen last, and the keys.
    pub fn write_seen(&self, seen: &SeenBefore) -> Result<RecordBatch, Misfit> {
        let minutes = seen.keys.iter().map(|(_, minute)| minute.start().micros());
        let minutes = TimestampMicrosecondArray::from_iter_values(minutes).with_timezone("UTC");
        let mut columns: Vec<ArrayRef> = vec![Arc::new(minutes)];
        let keys: Vec<&KeyBytes> = seen.keys.iter().map(|(key, _)| key).collect();
        let keys = self.codec.decode(&keys).map_err(|error| self.misfit(error))?;
        columns.extend(self.view.key_order.iter().filter_map(|at| keys.get(*at).cloned()));
        RecordBatch::try_new(self.seen_schema()?, columns).map_err(|error| self.misfit(error))
    }

    pub fn read_seen(&self, hour: i64, rows: &RecordBatch) -> Result<SeenBefore, Misfit> {
        if rows.schema_ref().fields() != self.seen_schema()?.fields() {
            return Err(self.misfit("what was seen before an hour has not the view's keys"));
        }
        let minutes = rows.columns().first().and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
        let minutes = minutes.ok_or_else(|| self.misfit("what was seen before an hour has no minutes"))?;
        let keys = self.keys_of(rows)?;
        let minutes = minutes.values().iter().map(|micros| EventTime::from_micros(*micros).minute());
        Ok(SeenBefore { hour, keys: keys.into_iter().zip(minutes).collect() })
    }

    /// The keys of rows whose first column is the minute, and the keys behind it.
    pub(crate) fn keys_of(&self, rows: &RecordBatch) -> Result<Vec<KeyBytes>, Misfit> {
        let shown = rows.columns().get(1..).unwrap_or_default();
        // The codec has an order of its own.
        let places = (0..self.view.keys.len()).map(|key| self.view.key_order.iter().position(|at| *at == key));
        let keys: Option<Vec<ArrayRef>> = places.map(|place| shown.get(place?).cloned()).collect();
        let keys = keys.ok_or_else(|| self.misfit("a key has no column"))?;
        Ok(match self.codec.encode(&keys).map_err(|error| self.misfit(error))? {
            Some(rows) => rows.iter().map(|row| row.data().into()).collect(),
            None => vec![KeyBytes::default(); rows.num_rows()],
        })
    }

    fn seen_schema(&self) -> Result<SchemaRef, Misfit> {
        let columns: Vec<usize> = (0..=self.view.keys.len()).collect();
        self.view.frame_schema().project(&columns).map(Arc::new).map_err(|error| self.misfit(error))
    }

    pub(crate) fn misfit(&self, error: impl std::fmt::Display) -> Misfit {
        Misfit { view: self.name().to_owned(), reason: error.to_string() }
    }
}

/// What belongs to one window, added up, by the window's first minute.
pub(crate) fn added_up<'a>(
    window: Window,
    rows: impl IntoIterator<Item = &'a PartialRows>,
) -> BTreeMap<Minute, PartialRows> {
    let mut windows: BTreeMap<Minute, Vec<&PartialRows>> = BTreeMap::new();
    for rows in rows {
        windows.entry(window.start(rows.minute())).or_default().push(rows);
    }
    windows.into_iter().filter_map(|(start, rows)| Some((start, PartialRows::summed(start, rows)?))).collect()
}
