//! States as Arrow columns, lossless to the last bit: each kind's form, how it is written, how it is read back.
//! The forms are drawn in FORMAT.md. What is read is checked value by value: it may come from a damaged file.

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, FixedSizeBinaryArray, Float64Array, Int64Array,
        PrimitiveArray, StringArray, StructArray,
    },
    buffer::NullBuffer,
    datatypes::{DataType, Field, Fields, Float64Type, Int64Type},
};

use super::{
    DistinctState, FloatSum, Greatest, IntSum, Kind, Least, Moments, States, Total, histogram_column, integers,
    update::whole,
};

/// The version of the layout of a sketch, its first byte.
const SKETCH_VERSION: u8 = 1;

/// Arrow's offsets of text, bytes and lists are 32 bits wide.
const OFFSET_MAX: usize = i32::MAX as usize;

/// Why states cannot be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unwritable {
    OtherKind,
    TooLarge { size: usize },
}

/// What is wrong with a column that was read, and in which row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    pub row: usize,
    pub reason: &'static str,
}

pub(super) const MISSING: &str = "a value is missing";
const OTHER_TYPE: &str = "the column has another type";

/// The vectors inside of parts that are all of one kind, as one list.
macro_rules! joined {
    ($parts:expr, $variant:ident) => {
        joined!($parts, States::$variant(column) => column)
    };
    ($parts:expr, $pattern:pat $(if $guard:expr)? => $column:ident) => {{
        let columns = $parts.iter().map(|part| match part {
            $pattern $(if $guard)? => Ok($column.iter()),
            _ => Err(Unwritable::OtherKind),
        });
        columns.collect::<Result<Vec<_>, _>>()?.into_iter().flatten()
    }};
}

impl Kind {
    /// The type of a column of such states.
    pub fn column_type(&self) -> DataType {
        match self {
            Self::Count => DataType::Int64,
            Self::SumInt => DataType::Struct(int_sum_fields()),
            Self::SumFloat => DataType::Struct(float_sum_fields()),
            Self::Mean | Self::Spread(_) => DataType::Struct(moments_fields()),
            Self::MinInt { output } | Self::MaxInt { output } => output.clone(),
            Self::MinFloat | Self::MaxFloat => DataType::Float64,
            Self::MinText | Self::MaxText => DataType::Utf8,
            Self::Distinct => DataType::Binary,
            Self::Histogram => histogram_column::column_type(),
        }
    }

    /// Whether NULL stands in such a column for "nothing was added".
    pub fn is_nullable(&self) -> bool {
        !matches!(self, Self::Count | Self::Distinct | Self::Histogram)
    }

    /// States of this kind, one part after another, as one column.
    pub fn write(&self, parts: &[&States]) -> Result<ArrayRef, Unwritable> {
        Ok(match self {
            Self::Count => Arc::new(joined!(parts, Count).copied().collect::<Int64Array>()),
            Self::SumInt => Arc::new(write_int_sums(&joined!(parts, SumInt).collect::<Vec<_>>())?),
            Self::SumFloat => Arc::new(write_float_sums(joined!(parts, SumFloat))),
            Self::Mean => Arc::new(write_moments(&joined!(parts, Mean).collect::<Vec<_>>())),
            Self::Spread(spread) => {
                let states = joined!(parts, States::Spread(other, column) if other == spread => column);
                Arc::new(write_moments(&states.collect::<Vec<_>>()))
            }
            Self::MinInt { output } => {
                let states = joined!(parts, States::MinInt(other, column) if other == output => column);
                integers(output, states.map(|least| least.0))
            }
            Self::MaxInt { output } => {
                let states = joined!(parts, States::MaxInt(other, column) if other == output => column);
                integers(output, states.map(|greatest| greatest.0))
            }
            Self::MinFloat => write_floats(joined!(parts, MinFloat).map(|least| least.0)),
            Self::MaxFloat => write_floats(joined!(parts, MaxFloat).map(|greatest| greatest.0)),
            Self::MinText => write_texts(&joined!(parts, MinText).map(|least| least.0.as_deref()).collect::<Vec<_>>())?,
            Self::MaxText => write_texts(&joined!(parts, MaxText).map(|most| most.0.as_deref()).collect::<Vec<_>>())?,
            Self::Distinct => write_sketches(joined!(parts, Distinct))?,
            Self::Histogram => Arc::new(histogram_column::write(&joined!(parts, Histogram).collect::<Vec<_>>())?),
        })
    }

