//! Simulated events as Parquet, CSV or JSON lines. Where the bytes go is the caller's business.

use std::{fmt, io::Write, str::FromStr, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder},
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json,
};
use parquet::{
    arrow::ArrowWriter,
    basic::{Compression, ZstdLevel},
    errors::ParquetError,
    file::properties::WriterProperties,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportFormat {
    Parquet,
    Csv,
    JsonLines,
}

impl ExportFormat {
    pub const ALL: [Self; 3] = [Self::Parquet, Self::Csv, Self::JsonLines];

    /// How its files end, and how it is named on the command line.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::JsonLines => "jsonl",
        }
    }
}

impl fmt::Display for ExportFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.extension())
    }
}

impl FromStr for ExportFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = text.to_ascii_lowercase();
        let found = Self::ALL
            .into_iter()
            .find(|format| format.extension() == wanted || (wanted == "ndjson" && *format == Self::JsonLines));
        found.ok_or_else(|| format!("`{text}` is not a format; use parquet, csv or jsonl"))
    }
}

/// Writes batches of one schema, one after the other, in one format.
pub enum Exporter<W: Write + Send> {
    Parquet(Box<ArrowWriter<W>>),
    Csv(Box<csv::Writer<W>>),
    JsonLines(json::LineDelimitedWriter<W>),
}

impl<W: Write + Send> fmt::Debug for Exporter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Parquet(_) => "Exporter(parquet)",
            Self::Csv(_) => "Exporter(csv)",
            Self::JsonLines(_) => "Exporter(jsonl)",
        })
    }
}

impl<W: Write + Send> Exporter<W> {
    pub fn new(format: ExportFormat, schema: &SchemaRef, into: W) -> Result<Self, ArrowError> {
        Ok(match format {
            ExportFormat::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(as_arrow)?))
                    .build();
                let writer = ArrowWriter::try_new(into, schema.clone(), Some(properties)).map_err(as_arrow)?;
                Self::Parquet(Box::new(writer))
            }
            ExportFormat::Csv => Self::Csv(Box::new(csv::WriterBuilder::new().with_header(true).build(into))),
            ExportFormat::JsonLines => Self::JsonLines(json::LineDelimitedWriter::new(into)),
        })
    }

    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), ArrowError> {
        match self {
            Self::Parquet(writer) => writer.write(batch).map_err(as_arrow),
            Self::Csv(writer) => writer.write(&without_maps(batch)?),
            Self::JsonLines(writer) => writer.write(batch),
        }
    }

    /// Ends the file and gives back what it was written into.
    pub fn finish(self) -> Result<W, ArrowError> {
        match self {
            Self::Parquet(writer) => writer.into_inner().map_err(as_arrow),
            Self::Csv(writer) => Ok(writer.into_inner()),
            Self::JsonLines(mut writer) => {
                writer.finish()?;
                Ok(writer.into_inner())
            }
        }
    }
}

fn as_arrow(error: ParquetError) -> ArrowError {
    ArrowError::ParquetError(error.to_string())
}

/// CSV has no maps: each becomes a JSON object in a text field.
fn without_maps(batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let schema = batch.schema();
    let (mut fields, mut columns) = (Vec::new(), Vec::new());
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        match field.data_type() {
            DataType::Map(..) => {
                fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, field.is_nullable())));
                columns.push(map_as_text(column)?);
            }
            _ => {
                fields.push(field.clone());
                columns.push(column.clone());
            }
        }
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

fn map_as_text(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let maps = column.as_map();
    let mut texts = StringBuilder::with_capacity(maps.len(), maps.len() * 24);
    for row in 0..maps.len() {
        if maps.is_null(row) {
            texts.append_null();
            continue;
        }
        let entries = maps.value(row);
        let (Some(keys), Some(values)) =
            (entries.column(0).as_string_opt::<i32>(), entries.column(1).as_string_opt::<i32>())
        else {
            return Err(ArrowError::CsvError("only maps of text to text can be written as CSV".to_owned()));
        };
        let object: serde_json::Map<String, serde_json::Value> = keys
            .iter()
            .zip(values.iter())
            .filter_map(|(key, value)| Some((key?.to_owned(), value.map_or(serde_json::Value::Null, Into::into))))
            .collect();
        texts.append_value(serde_json::Value::Object(object).to_string());
    }
    Ok(Arc::new(texts.finish()))
}

#[cfg(test)]
#[path = "export_tests.rs"]
mod tests;
