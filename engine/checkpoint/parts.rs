//! A table's rows as the parts that become segments of their own: each holds minutes of one hour or one day.

use std::collections::BTreeMap;

use arrow::{
    array::{AsArray, RecordBatch, UInt32Array},
    compute,
    datatypes::TimestampMicrosecondType,
};
use tidewatch_model::{EventTime, Minute};
use tidewatch_store::{FolderError, divided};

/// First and last minute, and the rows in the order that they had.
pub type Part = ((Minute, Minute), Vec<RecordBatch>);

/// Divides rows by the minutes of their column number `time`; a part has at most `rows_max` rows, unless one minute
/// alone has more.
pub fn of(batches: &[RecordBatch], time: usize, rows_max: u64) -> Result<Vec<Part>, FolderError> {
    let mut minutes = Vec::with_capacity(batches.len());
    let mut counts: BTreeMap<Minute, u64> = BTreeMap::new();
    for batch in batches {
        let of_batch = minutes_of(batch, time)?;
        of_batch.iter().for_each(|minute| *counts.entry(*minute).or_default() += 1);
        minutes.push(of_batch);
    }
    let spans = divided(&counts, rows_max);
    if let [span] = spans.as_slice() {
        return Ok(vec![(*span, batches.to_vec())]);
    }
    let mut parts: Vec<Part> = spans.iter().map(|span| (*span, Vec::new())).collect();
    for (batch, minutes) in batches.iter().zip(minutes) {
        let mut places: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        for (row, minute) in minutes.iter().enumerate() {
            let part = spans.partition_point(|(_, last)| last < minute);
            places.entry(part).or_default().push(row as u32);
        }
        for (part, rows) in places {
            if let Some((_, batches)) = parts.get_mut(part) {
                let rows = compute::take_record_batch(batch, &UInt32Array::from(rows));
                batches.push(rows.map_err(|error| unsound(&error.to_string()))?);
            }
        }
    }
    Ok(parts)
}

fn minutes_of(batch: &RecordBatch, time: usize) -> Result<Vec<Minute>, FolderError> {
    let times = batch.columns().get(time).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>());
    let times = times.ok_or_else(|| unsound("the table's column of times holds none"))?;
    Ok(times.values().iter().map(|micros| EventTime::from_micros(*micros).minute()).collect())
}

fn unsound(what: &str) -> FolderError {
    FolderError::Unsound(format!("a table's rows cannot be divided: {what}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Int64Array, TimestampMicrosecondArray},
        datatypes::Int64Type,
    };

    use super::*;

    fn rows(minutes: &[i64], first: i64) -> RecordBatch {
        let times = TimestampMicrosecondArray::from_iter_values(minutes.iter().map(|minute| minute * 60_000_000 + 7));
        let numbers = Int64Array::from_iter_values(first..first + minutes.len() as i64);
        RecordBatch::try_from_iter([("n", Arc::new(numbers) as ArrayRef), ("at", Arc::new(times))]).unwrap()
    }

    #[test]
    fn rows_keep_their_order_in_each_part() {
        let batches = [rows(&[61, 59, 60, 0], 0), rows(&[], 4), rows(&[59, 60], 4)];
        let parts = of(&batches, 1, 100).unwrap();
        let numbers = |(minutes, rows): &Part| {
            let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
            ((minutes.0.index(), minutes.1.index()), rows.iter().flat_map(column).collect::<Vec<_>>())
        };
        let found: Vec<_> = parts.iter().map(numbers).collect();
        assert_eq!(found, [((0, 59), vec![1, 3, 4]), ((60, 61), vec![0, 2, 5])]);
        let whole = of(&batches[2..], 1, 100).unwrap();
        assert_eq!(whole.len(), 2);
        assert_eq!(of(&[], 1, 100).unwrap(), []);
        assert!(of(&batches, 0, 100).is_err());
    }
}
