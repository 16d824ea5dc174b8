//! `TableSnapshot`: a table that is no view, such as `transactions`, at one moment: the rows that are on disk, and behind them
//! those in memory that no checkpoint has yet. It is read piece by piece, a row group at a time, so that a long table never
//! lies in memory as a whole.
//!
//! A damaged segment is reported once and left out, and the rest is served.

use std::{collections::VecDeque, sync::Arc};

use arrow::{
    array::{ArrayRef, RecordBatch, RecordBatchOptions, new_null_array},
    datatypes::SchemaRef,
    error::ArrowError,
};
use tidewatch_model::Minute;

use crate::{
    cold::Cold,
    error::{FolderError, StoreError},
    segment::Segment,
    verified::Groups,
};

/// What is known of a table before there is any data.
#[derive(Clone, Debug)]
pub struct TableShape {
    pub name: String,
    pub schema: SchemaRef,
    /// The number of the column with the time of a row, where there is one.
    pub time: Option<usize>,
}

#[derive(Clone, Debug)]
pub struct TableSnapshot {
    shape: Arc<TableShape>,
    cold: Option<Cold>,
    hot: Arc<[RecordBatch]>,
}

impl TableSnapshot {
    /// `hot` are the rows that are not on disk, of the shape's schema.
    pub fn new(shape: Arc<TableShape>, cold: Option<Cold>, hot: Vec<RecordBatch>) -> Self {
        Self { shape, cold, hot: hot.into() }
    }

    pub fn shape(&self) -> &Arc<TableShape> {
        &self.shape
    }

    /// The rows, these columns of them, oldest first. Rows outside the minutes are left out where that costs nothing; whoever
    /// wants none of them looks for himself.
    pub fn scan(&self, columns: &[usize], minutes: (Minute, Minute)) -> Result<TableScan, StoreError> {
        let schema = self.shape.schema.project(columns).map_err(|error| self.columns_error(error))?;
        let segments = self.cold.as_ref().map_or(&[][..], |cold| cold.table(&self.shape.name));
        let wanted = segments.iter().filter(|of| of.minutes.0 <= minutes.1 && minutes.0 <= of.minutes.1);
        Ok(TableScan {
            table: self.clone(),
            columns: columns.to_vec(),
            schema: Arc::new(schema),
            minutes,
            segments: wanted.cloned().collect(),
            groups: None,
            ready: VecDeque::new(),
            hot: 0,
        })
    }

    /// All rows, all columns.
    pub fn scan_all(&self) -> Result<TableScan, StoreError> {
        let columns: Vec<usize> = (0..self.shape.schema.fields().len()).collect();
        self.scan(&columns, (Minute::from_index(i64::MIN), Minute::from_index(i64::MAX)))
    }

    fn columns_error(&self, source: ArrowError) -> StoreError {
        StoreError::Table { table: self.shape.name.clone(), source }
    }
}

/// A table that is being read.
#[derive(Debug)]
pub struct TableScan {
    table: TableSnapshot,
    columns: Vec<usize>,
    schema: SchemaRef,
    minutes: (Minute, Minute),
    segments: VecDeque<Segment>,
    /// The rest of the segment that is being read.
    groups: Option<Groups>,
    ready: VecDeque<RecordBatch>,
    /// How many of the batches in memory were given.
    hot: usize,
}

impl TableScan {
    /// Of rows that were read from disk and not given yet.
    pub fn bytes(&self) -> usize {
        self.ready.iter().map(RecordBatch::get_array_memory_size).sum()
    }

    fn next_batch(&mut self) -> Result<Option<RecordBatch>, StoreError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if let Some(mut groups) = self.groups.take() {
                if let Some(batches) = self.group(&mut groups)? {
                    self.ready.extend(batches);
                    self.groups = Some(groups);
                }
            } else if let Some(segment) = self.segments.pop_front() {
                self.groups = self.open(segment)?;
            } else {
                let Some(hot) = self.table.hot.get(self.hot) else { return Ok(None) };
                self.hot += 1;
                return hot.project(&self.columns).map(Some).map_err(|error| self.table.columns_error(error));
            }
        }
    }

    fn open(&self, segment: Segment) -> Result<Option<Groups>, StoreError> {
        let Some(cold) = &self.table.cold else { return Ok(None) };
        self.spared(Groups::open(cold.files(), segment))
    }

    /// The next row group as rows of this scan; `None` behind the last, or where the rest is damaged.
    fn group(&self, groups: &mut Groups) -> Result<Option<Vec<RecordBatch>>, StoreError> {
        let shape = &self.table.shape;
        let fields = self.schema.fields();
        let names: Vec<&str> = fields.iter().map(|field| field.name().as_str()).collect();
        let time = shape.time.and_then(|at| shape.schema.fields().get(at)).map(|field| field.name().as_str());
        let Some(batches) = self.spared(groups.next(&names, time, self.minutes))?.flatten() else { return Ok(None) };
        batches.iter().map(|batch| self.fitted(batch)).collect::<Result<_, _>>().map(Some)
    }

    /// A segment's rows with the columns of the table: those that came later are NULL in it.
    fn fitted(&self, batch: &RecordBatch) -> Result<RecordBatch, StoreError> {
        let column = |field: &arrow::datatypes::FieldRef| -> ArrayRef {
            let found = batch.column_by_name(field.name()).cloned();
            found.unwrap_or_else(|| new_null_array(field.data_type(), batch.num_rows()))
        };
        let columns = self.schema.fields().iter().map(column).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)
            .map_err(|error| self.table.columns_error(error))
    }

    fn spared<T>(&self, read: Result<T, FolderError>) -> Result<Option<T>, StoreError> {
        let unread = |source| StoreError::Unread { name: self.table.shape.name.clone(), source };
        match &self.table.cold {
            Some(cold) => cold.spare(read).map_err(unread),
            None => read.map(Some).map_err(unread),
        }
    }
}

impl Iterator for TableScan {
    type Item = Result<RecordBatch, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}
