//! The seam to whoever keeps the minutes: what a scan asks of a view. It never plans and never computes.

use std::{fmt, sync::Arc};

use arrow::record_batch::RecordBatch;
use tidewatch_model::{Minute, ViewMeta};
use tidewatch_store::{Rows, StoreError, ViewSnapshot};

/// The minutes of one view as they stood at one moment. Implementations never change what they once
/// answered. Ranges have `from <= to` and may reach beyond what is held, where there simply are no rows.
pub trait MinuteTable: Send + Sync {
    fn meta(&self) -> &Arc<ViewMeta>;

    /// The newest sealed minute.
    fn sealed_through(&self) -> Option<Minute>;

    /// The oldest sealed minute held: where history begins.
    fn oldest_sealed(&self) -> Option<Minute>;

    /// The oldest minute held, sealed or open.
    fn oldest(&self) -> Option<Minute>;

    /// Sealed rows of the minutes `from ..= to`, gaps filled as the view says. Older ones are read from disk, which may fail.
    fn sealed_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError>;

    /// Rows of the minutes `from ..= to` that are still open.
    fn open_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError>;
}

impl MinuteTable for ViewSnapshot {
    fn meta(&self) -> &Arc<ViewMeta> {
        Self::meta(self)
    }

    fn sealed_through(&self) -> Option<Minute> {
        Self::sealed_through(self)
    }

    fn oldest_sealed(&self) -> Option<Minute> {
        Self::oldest_sealed(self)
    }

    fn oldest(&self) -> Option<Minute> {
        Self::oldest(self)
    }

    fn sealed_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        Self::sealed_rows(self, from, to)
    }

    fn open_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        Self::open_rows(self, from, to)
    }
}

impl fmt::Debug for dyn MinuteTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MinuteTable").field("view", &self.meta().name).finish_non_exhaustive()
    }
}

/// Rows that the disk did not give.
pub(crate) fn unread(error: StoreError) -> datafusion::error::DataFusionError {
    datafusion::error::DataFusionError::External(Box::new(error))
}

/// The start of each row's minute as a whole number of minutes.
pub(crate) fn minutes_of(batch: &RecordBatch) -> Result<Vec<i64>, datafusion::error::DataFusionError> {
    let column = datafusion::common::cast::as_timestamp_microsecond_array(batch.column(0))?;
    Ok(column.values().iter().map(|micros| micros.div_euclid(60_000_000)).collect())
}
