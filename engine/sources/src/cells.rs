//! Turns a column of a file, of whatever type the file gave it, into a column of the stream's type.
//! Columns that have the right type already are handed through; the kernels of Arrow do what they can
//! do exactly; only text is looked at value by value. A value that does not fit marks its row.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, Float64Array, Int64Array, PrimitiveArray,
        StringArray, StringBuilder, TimestampMicrosecondArray,
    },
    compute::{CastOptions, cast_with_options},
    datatypes::{DataType, Float32Type, Float64Type, Int64Type, TimeUnit, TimestampMicrosecondType},
};
use tidewatch_model::limits::TEXT_BYTES_MAX;

use crate::{
    amount::{self, AmountFault},
    raw::excerpt,
    time::{self, TimeReader},
};

/// The rows of a batch that are broken, each with the first reason found.
#[derive(Debug, Default)]
pub(crate) struct Faults(BTreeMap<usize, String>);

impl Faults {
    pub fn add(&mut self, row: usize, reason: impl FnOnce() -> String) {
        self.0.entry(row).or_insert_with(reason);
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn get(&self, row: usize) -> Option<&str> {
        self.0.get(&row).map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().map(|(row, reason)| (*row, reason.as_str()))
    }
}

/// A column's type has no meaning for what it is to fill: a sentence for a person.
#[derive(Debug)]
pub(crate) struct Unsupported(pub String);

fn unsupported(name: &str, array: &ArrayRef, wanted: &str) -> Unsupported {
    Unsupported(format!("the column `{name}` is of the type {}, which cannot become {wanted}", array.data_type()))
}

/// Casts; where the kernel found no value for one that is there, the row is broken.
fn cast(
    name: &str,
    array: &ArrayRef,
    to: &DataType,
    wanted: &str,
    faults: &mut Faults,
) -> Result<ArrayRef, Unsupported> {
    if array.data_type() == to {
        return Ok(Arc::clone(array));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let cast = cast_with_options(array, to, &options).map_err(|_| unsupported(name, array, wanted))?;
    if cast.null_count() > 0 {
        let there = array.logical_nulls();
        for row in (0..cast.len()).filter(|row| cast.is_null(*row)) {
            if there.as_ref().is_none_or(|nulls| nulls.is_valid(row)) {
                faults.add(row, || format!("`{name}` is not {wanted}"));
            }
        }
    }
    Ok(cast)
}

/// Any column as text, however long. Floats are written with the fewest digits that mean the same
/// float, never with an exponent, so that 18.6 stays 18.6.
pub(crate) fn long_text(name: &str, array: &ArrayRef, faults: &mut Faults) -> Result<StringArray, Unsupported> {
    let array = match array.data_type() {
        DataType::Dictionary(_, value) if value.is_floating() => &cast(name, array, value, "text", faults)?,
        _ => array,
    };
    match array.data_type() {
        DataType::Float64 => Ok(displayed::<Float64Type>(array)),
        DataType::Float32 => Ok(displayed::<Float32Type>(array)),
        DataType::Float16 => Ok(displayed::<Float32Type>(&cast(name, array, &DataType::Float32, "text", faults)?)),
        other if other.is_nested() && !matches!(other, DataType::Dictionary(_, _)) => {
            Err(unsupported(name, array, "text"))
        }
        _ => Ok(cast(name, array, &DataType::Utf8, "text", faults)?.as_string::<i32>().clone()),
    }
}

fn displayed<T: ArrowPrimitiveType>(array: &ArrayRef) -> StringArray
where
    T::Native: std::fmt::Display,
{
    let mut builder = StringBuilder::new();
    for value in array.as_primitive::<T>() {
        builder.append_option(value.map(|value| value.to_string()));
    }
    builder.finish()
}

/// Any column as text of the length that an event may have.
pub(crate) fn text(name: &str, array: &ArrayRef, faults: &mut Faults) -> Result<StringArray, Unsupported> {
    let texts = long_text(name, array, faults)?;
    for (row, ends) in texts.value_offsets().windows(2).enumerate() {
        if let [start, end] = ends
            && (end - start) as usize > TEXT_BYTES_MAX
        {
            faults.add(row, || format!("`{name}` is {} bytes long; at most {TEXT_BYTES_MAX} are allowed", end - start));
        }
    }
    Ok(texts)
}

/// Reads each text; a text that cannot be read breaks its row.
fn read_texts<T: ArrowPrimitiveType, E: std::fmt::Display>(
    name: &str,
    texts: &StringArray,
    faults: &mut Faults,
    read: impl Fn(usize, &str) -> Result<T::Native, E>,
) -> PrimitiveArray<T> {
    texts
        .iter()
        .enumerate()
        .map(|(row, text)| match read(row, text?) {
            Ok(value) => Some(value),
            Err(error) => {
                faults.add(row, || format!("`{name}` {error}: `{}`", excerpt(text.unwrap_or_default())));
                None
            }
        })
        .collect()
}

fn whole_number(text: &str) -> Result<i64, &'static str> {
    amount::whole_number(text).map_err(|fault| match fault {
        AmountFault::Shape | AmountFault::TooFine(_) => "is not a whole number",
        AmountFault::Range => "does not fit 64 bits",
    })
}

pub(crate) fn big_int(name: &str, array: &ArrayRef, faults: &mut Faults) -> Result<Int64Array, Unsupported> {
    if array.data_type().is_integer() {
        let cast = cast(name, array, &DataType::Int64, "a whole number of 64 bits", faults)?;
        return Ok(cast.as_primitive::<Int64Type>().clone());
    }
    if array.data_type().is_temporal() {
        return Err(unsupported(name, array, "a whole number"));
    }
    let texts = long_text(name, array, faults)?;
    Ok(read_texts::<Int64Type, _>(name, &texts, faults, |_, text| whole_number(text)))
}

pub(crate) fn double(name: &str, array: &ArrayRef, faults: &mut Faults) -> Result<Float64Array, Unsupported> {
    if array.data_type().is_numeric() {
        let cast = cast(name, array, &DataType::Float64, "a number", faults)?;
        return Ok(cast.as_primitive::<Float64Type>().clone());
    }
    let texts = long_text(name, array, faults)?;
    Ok(read_texts::<Float64Type, _>(name, &texts, faults, |_, text| match text.trim().parse::<f64>() {
        Ok(value) if value.is_finite() => Ok(value),
        _ => Err("is not a number"),
    }))
}

pub(crate) fn boolean(name: &str, array: &ArrayRef, faults: &mut Faults) -> Result<BooleanArray, Unsupported> {
    Ok(cast(name, array, &DataType::Boolean, "true or false", faults)?.as_boolean().clone())
}

/// A column of times, as microseconds since 1970 UTC.
pub(crate) fn times(
    name: &str,
    array: &ArrayRef,
    reader: TimeReader,
    faults: &mut Faults,
) -> Result<TimestampMicrosecondArray, Unsupported> {
    let micros = match array.data_type() {
        DataType::Timestamp(_, zone) => {
            let to = DataType::Timestamp(TimeUnit::Microsecond, zone.clone());
            let micros = cast(name, array, &to, "a time in microseconds", faults)?;
            let micros = micros.as_primitive::<TimestampMicrosecondType>().clone();
            match (zone, reader.zone()) {
                (None, Some(_)) => each_time(name, &micros, faults, |value| reader.local(value)),
                _ => micros,
            }
        }
        kind if kind.is_integer() => {
            let counts = cast(name, array, &DataType::Int64, "a time", faults)?;
            each_time(name, counts.as_primitive::<Int64Type>(), faults, time::epoch)
        }
        kind if kind.is_temporal() || *kind == DataType::Boolean => return Err(unsupported(name, array, "a time")),
        _ => {
            let texts = long_text(name, array, faults)?;
            read_texts::<TimestampMicrosecondType, _>(name, &texts, faults, |_, text| reader.text(text))
        }
    };
    Ok(micros.with_timezone("UTC"))
}

fn each_time<T: ArrowPrimitiveType<Native = i64>>(
    name: &str,
    values: &PrimitiveArray<T>,
    faults: &mut Faults,
    read: impl Fn(i64) -> Result<i64, time::TimeFault>,
) -> TimestampMicrosecondArray {
    values
        .iter()
        .enumerate()
        .map(|(row, value)| match read(value?) {
            Ok(micros) => Some(micros),
            Err(error) => {
                faults.add(row, || format!("`{name}` {error}: `{}`", value.unwrap_or_default()));
                None
            }
        })
        .collect()
}

/// Amounts in major units as minor units of each row's currency.
pub(crate) fn amounts(
    name: &str,
    array: &ArrayRef,
    currencies: &StringArray,
    faults: &mut Faults,
) -> Result<Int64Array, Unsupported> {
    let texts = long_text(name, array, faults)?;
    Ok(read_texts::<Int64Type, _>(name, &texts, faults, |row, text| {
        if currencies.is_null(row) {
            return Err("has no currency, so its minor unit is unknown".to_owned());
        }
        let currency = currencies.value(row);
        amount::minor_units(text, amount::exponent(currency)).map_err(|fault| match fault {
            AmountFault::TooFine(decimals) => format!("is finer than the {decimals} decimals of {currency}"),
            other => other.to_string(),
        })
    }))
}
