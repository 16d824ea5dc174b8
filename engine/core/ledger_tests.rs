//! The ledger beside a plain list of all rows that ever came: random batches, limits, saves and restarts.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, AsArray, Int64Array, StringArray},
    datatypes::{DataType, Field, Int64Type, Schema},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false), Field::new("text", DataType::Utf8, true)]))
}

/// Each row holds its own number.
fn rows(numbers: std::ops::Range<u64>) -> RecordBatch {
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(numbers.clone().map(|n| n as i64)));
    let text: ArrayRef = Arc::new(numbers.map(|n| (n % 7 > 0).then(|| format!("row {n}"))).collect::<StringArray>());
    RecordBatch::try_new(schema(), vec![n, text]).unwrap()
}

fn numbers(batches: &[RecordBatch]) -> Vec<u64> {
    let column = |batch: &RecordBatch| batch.column(0).as_primitive::<Int64Type>().values().to_vec();
    batches.iter().flat_map(column).map(|n| n as u64).collect()
}

fn count(batches: &[RecordBatch]) -> u64 {
    batches.iter().map(|batch| batch.num_rows() as u64).sum()
}

#[test]
fn the_newest_rows_stay_in_order() {
    let mut ledger = Ledger::new(schema(), 1_000, usize::MAX);
    for n in 0..3_000 {
        ledger.push(rows(n..n + 1));
    }
    let kept = numbers(&ledger.batches());
    assert!(kept.len() <= 1_000 && kept.len() > 100, "{} rows", kept.len());
    assert_eq!((kept.last(), ledger.dropped_rows(), ledger.total_rows()), (Some(&2_999), kept[0], 3_000));
    assert!(kept.windows(2).all(|pair| pair[0] + 1 == pair[1]));
    assert!(ledger.batches().len() <= BATCHES_MAX + 2);
}

#[test]
fn what_is_long_enough_is_not_joined_again() {
    let mut ledger = Ledger::new(schema(), usize::MAX, usize::MAX);
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
}

/// What was saved, as whoever saves knows it.
#[derive(Default)]
struct Disk {
    segments: Vec<(u64, RecordBatch)>,
    /// The numbers that must be on it, but for those that the ledger says it dropped.
    next: u64,
}

impl Disk {
    fn save(&mut self, ledger: &Ledger, unsaved: &[RecordBatch], seed: u64) {
        let first = ledger.total_rows() - count(unsaved);
        assert_eq!(numbers(unsaved), (first..ledger.total_rows()).collect::<Vec<_>>(), "seed {seed}");
        assert!(first >= self.next, "seed {seed}: saved twice");
        assert!(first == self.next || first <= ledger.dropped_rows(), "seed {seed}: a row in memory is not saved");
        if !unsaved.is_empty() {
            self.segments.push((first, compute::concat_batches(&schema(), unsaved).unwrap()));
        }
        self.next = ledger.total_rows();
        self.segments.retain(|(first, rows)| first + rows.num_rows() as u64 > ledger.dropped_rows());
    }

    fn restore(&self, rows_max: usize, bytes_max: usize) -> Ledger {
        let first = self.segments.first().map_or(self.next, |(first, _)| *first);
        let batches = self.segments.iter().map(|(_, rows)| rows.clone());
        Ledger::restore(schema(), rows_max, bytes_max, batches, first).unwrap()
    }
}

