//! Minutes of a view as the rows of a segment: sorted by key, then minute, so that a series lies together and its numbers
//! differ little from row to row.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::RecordBatch,
    compute::{SortColumn, concat_batches, lexsort_to_indices, take_record_batch},
};
use tidewatch_model::Minute;
use tidewatch_views::{KeyCodec, PartialRows, View};

use super::CheckpointError;

/// A view, and the codec of its keys, with which its frames are written and read.
#[derive(Debug)]
pub struct ViewFrames {
    view: Arc<View>,
    codec: KeyCodec,
}

impl ViewFrames {
    pub fn new(view: Arc<View>) -> Result<Self, CheckpointError> {
        let codec = view.key_codec().map_err(|error| CheckpointError::columns(&view.meta.name, error))?;
        Ok(Self { view, codec })
    }

    pub fn name(&self) -> &str {
        &self.view.meta.name
    }

    pub fn fingerprint(&self) -> u64 {
        self.view.fingerprint()
    }

    /// Adds up what belongs to one minute. `None` where there are no rows.
    pub fn write<'a>(
        &self,
        minutes: impl IntoIterator<Item = &'a PartialRows>,
    ) -> Result<Option<RecordBatch>, CheckpointError> {
        let mut merged: BTreeMap<Minute, PartialRows> = BTreeMap::new();
        for rows in minutes {
            let sum = match merged.remove(&rows.minute()) {
                Some(before) => before.merged(rows),
                None => rows.clone(),
            };
            merged.insert(rows.minute(), sum);
        }
        let rows: Vec<PartialRows> = merged.into_values().filter(|rows| !rows.is_empty()).collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let frame = self.view.to_frame(&self.codec, &rows).map_err(|error| self.misfit(error))?;
        self.sorted(&frame).map(Some)
    }

    fn sorted(&self, frame: &RecordBatch) -> Result<RecordBatch, CheckpointError> {
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
    pub fn read(&self, batches: &[RecordBatch]) -> Result<Vec<PartialRows>, CheckpointError> {
        let Some(first) = batches.first() else { return Ok(Vec::new()) };
        let whole = concat_batches(&first.schema(), batches).map_err(|error| self.misfit(error))?;
        self.view.from_frame(&self.codec, &whole).map_err(|error| self.misfit(error))
    }

    fn misfit(&self, error: impl std::fmt::Display) -> CheckpointError {
        CheckpointError::columns(self.name(), error)
    }
}
