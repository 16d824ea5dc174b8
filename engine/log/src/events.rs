//! The columns of a batch of events as bytes, and back into the columns that the stream has today: one
//! added since reads as its default or null, one that vanished is passed over. Whole buffers are
//! copied, not values. The layout is drawn in FORMAT.md. Any bytes decode to a batch or an error.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, MapArray, StringArray, StructArray,
        TimestampMicrosecondArray, new_null_array,
    },
    buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer},
    datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
    record_batch::{RecordBatch, RecordBatchOptions},
};
use tidewatch_model::{Column, ColumnType, StreamSchema, limits};

use crate::{
    cursor::{Cursor, put_length, put_values, take_values},
    error::DecodeError,
};

/// Every value of the column is null; nothing follows.
const ALL_NULL: u8 = 1;
/// A validity bitmap stands before the values.
const HAS_NULLS: u8 = 2;

/// Appends `rows` to `out`. An error says what the format cannot hold.
pub(crate) fn encode(rows: &RecordBatch, out: &mut Vec<u8>) -> Result<(), String> {
    let too_long = || "a column is too long".to_owned();
    if rows.num_rows() > limits::BATCH_EVENTS_MAX || rows.num_columns() > limits::COLUMNS_MAX {
        return Err(format!("{} rows of {} columns are too many", rows.num_rows(), rows.num_columns()));
    }
    out.reserve(rows.get_array_memory_size().min(limits::REQUEST_BYTES_MAX));
    put_length(out, rows.num_rows()).ok_or_else(too_long)?;
    put_length(out, rows.num_columns()).ok_or_else(too_long)?;
    for (field, array) in rows.schema_ref().fields().iter().zip(rows.columns()) {
        let kind = column_type(field.data_type())
            .ok_or_else(|| format!("column `{}` has the type {}", field.name(), field.data_type()))?;
        put_length(out, field.name().len()).ok_or_else(too_long)?;
        out.extend_from_slice(field.name().as_bytes());
        out.push(tag(kind));
        let all_null = !array.is_empty() && array.null_count() == array.len();
        let has_nulls = !all_null && array.null_count() > 0;
        out.push(if all_null { ALL_NULL } else { 0 } | if has_nulls { HAS_NULLS } else { 0 });
        // The length of the column's body, so that one that vanished can be passed over.
        let length_at = out.len();
        put_length(out, 0).ok_or_else(too_long)?;
        if !all_null {
            put_column(out, kind, array, has_nulls)
                .ok_or_else(|| format!("column `{}` is too long or not what its field says", field.name()))?;
        }
        let length = u32::try_from(out.len() - length_at - 4).map_err(|_| too_long())?;
        if let Some(slot) = out.get_mut(length_at..length_at + 4) {
            slot.copy_from_slice(&length.to_le_bytes());
        }
    }
    Ok(())
}

/// The type of the stream's vocabulary that has this Arrow form.
fn column_type(data_type: &DataType) -> Option<ColumnType> {
    match data_type {
        DataType::Utf8 => Some(ColumnType::Text),
        DataType::Timestamp(TimeUnit::Microsecond, Some(_)) => Some(ColumnType::Timestamp),
        DataType::Int64 => Some(ColumnType::BigInt),
        DataType::Float64 => Some(ColumnType::Double),
        DataType::Boolean => Some(ColumnType::Boolean),
        DataType::Map(_, _) => Some(ColumnType::Map),
        _ => None,
    }
}

fn tag(kind: ColumnType) -> u8 {
    match kind {
        ColumnType::Text => 1,
        ColumnType::Timestamp => 2,
        ColumnType::BigInt => 3,
        ColumnType::Double => 4,
        ColumnType::Boolean => 5,
        ColumnType::Map => 6,
    }
}

fn put_column(out: &mut Vec<u8>, kind: ColumnType, array: &ArrayRef, has_nulls: bool) -> Option<()> {
    if has_nulls {
        put_bits(out, array.nulls()?.inner());
    }
    match kind {
        ColumnType::Text => put_texts(out, array.as_string_opt::<i32>()?)?,
        ColumnType::Timestamp => {
            put_values(out, array.as_primitive_opt::<TimestampMicrosecondType>()?.values(), i64::to_le_bytes);
        }
        ColumnType::BigInt => put_values(out, array.as_primitive_opt::<Int64Type>()?.values(), i64::to_le_bytes),
        ColumnType::Double => put_values(out, array.as_primitive_opt::<Float64Type>()?.values(), f64::to_le_bytes),
        ColumnType::Boolean => put_bits(out, array.as_boolean_opt()?.values()),
        ColumnType::Map => put_maps(out, array.as_map_opt()?)?,
    }
    Some(())
}

