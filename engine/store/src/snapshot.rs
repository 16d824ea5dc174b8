//! Immutable views of the store for readers: rules, queries, PromQL, remote read.

use std::sync::Arc;

use arrow::{datatypes::SchemaRef, record_batch::RecordBatch};
use tidewatch_model::Minute;

use crate::ViewMeta;

#[derive(Clone, Debug)]
pub struct Snapshot {
    views: Arc<[Arc<ViewSnapshot>]>,
}

#[derive(Debug)]
pub struct ViewSnapshot {
    meta: Arc<ViewMeta>,
}

/// Rows of a view in order of minute, then series; `series` holds each row's series number,
/// which is the same for the same key in every minute of this process.
#[derive(Clone, Debug)]
pub struct Rows {
    pub batch: RecordBatch,
    pub series: Vec<u32>,
}

impl ViewSnapshot {
    pub fn meta(&self) -> &Arc<ViewMeta> {
        &self.meta
    }
    pub fn schema(&self) -> &SchemaRef {
        self.meta.schema()
    }
    /// The newest sealed minute.
    pub fn sealed_through(&self) -> Option<Minute> { None }
    /// The oldest minute held.
    pub fn oldest(&self) -> Option<Minute> { None }
    /// Sealed rows of the minutes `from ..= to`, gaps filled as the view says.
    pub fn sealed_rows(&self, _from: Minute, _to: Minute) -> Rows { unreachable!() }
    /// Rows of minutes that are still open, `sealed = false`.
    pub fn open_rows(&self, _from: Minute, _to: Minute) -> Rows { unreachable!() }
}
