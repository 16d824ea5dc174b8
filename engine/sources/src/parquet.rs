//! Parquet: only the columns that are wanted are read, in the types that the file gives them.

use std::{fs::File, ops::Range, path::PathBuf};

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
        let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
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
        let batches = builder.with_projection(mask).with_batch_size(batch_rows.max(1)).build();
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
        let Some(batch) = self.batches.as_mut().and_then(Iterator::next) else { return Ok(None) };
        let batch = batch.map_err(|error| SourceError::damaged(&self.path, FORMAT, error))?;
        let first = self.row + 1;
        self.row += batch.num_rows() as u64;
        let rows: Vec<u64> = (first..=self.row).collect();
        let columns: Vec<ArrayRef> =
            self.slots.iter().filter_map(|slot| batch.columns().get(*slot)).map(ArrayRef::clone).collect();
        Ok(Some(RawBatch { columns, rest: None, lines: rows.clone(), rows, broken: Vec::new() }))
    }
}
