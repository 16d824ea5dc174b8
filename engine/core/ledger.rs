//! `Ledger`: a bounded, append-only table in memory, such as `late_events`. At its limit the oldest rows go.

use std::collections::VecDeque;

use arrow::{array::RecordBatch, compute, datatypes::SchemaRef};

/// Batches are joined when there are this many, so that a reader does not meet a thousand of one row each.
const BATCHES_MAX: usize = 256;

#[derive(Debug, Clone)]
pub struct Ledger {
    schema: SchemaRef,
    batches: VecDeque<RecordBatch>,
    rows: usize,
    bytes: usize,
    rows_max: usize,
    bytes_max: usize,
}

impl Ledger {
    pub fn new(schema: SchemaRef, rows_max: usize, bytes_max: usize) -> Self {
        Self { schema, batches: VecDeque::new(), rows: 0, bytes: 0, rows_max, bytes_max }
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
        if rows.num_rows() == 0 || rows.schema().fields() != self.schema.fields() {
            return;
        }
        self.rows += rows.num_rows();
        self.bytes += rows.get_array_memory_size();
        self.batches.push_back(rows);
        while (self.rows > self.rows_max || self.bytes > self.bytes_max) && self.batches.len() > 1 {
            if let Some(oldest) = self.batches.pop_front() {
                self.rows -= oldest.num_rows();
                self.bytes = self.bytes.saturating_sub(oldest.get_array_memory_size());
            }
        }
        if self.batches.len() > BATCHES_MAX {
            self.join();
        }
    }

    /// Joins neighbours until they hold about a thousand rows each.
    fn join(&mut self) {
        let mut joined: VecDeque<RecordBatch> = VecDeque::new();
        let mut run: Vec<RecordBatch> = Vec::new();
        let mut rows = 0;
        for batch in std::mem::take(&mut self.batches) {
            rows += batch.num_rows();
            run.push(batch);
            if rows >= 1_024 {
                joined.extend(self.concat(&std::mem::take(&mut run)));
                rows = 0;
            }
        }
        joined.extend(self.concat(&run));
        self.bytes = joined.iter().map(RecordBatch::get_array_memory_size).sum();
        self.batches = joined;
    }

    fn concat(&self, run: &[RecordBatch]) -> Vec<RecordBatch> {
        match run {
            [] => Vec::new(),
            [one] => vec![one.clone()],
            many => match compute::concat_batches(&self.schema, many) {
                Ok(joined) => vec![joined],
                Err(_) => many.to_vec(),
            },
        }
    }

    /// All rows, oldest first.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.batches.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{AsArray, Int64Array},
        datatypes::{DataType, Field, Int64Type, Schema},
    };

    use super::*;

    #[test]
    fn the_newest_rows_stay_in_order() {
        let schema = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let mut ledger = Ledger::new(Arc::clone(&schema), 1_000, usize::MAX);
        for n in 0..3_000 {
            let column = Arc::new(Int64Array::from(vec![n]));
            ledger.push(RecordBatch::try_new(Arc::clone(&schema), vec![column]).unwrap());
        }
        let rows: Vec<i64> =
            ledger.batches().iter().flat_map(|b| b.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
        assert!(rows.len() <= 1_000 && rows.len() > 100, "{} rows", rows.len());
        assert_eq!(rows.last(), Some(&2_999));
        assert!(rows.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    }
}
