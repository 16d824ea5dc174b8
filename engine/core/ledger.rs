//! `Ledger`: a bounded, append-only table in memory, such as `late_events`. At its limit the oldest rows go.
//!
//! Rows are numbered in the order in which they came, from 0 and for good, so that what a checkpoint has saved of them
//! and what memory still has can be compared. The ledger never writes: whoever saves asks for what is unsaved.

use std::collections::VecDeque;

use arrow::{array::RecordBatch, compute, datatypes::SchemaRef};

/// Batches are joined when this many more have come, so that a reader does not meet a thousand of one row each.
const BATCHES_MAX: usize = 256;

/// Batches of so many rows are long enough.
const JOINED_ROWS: usize = 1_024;

#[derive(Debug, Clone)]
pub struct Ledger {
    schema: SchemaRef,
    batches: VecDeque<RecordBatch>,
    rows: usize,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
    /// How many of the first batches are long enough, or have been joined.
    joined: usize,
    /// How many rows went from the front, since the first of all: the number of the first row in `batches`.
    dropped: u64,
    unsaved: Unsaved,
}

/// What is known of rows that no checkpoint has yet.
#[derive(Debug, Clone, Default)]
struct Unsaved {
    /// Rows with a lower number are saved, or lost for saving.
    from: u64,
    /// Whether rows that find no room wait to be saved.
    are_kept: bool,
    /// Those that do, oldest first: the rows just before the first in the ledger's `batches`.
    waiting: VecDeque<RecordBatch>,
    bytes: usize,
    /// Rows that went before they were saved.
    dropped: u64,
}

/// Saved rows are not rows of this table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "saved rows have the columns {found}, but their table has {expected}: it was changed after they were saved; \
     undo the change, or move the saved rows away"
)]
pub struct LedgerError {
    expected: String,
    found: String,
}

impl Ledger {
    pub fn new(schema: SchemaRef, rows_max: usize, bytes_max: usize) -> Self {
        Self {
            schema,
            batches: VecDeque::new(),
            rows: 0,
            bytes: 0,
            rows_max,
            bytes_max,
            joined: 0,
            dropped: 0,
            unsaved: Unsaved::default(),
        }
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends rows of the ledger's schema; rows of any other are a defect of the caller and are left out.
    pub fn push(&mut self, rows: RecordBatch) {
        debug_assert_eq!(rows.schema().fields(), self.schema.fields());
        if rows.schema().fields() == self.schema.fields() {
            self.append(rows);
        }
    }

    /// All rows, oldest first.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.batches.iter().cloned().collect()
    }

    fn append(&mut self, rows: RecordBatch) {
        if rows.num_rows() == 0 {
            return;
        }
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.batches.push_back(rows);
        while (self.rows > self.rows_max || self.bytes > self.bytes_max) && self.batches.len() > 1 {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.rows -= oldest.num_rows();
            self.bytes = self.bytes.saturating_sub(oldest.get_array_memory_size());
            self.joined = self.joined.saturating_sub(1);
            self.unsaved.take_over(&oldest, self.dropped);
            self.dropped = self.dropped.saturating_add(oldest.num_rows() as u64);
        }
        self.unsaved.make_room(self.bytes_max.saturating_mul(2).saturating_sub(self.bytes));
        if self.batches.len() - self.joined > BATCHES_MAX {
            self.join();
        }
    }

    /// Joins neighbours until they hold about a thousand rows each. What is long enough is not looked at again.
    fn join(&mut self) {
        let mut run: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        for batch in self.batches.split_off(self.joined) {
            self.bytes = self.bytes.saturating_sub(batch.get_array_memory_size());
            rows += batch.num_rows();
            run.push(batch);
            if rows >= JOINED_ROWS {
                self.put_joined(&std::mem::take(&mut run));
                self.joined = self.batches.len();
                rows = 0;
            }
        }
        self.put_joined(&run);
    }

    fn put_joined(&mut self, run: &[RecordBatch]) {
        let joined = match run {
            [] => Vec::new(),
            [one] => vec![one.clone()],
            many => match compute::concat_batches(&self.schema, many) {
                Ok(joined) => vec![joined],
                Err(_) => many.to_vec(),
            },
        };
        self.bytes += joined.iter().map(RecordBatch::get_array_memory_size).sum::<usize>();
        self.batches.extend(joined);
    }
}

