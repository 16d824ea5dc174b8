//! An answer as text or bytes: a table for people, CSV, JSON lines, Parquet.

use std::sync::Arc;

use arrow::{
    array::{Array, ArrayRef, RecordBatch, StringArray},
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    json,
    util::{
        display::{ArrayFormatter, FormatOptions},
        pretty::pretty_format_batches_with_options,
    },
};
use parquet::{arrow::ArrowWriter, basic::Compression, errors::ParquetError, file::properties::WriterProperties};

use crate::QueryError;

const FORMAT: FormatOptions<'static> =
    FormatOptions::new().with_display_error(true).with_timestamp_tz_format(Some("%Y-%m-%dT%H:%M:%S%.fZ"));

impl From<ArrowError> for QueryError {
    fn from(error: ArrowError) -> Self {
        Self::Internal(format!("the answer cannot be written: {error}"))
    }
}

impl From<ParquetError> for QueryError {
    fn from(error: ParquetError) -> Self {
        Self::Internal(format!("the answer cannot be written: {error}"))
    }
}

/// With borders, for a terminal.
pub fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<String, QueryError> {
    let empty = [RecordBatch::new_empty(Arc::clone(schema))];
    let batches = if batches.is_empty() { &empty } else { batches };
    Ok(pretty_format_batches_with_options(batches, &FORMAT)?.to_string())
}

/// With a line of names; NULL is an empty field; nested values are written as text.
pub fn to_csv(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let mut bytes = Vec::new();
    let mut writer = csv::WriterBuilder::new()
        .with_header(true)
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.fZ".to_owned())
        .build(&mut bytes);
    writer.write(&flat(&RecordBatch::new_empty(Arc::clone(schema)))?)?;
    for batch in batches {
        writer.write(&flat(batch)?)?;
    }
    drop(writer);
    Ok(bytes)
}

/// One object a line; NULL is written as such, so that every line has the same names.
pub fn json_lines(batches: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let mut bytes = Vec::new();
    let mut writer = json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .with_timestamp_tz_format("%Y-%m-%dT%H:%M:%S%.fZ".to_owned())
        .build::<_, json::writer::LineDelimited>(&mut bytes);
    for batch in batches {
        writer.write(batch)?;
    }
    writer.finish()?;
    drop(writer);
    Ok(bytes)
}

pub fn to_parquet(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<Vec<u8>, QueryError> {
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), Arc::clone(schema), Some(properties))?;
    for batch in batches {
        writer.write(batch)?;
    }
    Ok(writer.into_inner()?)
}

/// Nested columns as text: CSV has no form for them.
fn flat(batch: &RecordBatch) -> Result<RecordBatch, QueryError> {
    if !batch.schema().fields().iter().any(|field| field.data_type().is_nested()) {
        return Ok(batch.clone());
    }
    let mut fields = Vec::with_capacity(batch.num_columns());
    let mut columns: Vec<ArrayRef> = Vec::with_capacity(batch.num_columns());
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if !field.data_type().is_nested() {
            fields.push(Arc::clone(field));
            columns.push(Arc::clone(column));
            continue;
        }
        let formatter = ArrayFormatter::try_new(column, &FORMAT)?;
        let texts: StringArray =
            (0..column.len()).map(|row| column.is_valid(row).then(|| formatter.value(row).to_string())).collect();
        fields.push(Arc::new(Field::new(field.name(), DataType::Utf8, true)));
        columns.push(Arc::new(texts));
    }
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
