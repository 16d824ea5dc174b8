//! The ledger beside a plain list of all rows that ever came: random batches, limits, and saves that take their time.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

fn shape() -> Arc<TableShape> {
    let fields = vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)];
    Arc::new(TableShape { name: "rows".to_owned(), schema: Arc::new(Schema::new(fields)), time: None })
}

/// Each row holds its own number.
fn rows(numbers: std::ops::Range<u64>) -> RecordBatch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n as i64)));
    let text: ArrayRef = Arc::new(numbers.map(|n| (n % 7 > 0).then(|| format!("row {n}"))).collect::<StringArray>());
    RecordBatch::try_new(Arc::clone(&shape().schema), vec![n, text]).unwrap()
}

fn numbers(batches: &[RecordBatch]) -> Vec<u64> {
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).map(|n| n as u64).collect()
}

#[test]
fn what_is_long_enough_is_not_joined_again() {
    let mut ledger = Ledger::new(shape(), usize::MAX);
    let long = rows(0..2_000);
    ledger.push(long.clone());
    let mut next = 2_000;
    for size in std::iter::repeat_n(2_000, 400).chain(std::iter::repeat_n(1, 2_000)) {
        ledger.push(rows(next..next + size));
        next += size;
    }
    let batches = ledger.batches();
    assert!(batches.len() < 401 + BATCHES_MAX + 3, "{} batches", batches.len());
    assert!(batches[0].column(0).to_data().ptr_eq(&long.column(0).to_data()), "a long batch is not copied");
    assert_eq!(numbers(&ledger.batches()), (0..next).collect::<Vec<_>>());
    assert_eq!(ledger.bytes(), ledger.batches().iter().map(RecordBatch::get_array_memory_size).sum::<usize>());
    let taken = ledger.take_new(1);
    assert!(taken.rows[0].column(0).to_data().ptr_eq(&long.column(0).to_data()), "nor when it is saved");
}

#[test]
fn every_row_is_taken_once_and_stays_until_it_is_on_disk() {
    let (mut lost, mut waited) = (0, 0);
    for seed in 0..150 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let bytes_max = [20_000, 200_000, usize::MAX][rng.random_range(0..3)];
        let often = [0.01, 0.1, 0.5][rng.random_range(0..3)];
        let sizes = [2, 50, 1_500][rng.random_range(0..3)];
        let mut ledger = Ledger::new(shape(), bytes_max);
        let (mut next, mut save, mut disk, mut under_way) = (0, 0, Vec::new(), VecDeque::new());
        for _ in 0..rng.random_range(1..600) {
            let count = rng.random_range(0..sizes);
            ledger.push(rows(next..next + count));
            next += count;
            assert!(ledger.bytes() <= bytes_max, "seed {seed}: {} of {bytes_max} bytes", ledger.bytes());
            if rng.random_bool(often) {
                save += 1;
                under_way.push_back((save, numbers(&ledger.take_new(save).rows)));
            }
            if let Some((save, rows)) = under_way.pop_front_if(|_| rng.random_bool(often)) {
                disk.extend(rows);
                ledger.saved(save);
                ledger.saved(save);
            }
            waited = waited.max(under_way.len());
            // Disk and memory together are every row once, in order, but for those that were lost.
            let all = [disk.clone(), numbers(&ledger.batches())].concat();
            assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "seed {seed}: a row twice");
            assert_eq!(all.len() as u64 + ledger.lost(), next, "seed {seed}: rows and lost rows are all");
            assert!(bytes_max < usize::MAX || ledger.lost() == 0, "seed {seed}");
        }
        lost += ledger.lost();
    }
    assert!(lost > 0 && waited > 1, "the cases say too little: {lost} lost, {waited} saves at once");
}

#[test]
fn a_ledger_without_room_keeps_nothing() {
    let mut ledger = Ledger::new(shape(), 0);
    ledger.push(rows(0..5));
    assert_eq!((ledger.batches().len(), ledger.lost(), ledger.wants_saving()), (0, 5, false));
}

#[test]
fn rows_leave_once_as_time_goes_on() {
    let minute = Minute::from_index;
    let mut ledger = Ledger::new(shape(), usize::MAX);
    assert_eq!(ledger.take_new(1).leaving, None);
    // What is older when time begins was so when it came.
    ledger.retain(minute(100));
    assert_eq!((ledger.take_new(2).leaving, ledger.kept_from()), (None, Some(minute(100))));
    ledger.retain(minute(130));
    ledger.retain(minute(120));
    assert_eq!(ledger.take_new(3).leaving, Some((minute(100), minute(130))));
    assert_eq!(ledger.take_new(4).leaving, None);
    let mut again = Ledger::new(shape(), usize::MAX);
    again.restore_kept(ledger.kept_from());
    again.retain(minute(131));
    assert_eq!(again.take_new(5).leaving, Some((minute(130), minute(131))));
    again.make_room(minute(90));
    let oldest = minute(i64::MIN);
    assert_eq!(again.take_new(6).leaving, Some((oldest, minute(131))), "whatever was old when it came goes, too");
    assert_eq!(again.take_new(7).leaving, None);
}