#[test]
fn every_row_is_saved_once_and_a_restart_has_what_memory_had() {
    let (mut lost, mut restarts) = (0, 0);
    for seed in 0..150 {
        let mut rng = SmallRng::seed_from_u64(seed);
        let rows_max = [100, 3_000, usize::MAX][rng.random_range(0..3)];
        let bytes_max = [20_000, 200_000, usize::MAX][rng.random_range(0..3)];
        let often = [0.01, 0.1, 0.5][rng.random_range(0..3)];
        let sizes = [2, 50, 1_500][rng.random_range(0..3)];
        let mut ledger = Ledger::new(schema(), rows_max, bytes_max).keep_unsaved();
        let (mut disk, mut dropped, mut accounted) = (Disk::default(), 0, 0);
        for _ in 0..rng.random_range(1..600) {
            let total = ledger.total_rows();
            ledger.push(rows(total..total + rng.random_range(0..sizes)));
            check(&ledger, (rows_max, bytes_max), seed);
            if !rng.random_bool(often) {
                continue;
            }
            if rng.random_bool(0.3) {
                // The disk was full, or took only a part of them.
                let unsaved = ledger.unsaved();
                assert_eq!(numbers(&ledger.unsaved()), numbers(&unsaved), "seed {seed}: asking changes nothing");
                let first = ledger.total_rows() - count(&unsaved);
                if rng.random_bool(0.5) && disk.next <= first && ledger.unsaved_dropped() == dropped {
                    let part = rng.random_range(0..=count(&unsaved));
                    ledger.saved_through(first + part);
                    let rest = numbers(&ledger.unsaved());
                    assert_eq!(rest, (first + part..ledger.total_rows()).collect::<Vec<_>>(), "seed {seed}");
                    if part > 0 {
                        let saved = compute::concat_batches(&schema(), &unsaved).unwrap();
                        disk.segments.push((first, saved.slice(0, part as usize)));
                        disk.next = first + part;
                        accounted += part;
                    }
                }
                continue;
            }
            let unsaved = ledger.take_unsaved();
            disk.save(&ledger, &unsaved, seed);
            accounted += count(&unsaved) + ledger.unsaved_dropped() - dropped;
            dropped = ledger.unsaved_dropped();
            assert_eq!(accounted, ledger.total_rows(), "seed {seed}: saved and dropped are all");
            assert!(ledger.unsaved().is_empty(), "seed {seed}");
            if rng.random_bool(0.3) {
                let again = disk.restore(rows_max, bytes_max);
                let (kept, was) = (numbers(&again.batches()), numbers(&ledger.batches()));
                assert_eq!((again.total_rows(), again.unsaved().len()), (ledger.total_rows(), 0), "seed {seed}");
                assert_eq!(kept, (again.dropped_rows()..again.total_rows()).collect::<Vec<_>>(), "seed {seed}");
                // It may hold more, up to the beginning of a segment; less only where a segment finds no room.
                let segment = disk.segments.iter().map(|(_, rows)| rows.num_rows()).max().unwrap_or(0);
                let bound = rows_max < usize::MAX || bytes_max < usize::MAX;
                assert!(kept.len() >= was.len() || bound && kept.len() + segment >= was.len(), "seed {seed}");
                (lost, dropped, restarts) = (lost + dropped, 0, restarts + 1);
                ledger = again;
            }
        }
        lost += ledger.unsaved_dropped();
    }
    assert!(lost > 0 && restarts > 50, "the cases say too little: {lost} dropped, {restarts} restarts");
}

/// Twice the bytes, but for the last batch, which stays whatever its size.
fn check(ledger: &Ledger, (rows_max, bytes_max): (usize, usize), seed: u64) {
    let kept = numbers(&ledger.batches());
    assert_eq!(kept, (ledger.dropped_rows()..ledger.total_rows()).collect::<Vec<_>>(), "seed {seed}");
    assert!(ledger.batches.len() == 1 || kept.len() <= rows_max, "seed {seed}: {} rows", kept.len());
    let bytes = ledger.bytes() + ledger.unsaved.bytes;
    let last = ledger.batches().last().map_or(0, RecordBatch::get_array_memory_size);
    assert!(bytes <= bytes_max.saturating_mul(2).max(last), "seed {seed}: {bytes} of {bytes_max} bytes");
    let actual: usize = ledger.unsaved.waiting.iter().map(RecordBatch::get_array_memory_size).sum();
    assert_eq!(ledger.unsaved.bytes, actual, "seed {seed}");
}

#[test]
fn without_anybody_who_saves_nothing_is_kept_for_saving() {
    let mut ledger = Ledger::new(schema(), 100, usize::MAX);
    for n in 0..1_000 {
        ledger.push(rows(n..n + 1));
    }
    assert!(ledger.unsaved.waiting.is_empty());
    assert_eq!(ledger.unsaved_dropped(), ledger.dropped_rows());
    assert_eq!(numbers(&ledger.take_unsaved()), numbers(&ledger.batches()));
    assert_eq!(ledger.take_unsaved().len(), 0);
}

#[test]
fn asking_for_what_is_new_copies_nothing() {
    let mut ledger = Ledger::new(schema(), 100_000, usize::MAX).keep_unsaved();
    ledger.push(rows(0..50_000));
    ledger.take_unsaved();
    ledger.push(rows(50_000..50_010));
    let unsaved = ledger.take_unsaved();
    assert_eq!(numbers(&unsaved), (50_000..50_010).collect::<Vec<_>>());
    let (given, kept) = (unsaved[0].column(0).to_data(), ledger.batches[1].column(0).to_data());
    assert!(given.ptr_eq(&kept));
}

#[test]
fn saved_rows_of_another_table_are_refused() {
    let other = Arc::new(Schema::new(vec![Field::new("n", DataType::Utf8, true)]));
    let column: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let batch = RecordBatch::try_new(other, vec![column]).unwrap();
    let error = Ledger::restore(schema(), 10, 10, [rows(0..2), batch], 0).unwrap_err();
    assert!(
        error.to_string().starts_with("saved rows have the columns n Utf8, but their table has n Int64, text Utf8")
    );
}
