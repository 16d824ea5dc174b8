//! `FileSource`: a CSV, JSON lines or Parquet file as batches of a stream's columns, read piece by
//! piece so that the memory it takes does not depend on the file's size.

use std::{
    fs::File,
    io::Read,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow::array::RecordBatch;
use chrono_tz::Tz;
use tidewatch_model::{ColumnType, StreamSchema};

use crate::{
    BrokenRow, MappingSpec, SourceError, TimeReader,
    convert::Converter,
    csv::CsvReader,
    json::JsonReader,
    mapping::{Fill, Origin, Plan, SourceNames},
    parquet::ParquetReader,
    raw::{RawBatch, RawReader},
};

/// How a file writes its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Csv,
    JsonLines,
    Parquet,
}

impl Format {
    /// By the name's ending: `.csv` and `.tsv`, `.jsonl`, `.ndjson` and `.json`, `.parquet`.
    pub fn of(path: &Path) -> Option<Self> {
        let ending = path.extension()?.to_str()?.to_ascii_lowercase();
        match ending.as_str() {
            "csv" | "tsv" | "txt" => Some(Self::Csv),
            "jsonl" | "ndjson" | "json" => Some(Self::JsonLines),
            "parquet" | "pq" => Some(Self::Parquet),
            _ => None,
        }
    }
}

/// How to read a file.
#[derive(Clone, Debug)]
pub struct SourceOptions {
    pub mapping: MappingSpec,
    /// The zone of times without an offset; absent: UTC.
    pub timezone: Option<Tz>,
    /// Absent: by the file's name.
    pub format: Option<Format>,
    /// Between the cells of a CSV file. Absent: a tab for `.tsv`, else a comma.
    pub delimiter: Option<u8>,
    /// Rows of a batch, broken ones included.
    pub batch_rows: usize,
    /// Only these row groups of a Parquet file: parts of it can be read side by side.
    pub row_groups: Option<Range<usize>>,
}

impl Default for SourceOptions {
    fn default() -> Self {
        Self {
            mapping: MappingSpec::default(),
            timezone: None,
            format: None,
            delimiter: None,
            batch_rows: 8_192,
            row_groups: None,
        }
    }
}

/// Some rows of a file: those that are events, and those that are broken.
#[derive(Clone, Debug)]
pub struct SourceBatch {
    /// In the stream's schema.
    pub events: RecordBatch,
    /// The number of each event's row in the file, counted from 1; rising, with gaps where rows are broken.
    pub rows: Vec<u64>,
    /// The line on which each event's row begins.
    pub lines: Vec<u64>,
    pub broken: Vec<BrokenRow>,
}

/// The three readers, each with the same two steps: names first, then what to read.
enum Reader {
    Csv(Box<CsvReader>),
    Json(Box<JsonReader>),
    Parquet(Box<ParquetReader>),
}

impl Reader {
    fn open(path: &Path, options: &SourceOptions) -> Result<Self, SourceError> {
        let format = options.format.or_else(|| Format::of(path)).ok_or_else(|| {
            let path = path.display();
            SourceError::refused(format!(
                "{path}: the name does not tell the format; add --format csv, jsonl or parquet"
            ))
        })?;
        if format == Format::Parquet {
            return ParquetReader::open(path.to_owned()).map(|reader| Self::Parquet(Box::new(reader)));
        }
        let file = File::open(path).map_err(|error| SourceError::unreadable(path, error))?;
        Self::from_input(path.to_owned(), Box::new(file), format, options)
    }

    fn from_input(
        path: PathBuf,
        input: Box<dyn Read + Send>,
        format: Format,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        match format {
            Format::Csv => {
                let tabs = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("tsv"));
                let delimiter = options.delimiter.unwrap_or(if tabs { b'\t' } else { b',' });
                CsvReader::open(path, input, delimiter).map(|reader| Self::Csv(Box::new(reader)))
            }
            Format::JsonLines => JsonReader::open(path, input).map(|reader| Self::Json(Box::new(reader))),
            Format::Parquet => Err(SourceError::refused("Parquet cannot be read from a pipe: it begins at its end")),
        }
    }

    fn bind(&self, spec: &MappingSpec, schema: &StreamSchema) -> Result<Plan, SourceError> {
        let (names, complete) = match self {
            Self::Csv(reader) => (reader.names(), true),
            Self::Json(reader) => (reader.names(), false),
            Self::Parquet(reader) => (reader.names(), true),
        };
        Plan::bind(spec, schema, &SourceNames { names, complete })
    }

    /// Tells the reader what the plan wants of it.
    fn want(
        &mut self,
        plan: &Plan,
        schema: &StreamSchema,
        options: &SourceOptions,
    ) -> Result<Vec<arrow::datatypes::DataType>, SourceError> {
        let texts = vec![arrow::datatypes::DataType::Utf8; plan.wanted.len()];
        match self {
            Self::Csv(reader) => reader.want(&plan.wanted, options.batch_rows),
            Self::Json(reader) => reader.want(&plan.wanted, map_slots(plan, schema), plan.rest, options.batch_rows),
            Self::Parquet(reader) => {
                return reader.want(&plan.wanted, options.row_groups.clone(), options.batch_rows);
            }
        }
        Ok(texts)
    }

    fn raw(&mut self) -> &mut dyn RawReader {
        match self {
            Self::Csv(reader) => reader.as_mut(),
            Self::Json(reader) => reader.as_mut(),
            Self::Parquet(reader) => reader.as_mut(),
        }
    }
}

