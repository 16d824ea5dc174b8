//! Parquet: only the columns that are wanted are read, in the types that the file gives them.

use std::{
    fs::File,
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use arrow::{array::ArrayRef, datatypes::DataType};
use parquet::arrow::{
    ProjectionMask,
    arrow_reader::{
        ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
    },
};

use crate::{
    SourceError,
    raw::{RawBatch, RawReader},
};

const FORMAT: &str = "Parquet";

pub(crate) struct ParquetReader {
    path: PathBuf,
    file: File,
    metadata: ArrowReaderMetadata,
    names: Vec<String>,
    batches: Option<ParquetRecordBatchReader>,
    /// For each slot, the position of its column in what is read.
    slots: Vec<usize>,
    row: u64,
}

impl ParquetReader {
    /// Reads the footer.
    pub fn open(path: PathBuf) -> Result<Self, SourceError> {
        let file = File::open(&path).map_err(|error| SourceError::unreadable(&path, error))?;
        let metadata =
            caught(|| ArrowReaderMetadata::load(&file, ArrowReaderOptions::new()).map_err(|e| e.to_string()))
                .map_err(|error| SourceError::damaged(&path, FORMAT, error))?;
        let names = metadata.schema().fields().iter().map(|field| field.name().clone()).collect();
        Ok(Self { path, file, metadata, names, batches: None, slots: Vec::new(), row: 0 })
    }

    pub fn names(&self) -> &[String] {
        &self.names
    }

    pub fn row_count(&self) -> u64 {
        self.metadata.metadata().file_metadata().num_rows().try_into().unwrap_or(0)
    }

    pub fn row_groups(&self) -> usize {
        self.metadata.metadata().num_row_groups()
    }

    /// Says which columns and row groups to read, and gives the columns' types by slot.
    pub fn want(
        &mut self,
        names: &[String],
        row_groups: Option<Range<usize>>,
        batch_rows: usize,
    ) -> Result<Vec<DataType>, SourceError> {
        let roots: Vec<usize> = names.iter().filter_map(|name| self.names.iter().position(|own| own == name)).collect();
        assert_eq!(roots.len(), names.len(), "a plan names only columns of the file");
        // The reader gives the columns in the file's order, not in that of the mask.
        let mut sorted = roots.clone();
        sorted.sort_unstable();
        self.slots = roots.iter().filter_map(|root| sorted.binary_search(root).ok()).collect();
        let fields = self.metadata.schema().fields();
        let types = roots.iter().filter_map(|root| fields.get(*root)).map(|field| field.data_type().clone()).collect();
        let file = self.file.try_clone().map_err(|error| SourceError::unreadable(&self.path, error))?;
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(file, self.metadata.clone());
        let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
        if let Some(groups) = row_groups {
            let groups = groups.start..groups.end.min(self.row_groups());
            self.row = self.rows_before(groups.start);
            builder = builder.with_row_groups(groups.collect());
        }
        let build = || builder.with_projection(mask).with_batch_size(batch_rows.max(1)).build();
        let batches = caught(|| build().map_err(|error| error.to_string()));
        self.batches = Some(batches.map_err(|error| SourceError::damaged(&self.path, FORMAT, error))?);
        Ok(types)
    }

    fn rows_before(&self, group: usize) -> u64 {
        let groups = self.metadata.metadata().row_groups().iter().take(group);
        groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).sum()
    }
}

impl RawReader for ParquetReader {
    fn next_batch(&mut self) -> Result<Option<RawBatch>, SourceError> {
        let Some(batches) = self.batches.as_mut() else { return Ok(None) };
        let read = caught(|| batches.next().transpose().map_err(|error| error.to_string()));
        if read.is_err() {
            // What a reader does after it broke off is nobody's to say.
            self.batches = None;
        }
        let read = read.map_err(|error| SourceError::damaged(&self.path, FORMAT, error))?;
        let Some(batch) = read else { return Ok(None) };
        let first = self.row + 1;
        self.row += batch.num_rows() as u64;
        let rows: Vec<u64> = (first..=self.row).collect();
        let columns: Vec<ArrayRef> =
            self.slots.iter().filter_map(|slot| batch.columns().get(*slot)).map(ArrayRef::clone).collect();
        Ok(Some(RawBatch { columns, rest: None, lines: rows.clone(), rows, broken: Vec::new() }))
    }
}

/// The Parquet reader panics on some bytes that no writer makes: here such a file is damaged as any other.
fn caught<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err("the Parquet reader broke off".to_owned()))
}