    /// Reads what `write` wrote.
    pub fn read(&self, column: &ArrayRef) -> Result<States, Damage> {
        Ok(match self {
            Self::Count => {
                let counts = numbers::<Int64Type>(column)?;
                States::Count(by_row(column, |row| not_negative(counts, row))?)
            }
            Self::SumInt => States::SumInt(read_int_sums(column)?),
            Self::SumFloat => States::SumFloat(read_float_sums(column)?),
            Self::Mean => States::Mean(read_moments(column)?),
            Self::Spread(spread) => States::Spread(*spread, read_moments(column)?),
            Self::MinInt { output } => {
                States::MinInt(output.clone(), read_integers(column)?.iter().map(Least).collect())
            }
            Self::MaxInt { output } => {
                States::MaxInt(output.clone(), read_integers(column)?.iter().map(Greatest).collect())
            }
            Self::MinFloat => {
                States::MinFloat(numbers::<Float64Type>(column)?.iter().map(|v| Least(v.map(Total))).collect())
            }
            Self::MaxFloat => {
                States::MaxFloat(numbers::<Float64Type>(column)?.iter().map(|v| Greatest(v.map(Total))).collect())
            }
            Self::MinText => States::MinText(texts(column)?.iter().map(|v| Least(v.map(Into::into))).collect()),
            Self::MaxText => States::MaxText(texts(column)?.iter().map(|v| Greatest(v.map(Into::into))).collect()),
            Self::Distinct => States::Distinct(read_sketches(column)?),
            Self::Histogram => States::Histogram(histogram_column::read(column)?),
        })
    }
}

/// A size that offsets can reach.
pub(super) fn within_offsets(size: usize) -> Result<usize, Unwritable> {
    if size > OFFSET_MAX { Err(Unwritable::TooLarge { size }) } else { Ok(size) }
}

pub(super) fn other_type() -> Damage {
    Damage { row: 0, reason: OTHER_TYPE }
}

pub(super) fn numbers<P: ArrowPrimitiveType>(column: &dyn Array) -> Result<&PrimitiveArray<P>, Damage> {
    column.as_primitive_opt::<P>().ok_or_else(other_type)
}

pub(super) fn structs(column: &dyn Array) -> Result<&StructArray, Damage> {
    column.as_struct_opt().ok_or_else(other_type)
}

/// A struct's column by its place.
pub(super) fn child(column: &StructArray, at: usize) -> Result<&ArrayRef, Damage> {
    column.columns().get(at).ok_or_else(other_type)
}

pub(super) fn by_row<T>(column: &dyn Array, read: impl Fn(usize) -> Result<T, &'static str>) -> Result<Vec<T>, Damage> {
    (0..column.len()).map(|row| read(row).map_err(|reason| Damage { row, reason })).collect()
}

/// A value that must be there. `row` is below the length of the column.
pub(super) fn given<P: ArrowPrimitiveType>(column: &PrimitiveArray<P>, row: usize) -> Result<P::Native, &'static str> {
    if column.is_null(row) { Err(MISSING) } else { Ok(column.value(row)) }
}

pub(super) fn not_negative(column: &PrimitiveArray<Int64Type>, row: usize) -> Result<i64, &'static str> {
    match given(column, row)? {
        count if count < 0 => Err("a count is negative"),
        count => Ok(count),
    }
}

/// Where there are values; nothing where there are values everywhere.
fn present(present: impl Iterator<Item = bool>) -> Option<NullBuffer> {
    Some(NullBuffer::from_iter(present)).filter(|nulls| nulls.null_count() > 0)
}

fn int_sum_fields() -> Fields {
    Fields::from(vec![
        Field::new("sum", DataType::Int64, true),
        Field::new("wide", DataType::FixedSizeBinary(16), true),
    ])
}

fn write_int_sums(states: &[&IntSum]) -> Result<StructArray, Unwritable> {
    let short = |state: &&IntSum| i64::try_from(state.sum).ok();
    let sums: Int64Array = states.iter().map(|state| short(state).filter(|_| state.seen)).collect();
    let wide = states.iter().map(|state| if short(state).is_some() { None } else { Some(state.sum.to_be_bytes()) });
    // The bytes are 16 of each, so this can only fail for want of space.
    let wide = FixedSizeBinaryArray::try_from_sparse_iter_with_size(wide, 16)
        .map_err(|_| Unwritable::TooLarge { size: states.len().saturating_mul(16) })?;
    let seen = present(states.iter().map(|state| state.seen));
    Ok(StructArray::new(int_sum_fields(), vec![Arc::new(sums), Arc::new(wide)], seen))
}

fn read_int_sums(column: &ArrayRef) -> Result<Vec<IntSum>, Damage> {
    let column = structs(column)?;
    let sums = numbers::<Int64Type>(child(column, 0)?)?;
    let wide = child(column, 1)?.as_fixed_size_binary_opt().ok_or_else(other_type)?;
    by_row(column, |row| {
        if column.is_null(row) {
            return Ok(IntSum::default());
        }
        let sum = match (sums.is_valid(row), wide.is_valid(row)) {
            (true, false) => i128::from(sums.value(row)),
            (false, true) => {
                let sum = i128::from_be_bytes(wide.value(row).try_into().map_err(|_| OTHER_TYPE)?);
                if i64::try_from(sum).is_ok() {
                    return Err("a sum is written wide and would fit 64 bits");
                }
                sum
            }
            (false, false) => return Err(MISSING),
            (true, true) => return Err("a sum is written twice"),
        };
        Ok(IntSum { sum, seen: true })
    })
}