/// For whoever saves the rows.
impl Ledger {
    /// The ledger as it was saved: `batches` are its last rows, the first of them being number `first_row`. Should they
    /// be more than have room, the oldest are dropped. They count as saved, and what comes is kept until it is.
    ///
    /// # Errors
    /// The rows are of another schema.
    pub fn restore(
        schema: SchemaRef,
        rows_max: usize,
        bytes_max: usize,
        batches: impl IntoIterator<Item = RecordBatch>,
        first_row: u64,
    ) -> Result<Self, LedgerError> {
        let mut ledger = Self::new(schema, rows_max, bytes_max).keep_unsaved();
        (ledger.dropped, ledger.unsaved.from) = (first_row, first_row);
        for rows in batches {
            if rows.schema().fields() != ledger.schema.fields() {
                return Err(LedgerError { expected: columns(&ledger.schema), found: columns(&rows.schema()) });
            }
            ledger.unsaved.from = ledger.unsaved.from.saturating_add(rows.num_rows() as u64);
            ledger.append(rows);
        }
        Ok(ledger)
    }

    /// This empty ledger with its last rows as they were saved.
    pub fn restored(&self, batches: impl IntoIterator<Item = RecordBatch>) -> Result<Self, LedgerError> {
        Self::restore(SchemaRef::clone(&self.schema), self.rows_max, self.bytes_max, batches, 0)
    }

    /// From now on rows that find no room are kept until they are saved. Together with the others they take at most
    /// twice the ledger's bytes: at that limit the oldest unsaved rows go, and are counted.
    #[must_use]
    pub fn keep_unsaved(mut self) -> Self {
        self.unsaved.are_kept = true;
        self
    }

    /// The rows that are not saved, oldest first; they are the last of all, so the number of the first among them is
    /// `total_rows()` less their count. Copies no rows, and takes as long as there are batches among them.
    pub fn unsaved(&self) -> Vec<RecordBatch> {
        let mut unsaved = Vec::new();
        let mut first = self.total_rows();
        for batch in self.batches.iter().rev() {
            first = first.saturating_sub(batch.num_rows() as u64);
            unsaved.extend(since(batch, first, self.unsaved.from));
            if first <= self.unsaved.from {
                break;
            }
        }
        unsaved.extend(self.unsaved.waiting.iter().rev().cloned());
        unsaved.reverse();
        unsaved
    }

    /// All rows with a lower number are saved.
    pub fn saved_through(&mut self, row: u64) {
        let row = row.min(self.total_rows());
        self.unsaved.saved_through(row, self.dropped);
    }

    /// `unsaved`, which count as saved from now on.
    pub fn take_unsaved(&mut self) -> Vec<RecordBatch> {
        let unsaved = self.unsaved();
        self.saved_through(self.total_rows());
        unsaved
    }

    /// Rows that were never asked for before they had to go.
    pub fn unsaved_dropped(&self) -> u64 {
        self.unsaved.dropped
    }

    /// How many rows there ever were.
    pub fn total_rows(&self) -> u64 {
        self.dropped.saturating_add(self.rows as u64)
    }

    /// How many of them are no longer in memory: all with a lower number than this.
    pub fn dropped_rows(&self) -> u64 {
        self.dropped
    }
}

impl Unsaved {
    /// A batch went from the ledger; `first` is the number of its first row.
    fn take_over(&mut self, batch: &RecordBatch, first: u64) {
        let Some(rows) = since(batch, first, self.from) else { return };
        if self.are_kept {
            self.bytes += rows.get_array_memory_size();
            self.waiting.push_back(rows);
        } else {
            self.dropped += rows.num_rows() as u64;
            self.from = first.saturating_add(batch.num_rows() as u64);
        }
    }

    fn make_room(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(oldest) = self.pop()
        {
            self.dropped += oldest.num_rows() as u64;
            self.from += oldest.num_rows() as u64;
        }
    }

    fn pop(&mut self) -> Option<RecordBatch> {
        let oldest = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(oldest.get_array_memory_size());
        Some(oldest)
    }

    /// `end` is the number of the row after the last that waits.
    fn saved_through(&mut self, row: u64, end: u64) {
        let waiting: usize = self.waiting.iter().map(RecordBatch::num_rows).sum();
        let mut first = end.saturating_sub(waiting as u64);
        while first < row
            && let Some(oldest) = self.pop()
        {
            let next = first + oldest.num_rows() as u64;
            if let Some(rest) = since(&oldest, first, row) {
                self.bytes += rest.get_array_memory_size();
                self.waiting.push_front(rest);
                break;
            }
            first = next;
        }
        self.from = self.from.max(row);
    }
}

/// The rows of a batch from number `row` on, if any; `first` is the number of its first.
fn since(batch: &RecordBatch, first: u64, row: u64) -> Option<RecordBatch> {
    let skip = usize::try_from(row.saturating_sub(first)).unwrap_or(usize::MAX);
    (skip < batch.num_rows()).then(|| batch.slice(skip, batch.num_rows() - skip))
}

fn columns(schema: &SchemaRef) -> String {
    let columns = schema.fields().iter().map(|field| format!("{} {}", field.name(), field.data_type()));
    columns.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
