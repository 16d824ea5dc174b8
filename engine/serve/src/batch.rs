//! A batch on its way from the wire into a submission: accepted rows as columns, and refused events.

use arrow::array::RecordBatch;
use tidewatch_model::limits;

use crate::{door::Fault, engine::Rejected, proto::tidewatch::v1::Rejection};

/// What became of the events of one request.
#[derive(Clone, Debug)]
pub struct Batch {
    pub rows: RecordBatch,
    /// For each row its index in the request.
    pub offsets: Vec<u32>,
    pub rejected: Vec<Rejected>,
}

/// Gathers refused events within the bytes that one batch may keep of them.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    list: Vec<Rejected>,
    bytes: usize,
}

impl Rejections {
    /// `excerpt` is asked only while there is room for it.
    pub(crate) fn add(&mut self, index: u32, fault: Fault, excerpt: impl FnOnce() -> String) {
        let event = if self.bytes < limits::REJECTED_BATCH_BYTES_MAX { excerpt() } else { String::new() };
        self.bytes += event.len() + fault.reason.len();
        self.list.push(Rejected { index, reason: fault.reason, field: fault.field, event });
    }

    pub(crate) fn into_list(self) -> Vec<Rejected> {
        self.list
    }
}

/// The refusals that one answer lists.
pub(crate) fn answered(rejected: &[Rejected]) -> Vec<Rejection> {
    rejected
        .iter()
        .take(limits::REJECTIONS_ANSWERED_MAX)
        .map(|rejected| Rejection {
            index: rejected.index,
            reason: rejected.reason.clone(),
            field: rejected.field.clone().unwrap_or_default(),
        })
        .collect()
}
