//! Adding rows to states, a column at a time: one loop per kind, with the null and filter checks
//! taken out of it where there is nothing to check.

use arrow::{
    array::{
        Array, ArrayRef, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray, StringArray,
        TimestampMicrosecondArray,
    },
    buffer::NullBuffer,
    datatypes::{ArrowPrimitiveType, DataType, Float64Type, Int64Type},
    error::ArrowError,
};
use tidewatch_model::hash64;

use super::{States, Total};

/// Which rows count: those that the aggregate's FILTER lets through and whose arguments are not NULL.
fn chosen(args: &[ArrayRef], filter: Option<&BooleanArray>) -> Option<NullBuffer> {
    let nulls = args.iter().fold(None, |nulls, arg| NullBuffer::union(nulls.as_ref(), arg.logical_nulls().as_ref()));
    let passed = filter.map(|filter| {
        let passed = match filter.nulls() {
            Some(nulls) => filter.values() & nulls.inner(),
            None => filter.values().clone(),
        };
        NullBuffer::new(passed)
    });
    NullBuffer::union(nulls.as_ref(), passed.as_ref()).filter(|nulls| nulls.null_count() > 0)
}

fn rows<T>(column: &mut [T], slots: &[u32], chosen: Option<&NullBuffer>, mut add: impl FnMut(&mut T, usize)) {
    match chosen {
        None => {
            for (row, slot) in slots.iter().enumerate() {
                if let Some(state) = column.get_mut(*slot as usize) {
                    add(state, row);
                }
            }
        }
        Some(chosen) => {
            for row in chosen.valid_indices() {
                if let Some(state) = slots.get(row).and_then(|slot| column.get_mut(*slot as usize)) {
                    add(state, row);
                }
            }
        }
    }
}

fn primitive<P: ArrowPrimitiveType>(args: &[ArrayRef]) -> Result<&PrimitiveArray<P>, ArrowError> {
    args.first()
        .and_then(|arg| arg.as_primitive_opt::<P>())
        .ok_or_else(|| ArrowError::SchemaError(format!("an aggregate's argument is not {}", P::DATA_TYPE)))
}

fn text(args: &[ArrayRef]) -> Result<&StringArray, ArrowError> {
    args.first()
        .and_then(|arg| arg.as_string_opt::<i32>())
        .ok_or_else(|| ArrowError::SchemaError("an aggregate's argument is not text".to_owned()))
}

/// Timestamps are kept as their microseconds.
pub(super) fn whole(args: &[ArrayRef]) -> Result<Int64Array, ArrowError> {
    match args.first().map(|arg| (arg, arg.data_type())) {
        Some((arg, DataType::Timestamp(_, _))) => {
            let times = arg
                .as_any()
                .downcast_ref::<TimestampMicrosecondArray>()
                .ok_or_else(|| ArrowError::SchemaError("a time that is not in microseconds".to_owned()))?;
            Ok(times.reinterpret_cast::<Int64Type>())
        }
        _ => primitive::<Int64Type>(args).cloned(),
    }
}

impl States {
    /// Adds row `i` of `args` to slot `slots[i]`, where `filter` allows it.
    pub fn update(
        &mut self,
        slots: &[u32],
        args: &[ArrayRef],
        filter: Option<&BooleanArray>,
    ) -> Result<(), ArrowError> {
        if args.iter().any(|arg| arg.len() != slots.len()) || filter.is_some_and(|f| f.len() != slots.len()) {
            return Err(ArrowError::ComputeError("an aggregate's arguments differ in length from its rows".to_owned()));
        }
        // From here on `row < slots.len()`, the length of every argument.
        let chosen = chosen(args, filter);
        let chosen = chosen.as_ref();
        match self {
            Self::Count(column) => rows(column, slots, chosen, |count, _| *count = count.saturating_add(1)),
            Self::SumInt(column) => {
                let values = primitive::<Int64Type>(args)?.values();
                rows(column, slots, chosen, |sum, row| sum.add(values[row]));
            }
            Self::SumFloat(column) => {
                let values = primitive::<Float64Type>(args)?.values();
                rows(column, slots, chosen, |sum, row| sum.add(values[row]));
            }
            Self::Mean(column) | Self::Spread(_, column) => {
                let values = primitive::<Float64Type>(args)?.values();
                rows(column, slots, chosen, |moments, row| moments.add(values[row]));
            }
            Self::MinInt(_, column) => {
                let values = whole(args)?;
                rows(column, slots, chosen, |least, row| least.offer(values.value(row)));
            }
            Self::MaxInt(_, column) => {
                let values = whole(args)?;
                rows(column, slots, chosen, |greatest, row| greatest.offer(values.value(row)));
            }
            Self::MinFloat(column) => {
                let values = primitive::<Float64Type>(args)?.values();
                rows(column, slots, chosen, |least, row| least.offer(Total(values[row])));
            }
            Self::MaxFloat(column) => {
                let values = primitive::<Float64Type>(args)?.values();
                rows(column, slots, chosen, |greatest, row| greatest.offer(Total(values[row])));
            }
            Self::MinText(column) => {
                let values = text(args)?;
                rows(column, slots, chosen, |least, row| least.offer_text(values.value(row)));
            }
            Self::MaxText(column) => {
                let values = text(args)?;
                rows(column, slots, chosen, |greatest, row| greatest.offer_text(values.value(row)));
            }
            Self::Distinct(column) => {
                let hashes = hashes(args)?;
                rows(column, slots, chosen, |sketch, row| sketch.add_hash(hashes[row]));
            }
            Self::Histogram(column) => {
                let values: &Float64Array = primitive::<Float64Type>(args)?;
                match args.get(1) {
                    None => rows(column, slots, chosen, |histogram, row| histogram.add(values.value(row), 1)),
                    Some(_) => {
                        let weights = primitive::<Int64Type>(args.get(1..).unwrap_or_default())?;
                        rows(column, slots, chosen, |h, row| h.add(values.value(row), weights.value(row)));
                    }
                }
            }
        }
        Ok(())
    }
}

impl super::Least<Box<str>> {
    fn offer_text(&mut self, value: &str) {
        if self.0.as_deref().is_none_or(|least| value < least) {
            self.0 = Some(value.into());
        }
    }
}

impl super::Greatest<Box<str>> {
    fn offer_text(&mut self, value: &str) {
        if self.0.as_deref().is_none_or(|greatest| value > greatest) {
            self.0 = Some(value.into());
        }
    }
}

/// The hash of each value's bytes; floats by their bits, with the two zeros made one.
pub fn hashes(args: &[ArrayRef]) -> Result<Vec<u64>, ArrowError> {
    let Some(arg) = args.first() else { return Ok(Vec::new()) };
    Ok(match arg.data_type() {
        DataType::Utf8 => text(args)?.iter().map(|v| v.map_or(0, |v| hash64(v.as_bytes()))).collect(),
        DataType::Float64 => {
            let values = primitive::<Float64Type>(args)?.values();
            values.iter().map(|v| hash64(&(if *v == 0.0 { 0.0 } else { *v }).to_bits().to_le_bytes())).collect()
        }
        DataType::Boolean => {
            let values = arg.as_boolean();
            values.iter().map(|v| hash64(&[u8::from(v.unwrap_or_default())])).collect()
        }
        _ => whole(args)?.values().iter().map(|v| hash64(&v.to_le_bytes())).collect(),
    })
}
