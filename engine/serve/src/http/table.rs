//! Rows of an answer as JSON, JSON lines, CSV or Arrow, written as they come. An error after the first byte
//! breaks the connection: a short answer must not look like a whole one.

use std::{sync::Arc, time::Duration};

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray},
    csv,
    datatypes::{DataType, Field, Schema, SchemaRef},
    error::ArrowError,
    ipc::writer::StreamWriter,
    json::{
        WriterBuilder,
        writer::{JsonArray, LineDelimited},
    },
    util::display::{ArrayFormatter, FormatOptions},
};
use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, future, stream};
use serde_json::json;

use super::problem::Problem;
use crate::engine::{Answer, QueryError};

/// From the first row to the last. A reader that is slower than this holds a query for too long.
const BODY_TIME: Duration = Duration::from_secs(300);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Json,
    JsonLines,
    Csv,
    Arrow,
}

impl Format {
    /// The first kind in `Accept` that is known. No weights: nobody asks for two kinds of rows.
    fn wanted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let known = accept.split([',', ';']).find_map(|kind| match kind.trim() {
            "application/json" => Some(Self::Json),
            "application/x-ndjson" => Some(Self::JsonLines),
            "text/csv" => Some(Self::Csv),
            "application/vnd.apache.arrow.stream" => Some(Self::Arrow),
            _ => None,
        });
        known.unwrap_or(Self::Json)
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::JsonLines => "application/x-ndjson",
            Self::Csv => "text/csv; charset=utf-8",
            Self::Arrow => "application/vnd.apache.arrow.stream",
        }
    }
}

/// Answers once the first rows are there, so that what fails at once fails with a status.
pub(super) async fn respond(headers: &HeaderMap, answer: Answer) -> Result<Response, Problem> {
    let format = Format::wanted(headers);
    let Answer { schema, mut batches } = answer;
    let first = batches.next().await.transpose()?;
    let rest = stream::iter(first.map(Ok)).chain(batches);
    let (writer, head) = Writer::start(format, &schema).map_err(|error| unwritten(&error))?;
    let body = stream::unfold(Some((writer, rest.boxed())), |state| async move {
        let (mut writer, mut batches) = state?;
        match batches.next().await {
            Some(Ok(batch)) => match writer.rows(&batch) {
                Ok(bytes) => Some((Ok(bytes), Some((writer, batches)))),
                Err(error) => Some((Err(QueryError::Internal(error.to_string())), None)),
            },
            Some(Err(error)) => {
                // What was written leaves before the connection breaks: hyper flushes when there is nothing to write.
                tokio::task::yield_now().await;
                Some((Err(error), None))
            }
            None => Some((writer.end().map_err(|error| QueryError::Internal(error.to_string())), None)),
        }
    });
    let late = stream::once(tokio::time::sleep(BODY_TIME))
        .map(|()| Err(QueryError::TooLong("the answer was not read in time".to_owned())));
    let body = stream::select(body.map(Some).chain(stream::iter([None])), late.map(Some))
        .take_while(|written| future::ready(written.is_some()))
        .filter_map(future::ready);
    let body = stream::iter([Ok(head)]).chain(body).inspect(|written| {
        if let Err(error) = written {
            tracing::warn!(%error, "an answer was broken off");
        }
    });
    Ok(([(header::CONTENT_TYPE, format.content_type())], Body::from_stream(body)).into_response())
}

fn unwritten(error: &ArrowError) -> Problem {
    Problem::internal(format!("the answer cannot be written: {error}"))
}

/// Writes one answer in pieces.
enum Writer {
    Json { rows: usize },
    JsonLines,
    Csv { schema: SchemaRef },
    Arrow(Box<StreamWriter<Vec<u8>>>),
}

impl Writer {
    /// The writer, and what stands before the first row.
    fn start(format: Format, schema: &SchemaRef) -> Result<(Self, Vec<u8>), ArrowError> {
        Ok(match format {
            Format::Json => {
                let columns: Vec<_> = schema
                    .fields()
                    .iter()
                    .map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}))
                    .collect();
                let head = format!("{{\"columns\":{},\"rows\":[", serde_json::Value::Array(columns));
                (Self::Json { rows: 0 }, head.into_bytes())
            }
            Format::JsonLines => (Self::JsonLines, Vec::new()),
            Format::Csv => {
                let flat = flat_schema(schema);
                let mut bytes = Vec::new();
                csv::WriterBuilder::new()
                    .with_header(true)
                    .build(&mut bytes)
                    .write(&RecordBatch::new_empty(Arc::clone(&flat)))?;
                (Self::Csv { schema: flat }, bytes)
            }
            Format::Arrow => {
                let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
                let head = std::mem::take(writer.get_mut());
                (Self::Arrow(Box::new(writer)), head)
            }
        })
    }

    fn rows(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, ArrowError> {
        let mut bytes = Vec::new();
        match self {
            Self::Json { rows } => {
                if batch.num_rows() == 0 {
                    return Ok(bytes);
                }
                let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(Vec::new());
                writer.write(batch)?;
                writer.finish()?;
                let array = writer.into_inner();
                // The batch's own brackets go; a comma joins it to the rows before it.
                let inner = array.strip_prefix(b"[").and_then(|array| array.strip_suffix(b"]")).unwrap_or(&array);
                if *rows > 0 {
                    bytes.push(b',');
                }
                bytes.extend_from_slice(inner);
                *rows += batch.num_rows();
            }
            Self::JsonLines => {
                let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut bytes);
                writer.write(batch)?;
                writer.finish()?;
            }
            Self::Csv { schema } => {
                csv::WriterBuilder::new().with_header(false).build(&mut bytes).write(&flatten(batch, schema)?)?;
            }
            Self::Arrow(writer) => {
                writer.write(batch)?;
                bytes = std::mem::take(writer.get_mut());
            }
        }
        Ok(bytes)
    }

    fn end(self) -> Result<Vec<u8>, ArrowError> {
        match self {
            Self::Json { .. } => Ok(b"]}".to_vec()),
            Self::JsonLines | Self::Csv { .. } => Ok(Vec::new()),
            Self::Arrow(mut writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()))
            }
        }
    }
}

/// CSV has no nested values: their columns become text.
fn flat_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| {
        let kind = if field.data_type().is_nested() { DataType::Utf8 } else { field.data_type().clone() };
        Field::new(field.name(), kind, true)
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn flatten(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = batch
        .columns()
        .iter()
        .map(|column| {
            if !column.data_type().is_nested() {
                return Ok(Arc::clone(column));
            }
            let options = FormatOptions::default();
            let shown = ArrayFormatter::try_new(column.as_ref(), &options)?;
            let texts = (0..column.len()).map(|row| column.is_valid(row).then(|| shown.value(row).to_string()));
            Ok(Arc::new(StringArray::from_iter(texts)) as ArrayRef)
        })
        .collect();
    RecordBatch::try_new(Arc::clone(schema), columns?)
}