/// Bits, lowest first; those behind the last are zero, whatever the buffer has there.
fn put_bits(out: &mut Vec<u8>, bits: &BooleanBuffer) {
    let count = bits.len().div_ceil(8);
    let packed = bits.sliced();
    out.extend(packed.as_slice().iter().take(count));
    let used = bits.len() % 8;
    if used > 0
        && let Some(last) = out.last_mut()
    {
        *last &= (1 << used) - 1;
    }
}

/// Offsets that begin at zero, also where the array is a slice of a larger one.
fn put_offsets(out: &mut Vec<u8>, offsets: &OffsetBuffer<i32>) -> Option<(usize, usize)> {
    let (first, last) = (*offsets.first()?, *offsets.last()?);
    put_values(out, offsets, |offset| (offset - first).to_le_bytes());
    Some((usize::try_from(first).ok()?, usize::try_from(last).ok()?))
}

fn put_texts(out: &mut Vec<u8>, texts: &StringArray) -> Option<()> {
    let (first, last) = put_offsets(out, texts.offsets())?;
    out.extend_from_slice(texts.values().as_slice().get(first..last)?);
    Some(())
}

fn put_maps(out: &mut Vec<u8>, maps: &MapArray) -> Option<()> {
    let (first, last) = put_offsets(out, maps.offsets())?;
    let keys = maps.keys().slice(first, last - first);
    let values = maps.values().slice(first, last - first);
    put_texts(out, keys.as_string_opt::<i32>()?)?;
    let has_nulls = values.null_count() > 0;
    out.push(u8::from(has_nulls));
    if has_nulls {
        put_bits(out, values.nulls()?.inner());
    }
    put_texts(out, values.as_string_opt::<i32>()?)
}

/// Reads a batch back, as a batch of `schema`.
pub(crate) fn decode(from: &mut Cursor<'_>, schema: &StreamSchema) -> Result<RecordBatch, DecodeError> {
    let rows = from.u32()? as usize;
    if rows > limits::BATCH_EVENTS_MAX {
        return Err(from.malformed(format!("{rows} rows are more than a batch may have")));
    }
    // A name's length, the tag, the flags and the body's length each.
    let count = from.count(10)?;
    if count > limits::COLUMNS_MAX {
        return Err(from.malformed(format!("{count} columns are more than a stream may have")));
    }
    let mut columns: Vec<Option<ArrayRef>> = vec![None; schema.columns().len()];
    let mut seen = vec![false; columns.len()];
    for _ in 0..count {
        let name = from.text()?;
        let stored = from.u8()?;
        let flags = from.u8()?;
        let length = from.u32()? as usize;
        let mut body = from.section(length)?;
        let Some((at, column)) = schema.column(name) else { continue };
        if stored != tag(column.kind) {
            return Err(column_error(schema, column, format!("its type changed since record type {stored}")));
        }
        let array = match flags {
            ALL_NULL => None,
            0 | HAS_NULLS => Some(take_column(&mut body, column.kind, rows, flags == HAS_NULLS)?),
            other => return Err(body.malformed(format!("{other} are no flags of a column"))),
        };
        body.end()?;
        // `column` found the position in the same schema.
        if let (Some(slot), Some(seen)) = (columns.get_mut(at), seen.get_mut(at)) {
            if std::mem::replace(seen, true) {
                return Err(from.malformed(format!("column `{name}` comes twice")));
            }
            *slot = array;
        }
    }
    // Of a column that events must have the values are in the input. They come first, so that a few
    // bytes cannot claim many rows of nulls.
    for (column, array) in schema.columns().iter().zip(&columns) {
        if column.required && array.is_none() && rows > 0 {
            return Err(column_error(schema, column, "it is required, but these events have no values".to_owned()));
        }
    }
    let filled = schema.columns().iter().zip(columns).map(|(column, array)| fill(column, array, rows)).collect();
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema.arrow()), filled, &options)
        .map_err(|error| from.malformed(error.to_string()))
}

fn column_error(schema: &StreamSchema, column: &Column, what: String) -> DecodeError {
    DecodeError::Column { stream: schema.name().to_owned(), column: column.name.clone(), what }
}