pub(super) fn float_sum_fields() -> Fields {
    let float = |name: &str| Field::new(name, DataType::Float64, false);
    Fields::from(vec![float("sum"), float("compensation")])
}

pub(super) fn write_float_sums<'a>(states: impl Iterator<Item = &'a FloatSum> + Clone) -> StructArray {
    let sums = Float64Array::from_iter_values(states.clone().map(|state| state.sum));
    let compensations = Float64Array::from_iter_values(states.clone().map(|state| state.compensation));
    let seen = present(states.map(|state| state.seen));
    StructArray::new(float_sum_fields(), vec![Arc::new(sums), Arc::new(compensations)], seen)
}

pub(super) fn read_float_sums(column: &dyn Array) -> Result<Vec<FloatSum>, Damage> {
    let column = structs(column)?;
    let sums = numbers::<Float64Type>(child(column, 0)?)?;
    let compensations = numbers::<Float64Type>(child(column, 1)?)?;
    by_row(column, |row| {
        if column.is_null(row) {
            return Ok(FloatSum::default());
        }
        Ok(FloatSum { sum: given(sums, row)?, compensation: given(compensations, row)?, seen: true })
    })
}

fn moments_fields() -> Fields {
    let float = |name: &str| Field::new(name, DataType::Float64, false);
    let count = Field::new("count", DataType::Int64, false);
    Fields::from(vec![count, float("sum"), float("compensation"), float("mean"), float("squares")])
}

/// Values are summed where they are counted, so a count of zero says all of the rest.
fn write_moments(states: &[&Moments]) -> StructArray {
    let floats = |part: fn(&Moments) -> f64| -> ArrayRef {
        Arc::new(Float64Array::from_iter_values(states.iter().map(|state| part(state))))
    };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(states.iter().map(|state| state.count))),
        floats(|state| state.sum.sum),
        floats(|state| state.sum.compensation),
        floats(|state| state.mean),
        floats(|state| state.squares),
    ];
    StructArray::new(moments_fields(), columns, present(states.iter().map(|state| state.count > 0)))
}

fn read_moments(column: &ArrayRef) -> Result<Vec<Moments>, Damage> {
    let column = structs(column)?;
    let counts = numbers::<Int64Type>(child(column, 0)?)?;
    let float = |at: usize| numbers::<Float64Type>(child(column, at)?);
    let (sums, compensations, means, squares) = (float(1)?, float(2)?, float(3)?, float(4)?);
    by_row(column, |row| {
        if column.is_null(row) {
            return Ok(Moments::default());
        }
        let count = given(counts, row)?;
        if count < 1 {
            return Err("the moments are those of no value");
        }
        let sum = FloatSum { sum: given(sums, row)?, compensation: given(compensations, row)?, seen: true };
        Ok(Moments { count, sum, mean: given(means, row)?, squares: given(squares, row)? })
    })
}

/// Whole numbers and times.
fn read_integers(column: &ArrayRef) -> Result<Int64Array, Damage> {
    whole(std::slice::from_ref(column)).map_err(|_| other_type())
}

fn write_floats(values: impl Iterator<Item = Option<Total>>) -> ArrayRef {
    Arc::new(values.map(|value| value.map(|total| total.0)).collect::<Float64Array>())
}

fn write_texts(values: &[Option<&str>]) -> Result<ArrayRef, Unwritable> {
    within_offsets(values.iter().flatten().map(|value| value.len()).sum())?;
    Ok(Arc::new(values.iter().collect::<StringArray>()))
}

fn texts(column: &ArrayRef) -> Result<&StringArray, Damage> {
    column.as_string_opt::<i32>().ok_or_else(other_type)
}

fn write_sketches<'a>(states: impl Iterator<Item = &'a DistinctState>) -> Result<ArrayRef, Unwritable> {
    let mut sketches = BinaryBuilder::new();
    let mut sketch = Vec::new();
    let mut size = 0;
    for state in states {
        sketch.clear();
        sketch.push(SKETCH_VERSION);
        state.write(&mut sketch);
        size = within_offsets(size + sketch.len())?;
        sketches.append_value(&sketch);
    }
    Ok(Arc::new(sketches.finish()))
}

fn read_sketches(column: &ArrayRef) -> Result<Vec<DistinctState>, Damage> {
    let sketches = column.as_binary_opt::<i32>().ok_or_else(other_type)?;
    by_row(column, |row| {
        if sketches.is_null(row) {
            return Err(MISSING);
        }
        match sketches.value(row).split_first() {
            Some((&SKETCH_VERSION, sketch)) => DistinctState::from_bytes(sketch).ok_or("a sketch is damaged"),
            Some(_) => Err("a sketch is of a version that is not known"),
            None => Err("a sketch is empty"),
        }
    })
}
