//! A view whose rows lie in memory as they were given: for rule tests, what-if tables and benches.
//! It fills no gaps.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::UInt32Array,
    compute::{SortOptions, lexsort_to_indices, take_record_batch},
    error::ArrowError,
    record_batch::RecordBatch,
    row::{RowConverter, SortField},
};
use datafusion::error::DataFusionError;
use tidewatch_model::{Minute, ViewMeta};
use tidewatch_store::StoreError;

use crate::{MinuteTable, Rows, minutes::minutes_of};

#[derive(Debug)]
pub struct ListedView {
    meta: Arc<ViewMeta>,
    /// In the order of minutes, then of series.
    rows: RecordBatch,
    minutes: Vec<i64>,
    series: Vec<u32>,
    sealed_through: Minute,
}

impl ListedView {
    /// Rows in the view's schema, in any order. Those after `sealed_through` are open; the column
    /// `sealed` is the caller's to agree with that.
    pub fn new(meta: Arc<ViewMeta>, rows: &RecordBatch, sealed_through: Minute) -> Result<Self, DataFusionError> {
        let numbered = numbered(&meta, rows)?;
        let number_column: arrow::array::ArrayRef = Arc::new(UInt32Array::from(numbered.clone()));
        let ascending = Some(SortOptions::default());
        let order = lexsort_to_indices(
            &[
                arrow::compute::SortColumn { values: Arc::clone(rows.column(0)), options: ascending },
                arrow::compute::SortColumn { values: number_column, options: ascending },
            ],
            None,
        )?;
        let sorted = take_record_batch(rows, &order)?;
        let series = order.values().iter().map(|at| numbered[*at as usize]).collect();
        Ok(Self { meta, minutes: minutes_of(&sorted)?, rows: sorted, series, sealed_through })
    }

    fn range(&self, from: Minute, to: Minute) -> Rows {
        let first = self.minutes.partition_point(|minute| *minute < from.index());
        let end = self.minutes.partition_point(|minute| *minute <= to.index()).max(first);
        Rows { batch: self.rows.slice(first, end - first), series: self.series[first..end].to_vec() }
    }
}

/// Each row's series: keys are numbered in the order of their first row.
fn numbered(meta: &ViewMeta, rows: &RecordBatch) -> Result<Vec<u32>, ArrowError> {
    if meta.keys.is_empty() {
        return Ok(vec![0; rows.num_rows()]);
    }
    let fields = meta.keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
    let converter = RowConverter::new(fields)?;
    // The keys stand right behind the minute.
    let keys = converter.convert_columns(&rows.columns()[1..=meta.keys.len()])?;
    let mut known = HashMap::new();
    Ok(keys
        .iter()
        .map(|key| {
            let next = known.len() as u32;
            *known.entry(key.owned()).or_insert(next)
        })
        .collect())
}

impl MinuteTable for ListedView {
    fn meta(&self) -> &Arc<ViewMeta> {
        &self.meta
    }

    fn sealed_through(&self) -> Option<Minute> {
        Some(self.sealed_through)
    }

    fn oldest_sealed(&self) -> Option<Minute> {
        self.oldest().filter(|oldest| *oldest <= self.sealed_through)
    }

    fn oldest(&self) -> Option<Minute> {
        self.minutes.first().map(|minute| Minute::from_index(*minute))
    }

    fn sealed_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        Ok(self.range(from, to.min(self.sealed_through)))
    }

    fn open_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        Ok(self.range(from.max(self.sealed_through.next()), to))
    }
}