/// A whole column for the schema: absent values become the default where there is one.
fn fill(column: &Column, array: Option<ArrayRef>, rows: usize) -> ArrayRef {
    match (array, column.default) {
        (Some(array), Some(default)) if array.null_count() > 0 => match array.as_primitive_opt::<Int64Type>() {
            Some(values) => Arc::new(values.iter().map(|value| value.unwrap_or(default)).collect::<Int64Array>()),
            None => array,
        },
        (Some(array), _) => array,
        (None, Some(default)) if column.kind == ColumnType::BigInt => Arc::new(Int64Array::from_value(default, rows)),
        (None, _) => new_null_array(&column.kind.arrow(), rows),
    }
}

fn take_column(from: &mut Cursor<'_>, kind: ColumnType, rows: usize, has_nulls: bool) -> Result<ArrayRef, DecodeError> {
    let nulls = if has_nulls { Some(NullBuffer::new(take_bits(from, rows)?)) } else { None };
    Ok(match kind {
        ColumnType::Text => Arc::new(take_texts(from, rows, nulls)?),
        ColumnType::Timestamp => {
            let values = take_values(from.bytes(8 * rows)?, i64::from_le_bytes);
            Arc::new(TimestampMicrosecondArray::new(values.into(), nulls).with_timezone("UTC"))
        }
        ColumnType::BigInt => {
            Arc::new(Int64Array::new(take_values(from.bytes(8 * rows)?, i64::from_le_bytes).into(), nulls))
        }
        ColumnType::Double => {
            Arc::new(Float64Array::new(take_values(from.bytes(8 * rows)?, f64::from_le_bytes).into(), nulls))
        }
        ColumnType::Boolean => Arc::new(BooleanArray::new(take_bits(from, rows)?, nulls)),
        ColumnType::Map => Arc::new(take_maps(from, rows, nulls)?),
    })
}

fn take_bits(from: &mut Cursor<'_>, count: usize) -> Result<BooleanBuffer, DecodeError> {
    let bytes = from.bytes(count.div_ceil(8))?;
    // As many bytes as the bits need were just taken.
    Ok(BooleanBuffer::new(Buffer::from(bytes), 0, count))
}

/// Offsets of `count` things: they begin at zero and never fall. Also says where they end.
fn take_offsets(from: &mut Cursor<'_>, count: usize) -> Result<(OffsetBuffer<i32>, usize), DecodeError> {
    let offsets = take_values(from.bytes(4 * (count + 1))?, i32::from_le_bytes);
    let rising = offsets.iter().zip(offsets.iter().skip(1)).fold(true, |so_far, (a, b)| so_far & (a <= b));
    if !rising || offsets.first() != Some(&0) {
        return Err(from.malformed("offsets do not rise from zero"));
    }
    // The last is at least the first, which is zero.
    let end = offsets.last().and_then(|last| usize::try_from(*last).ok()).unwrap_or_default();
    Ok((OffsetBuffer::new(ScalarBuffer::from(offsets)), end))
}

fn take_texts(from: &mut Cursor<'_>, count: usize, nulls: Option<NullBuffer>) -> Result<StringArray, DecodeError> {
    let (offsets, end) = take_offsets(from, count)?;
    let bytes = Buffer::from(from.bytes(end)?);
    // Checks UTF-8 and that no offset splits a character.
    StringArray::try_new(offsets, bytes, nulls).map_err(|error| from.malformed(error.to_string()))
}

fn take_maps(from: &mut Cursor<'_>, rows: usize, nulls: Option<NullBuffer>) -> Result<MapArray, DecodeError> {
    let (offsets, entries) = take_offsets(from, rows)?;
    let keys = take_texts(from, entries, None)?;
    let value_nulls = if from.flag()? { Some(NullBuffer::new(take_bits(from, entries)?)) } else { None };
    let values = take_texts(from, entries, value_nulls)?;
    let error = |error: arrow::error::ArrowError| error.to_string();
    let field = map_entries();
    let DataType::Struct(fields) = field.data_type() else { return Err(from.malformed("maps have no entries")) };
    StructArray::try_new(fields.clone(), vec![Arc::new(keys), Arc::new(values)], None)
        .and_then(|entries| MapArray::try_new(field, offsets, entries, nulls, false))
        .map_err(|e| from.malformed(error(e)))
}

fn map_entries() -> Arc<Field> {
    match ColumnType::Map.arrow() {
        DataType::Map(field, _) => field,
        // The vocabulary gives maps the form of a map; anything else is refused as malformed above.
        other => Arc::new(Field::new("entries", other, false)),
    }
}