/// The slots that fill a map and so may hold objects.
fn map_slots(plan: &Plan, schema: &StreamSchema) -> Vec<usize> {
    let maps = schema.columns().iter().zip(&plan.fills).filter(|(column, _)| column.kind == ColumnType::Map);
    maps.filter_map(|(_, fill)| match fill {
        Fill::From(Origin::Slot(slot)) | Fill::Attributes { map: Some(Origin::Slot(slot)), .. } => Some(*slot),
        _ => None,
    })
    .collect()
}

/// A file as batches of a stream's columns.
pub struct FileSource {
    path: PathBuf,
    reader: Reader,
    converter: Converter,
    notices: Vec<String>,
    failed: bool,
}

impl FileSource {
    /// Opens a file. Everything that the options and the file's columns cannot mean together is refused here.
    pub fn open(path: &Path, schema: &Arc<StreamSchema>, options: &SourceOptions) -> Result<Self, SourceError> {
        Self::with(path.to_owned(), Reader::open(path, options)?, schema, options, None)
    }

    /// Reads from a pipe. `format` must be given in the options, or CSV is meant.
    pub fn from_input(
        name: &str,
        input: Box<dyn Read + Send>,
        schema: &Arc<StreamSchema>,
        options: &SourceOptions,
    ) -> Result<Self, SourceError> {
        let path = PathBuf::from(name);
        let reader = Reader::from_input(path.clone(), input, options.format.unwrap_or(Format::Csv), options)?;
        Self::with(path, reader, schema, options, None)
    }

    /// A source that fills only one column: for the first pass.
    pub(crate) fn open_for(
        path: &Path,
        input: Option<Box<dyn Read + Send>>,
        schema: &Arc<StreamSchema>,
        options: &SourceOptions,
        column: usize,
    ) -> Result<Self, SourceError> {
        let reader = match (input, options.format.or_else(|| Format::of(path))) {
            (Some(input), Some(format)) => Reader::from_input(path.to_owned(), input, format, options)?,
            _ => Reader::open(path, options)?,
        };
        Self::with(path.to_owned(), reader, schema, options, Some(column))
    }

    fn with(
        path: PathBuf,
        mut reader: Reader,
        schema: &Arc<StreamSchema>,
        options: &SourceOptions,
        only: Option<usize>,
    ) -> Result<Self, SourceError> {
        let mut plan = reader.bind(&options.mapping, schema)?;
        if let Some(column) = only {
            plan = plan.only(column);
        }
        let types = reader.want(&plan, schema, options)?;
        let notices = plan.notices.clone();
        let mut converter = Converter::new(Arc::clone(schema), plan, TimeReader::new(options.timezone))?;
        if only.is_none() {
            converter.check_types(&types)?;
        }
        Ok(Self { path, reader, converter, notices, failed: false })
    }

    /// Sentences that the person should see before the rows.
    pub fn notices(&self) -> &[String] {
        &self.notices
    }

    /// Keys of JSON lines that turned up after the first rows and are not used.
    pub fn late_names(&mut self) -> Vec<String> {
        self.reader.raw().late_names()
    }

    /// The row groups of a Parquet file, which can be read side by side; `None` for other formats.
    pub fn row_groups(&self) -> Option<usize> {
        match &self.reader {
            Reader::Parquet(reader) => Some(reader.row_groups()),
            Reader::Csv(_) | Reader::Json(_) => None,
        }
    }

    /// The number of rows, where the file says it without being read.
    pub fn row_count(&self) -> Option<u64> {
        match &self.reader {
            Reader::Parquet(reader) => Some(reader.row_count()),
            Reader::Csv(_) | Reader::Json(_) => None,
        }
    }

    pub(crate) fn next_raw(&mut self) -> Result<Option<RawBatch>, SourceError> {
        self.reader.raw().next_batch()
    }

    pub(crate) fn converter(&mut self) -> &mut Converter {
        &mut self.converter
    }

    fn next_batch(&mut self) -> Result<Option<SourceBatch>, SourceError> {
        match self.reader.raw().next_batch()? {
            Some(raw) => self.converter.convert(raw, &self.path).map(Some),
            None => Ok(None),
        }
    }
}

impl Iterator for FileSource {
    type Item = Result<SourceBatch, SourceError>;

    /// After an error there is nothing more: a file that cannot be read does not get better.
    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_batch().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}
