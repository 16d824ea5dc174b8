//! A measurement, not a test:
//! `cargo test --release -p tidewatch -p tidewatch-views --lib speed_of_a_save -- --ignored --nocapture`.

use std::{sync::Arc, time::Instant};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use tidewatch_model::Partition;

use super::{
    Disk,
    traffic::{MINUTE, stream, views},
};
use crate::{Events, Operator, OperatorLimits};

#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "measures")]
fn speed_of_a_save() {
    let stream = stream();
    let (views, limits) = (views(100_000), OperatorLimits { ids_max: 10_000_000 });
    let mut operator = Operator::new(Arc::clone(&stream.schema), views.clone(), limits).unwrap();
    let (mut disk, mut id) = (Disk::default(), 0u64);
    for round in 0..4 {
        for _ in 0..10 {
            let rows = 50_000;
            let ids = StringArray::from_iter_values((0..rows).map(|_| {
                id += 1;
                format!("{id}")
            }));
            let account = StringArray::from_iter_values((0..rows).map(|row| format!("a{}", row % 10_000)));
            let columns: Vec<ArrayRef> = vec![
                Arc::new(ids),
                Arc::new(TimestampMicrosecondArray::from_value(29_000_000 * MINUTE, rows).with_timezone("UTC")),
                Arc::new(StringArray::from_iter_values((0..rows).map(|_| "approved"))),
                Arc::new(account),
                Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row as i64 % 50 + 1))),
                Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64 % 900.0))),
            ];
            let rows = RecordBatch::try_new(Arc::clone(stream.schema.arrow()), columns).unwrap();
            operator.events(Events { partition: Partition::Live(0), producer: None, rows: &rows }).unwrap();
        }
        let begun = Instant::now();
        let saved = operator.save().unwrap();
        let (groups, held) = (operator.open_groups(), operator.ids().0);
        let new: usize = saved.ids.iter().flat_map(|ids| &ids.runs).map(|(_, ids)| ids.len()).sum();
        let bytes: usize = saved.open.iter().map(|open| open.frame.get_array_memory_size()).sum();
        println!("{round}: {:?} for {groups} groups ({bytes} bytes) and {new} of {held} ids", begun.elapsed());
        disk.keep(saved, true);
    }
    let (begun, ids) = (Instant::now(), disk.ids.len());
    drop(disk.restore(&views, limits).unwrap());
    println!("restored in {:?} from {ids} runs", begun.elapsed());
}
