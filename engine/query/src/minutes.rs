//! The seam to whoever keeps the minutes: what a scan asks of a view. It never plans and never computes.

use std::{fmt, sync::Arc};

use arrow::record_batch::RecordBatch;
use tidewatch_model::{Minute, ViewMeta};

/// Rows of a view in order of minute, then series; `series` holds each row's series number,
/// which is the same for the same key in every minute of this process.
#[derive(Clone, Debug)]
pub struct Rows {
    pub batch: RecordBatch,
    pub series: Vec<u32>,
}

/// The minutes of one view as they stood at one moment. Implementations never change what they once
/// answered; ranges may reach beyond what is held, which then simply has no rows.
pub trait MinuteTable: Send + Sync {
    fn meta(&self) -> &Arc<ViewMeta>;

    /// The newest sealed minute.
    fn sealed_through(&self) -> Option<Minute>;

    /// The oldest minute held, sealed or open.
    fn oldest(&self) -> Option<Minute>;

    /// Sealed rows of the minutes `from ..= to`, gaps filled as the view says.
    fn sealed_rows(&self, from: Minute, to: Minute) -> Rows;

    /// Rows of the minutes `from ..= to` that are still open.
    fn open_rows(&self, from: Minute, to: Minute) -> Rows;
}

impl fmt::Debug for dyn MinuteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MinuteTable").field("view", &self.meta().name).finish_non_exhaustive()
    }
}

/// The start of each row's minute as a whole number of minutes.
pub(crate) fn minutes_of(batch: &RecordBatch) -> Result<Vec<i64>, datafusion::error::DataFusionError> {
    let column = datafusion::common::cast::as_timestamp_microsecond_array(batch.column(0))?;
    Ok(column.values().iter().map(|micros| micros.div_euclid(60_000_000)).collect())
}
