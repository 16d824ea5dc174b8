//! Compaction: the plan keeps every bound and adds nothing twice, comes to an end, and leaves few segments. `TIDEWATCH_SEED`
//! replays one case.

use std::collections::{BTreeMap, BTreeSet};

use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};

use super::*;
use crate::{Bucket, Chunk, FileEntry, Merge, MergePolicy, divided, manifest::check_segments, plan};

const HOUR: i64 = 60;
const DAY: i64 = 24 * HOUR;

/// A segment that has no file: the plan looks at what the manifest says.
fn segment(lsns: (u64, u64), minutes: (i64, i64), level: u8, rows: u64) -> Segment {
    let bytes = 10 * rows;
    let file = FileEntry { name: format!("t-{:020}.parquet", lsns.0 * 1_000_000 + minutes.0 as u64), bytes, crc32c: 0 };
    let chunks = vec![Chunk { offset: 4, bytes: bytes - 4, crc32c: 0 }];
    let minutes = (Minute::from_index(minutes.0), Minute::from_index(minutes.1));
    Segment { file, rows, minutes, lsns: (Lsn(lsns.0), Lsn(lsns.1)), level, chunks }
}

fn policy() -> MergePolicy {
    MergePolicy { fan_in: 4, crowd: 9, bytes_max: 10_000, rows_max: 700 }
}

/// Segments by minutes, level and rows, one a record.
fn check(segments: &[((i64, i64), u8, u64)], expected: Option<(&[usize], u8)>) {
    let segments: Vec<Segment> =
        (1..).zip(segments).map(|(lsn, (minutes, level, rows))| segment((lsn, lsn), *minutes, *level, *rows)).collect();
    let expected = expected.map(|(inputs, level)| Merge { inputs: inputs.to_vec(), level });
    assert_eq!(plan(&segments, &policy(), |_| true), expected, "{segments:?}");
}

const NOW: (i64, i64) = (0, 9);

#[test]
fn fresh_segments_of_an_hour_are_merged() {
    check(&[], None);
    check(&[(NOW, 0, 9); 3], None);
    check(&[(NOW, 0, 9); 9], Some((&[0, 1, 2, 3], 1)));
    check(&[(NOW, 1, 9), (NOW, 0, 9), (NOW, 0, 9), (NOW, 0, 9), (NOW, 0, 9)], Some((&[1, 2, 3, 4], 1)));
    // What lies between is not passed over.
    check(&[(NOW, 0, 9), (NOW, 0, 9), (NOW, 1, 9), (NOW, 0, 9), (NOW, 0, 9)], None);
    // Low levels first.
    let (one, two) = ((NOW, 0, 9), (NOW, 1, 9));
    check(&[two, two, two, two, one, one, one, one], Some((&[4, 5, 6, 7], 1)));
    check(&[two, two, two, two, one, one, one], Some((&[0, 1, 2, 3], 2)));
    // Of another hour.
    let late = ((HOUR, HOUR + 1), 0, 9);
    check(&[one, late, one, late, one, late, one], Some((&[0, 2, 4, 6], 1)));
}

#[test]
fn an_hour_that_is_over_becomes_one_segment_and_so_does_a_day() {
    let next = ((HOUR, HOUR + 4), 0, 9);
    check(&[(NOW, 2, 50), (NOW, 1, 20), (NOW, 0, 9), next], Some((&[0, 1, 2], 3)));
    let not_yet = ((HOUR, HOUR + 3), 0, 9);
    check(&[(NOW, 2, 50), (NOW, 1, 20), (NOW, 0, 9), not_yet], None);
    // For a few late rows no large segment is written anew.
    check(&[(NOW, 3, 500), next, (NOW, 0, 9)], None);
    check(&[(NOW, 3, 500), next, (NOW, 1, 9), (NOW, 0, 9)], Some((&[2, 3], 2)));
    check(&[(NOW, 3, 400), next, (NOW, 2, 210)], Some((&[0, 2], 4)));
    let hours: Vec<_> = (0..6).map(|hour| ((hour * HOUR, hour * HOUR + 59), 3, 90)).collect();
    check(&hours, None);
    let tomorrow = ((DAY, DAY + 9), 0, 9);
    check(&[&hours[..], &[tomorrow]].concat(), Some((&[0, 1, 2, 3, 4, 5], 4)));
    // Hours that are strewn over make no hour.
    let strewn = ((9, DAY - 9), 0, 9);
    check(&[(NOW, 0, 9), strewn, (NOW, 0, 9), strewn, (NOW, 0, 9), strewn, (NOW, 0, 9)], None);
    let crowded: Vec<_> = (0..10).map(|at| if at % 2 == 0 { strewn } else { (NOW, 0, 9) }).collect();
    check(&crowded, Some((&[0, 1, 2, 3, 4, 5, 6, 7, 8], 1)));
    // Of a version that knew no buckets.
    check(&[((0, DAY), 3, 9), ((0, DAY), 3, 9), tomorrow], None);
}

#[test]
fn no_merge_goes_beyond_a_bound() {
    check(&[(NOW, 0, 300); 4], Some((&[0, 1], 1)));
    check(&[(NOW, 0, 690); 40], None);
    let (few, full) = ((NOW, 0, 9), (NOW, 0, 690));
    check(&[few, few, full, few, few], Some((&[0, 1], 1)));
    let next = ((HOUR, HOUR + 4), 0, 9);
    check(&[full, full, full, next], None);
}

#[test]
fn what_is_damaged_is_gone_around() {
    let segments: Vec<_> = (1..=9).map(|lsn| segment((lsn, lsn), NOW, 0, 9)).collect();
    let planned = |damaged: &[u64]| {
        let whole = |segment: &Segment| !damaged.contains(&segment.lsns.0.0);
        plan(&segments, &policy(), whole).map(|merge| merge.inputs)
    };
    assert_eq!(planned(&[1]), Some(vec![1, 2, 3, 4]));
    assert_eq!(planned(&[4]), Some(vec![4, 5, 6, 7]));
    assert_eq!(planned(&[4, 8]), None);
}

#[test]
fn a_merge_keeps_clear_of_records_that_reach_into_it() {
    // Two parts of one record, divided by minutes, and two more records: the first three would take in a part of the fourth.
    let parts = |lsns| [segment(lsns, (0, 9), 0, 200), segment(lsns, (10, 19), 0, 200)];
    let mut segments = [parts((1, 5)), parts((6, 7))].concat();
    check_segments(&segments, Lsn(9)).unwrap();
    let merge = plan(&segments, &policy(), |_| true).unwrap();
    assert_eq!(merge.inputs, [0, 1]);
    merge.apply(&mut segments, Some(segment((1, 5), (0, 19), 1, 400)));
    check_segments(&segments, Lsn(9)).unwrap();
    assert_eq!(segments.iter().map(|segment| segment.rows).collect::<Vec<_>>(), [400, 200, 200]);
}

/// A list of segments, and what is in each: rows by record and minute.
#[derive(Default)]
struct Model {
    segments: Vec<Segment>,
    rows: BTreeMap<String, Rows>,
    all: Rows,
    damaged: BTreeSet<String>,
    merged_rows: u64,
}

type Rows = BTreeMap<(u64, i64), u64>;

impl Model {
    /// A checkpoint of one record with rows of these minutes.
    fn write(&mut self, lsn: u64, minutes: &[(i64, u64)]) {
        let counts = minutes.iter().map(|(minute, rows)| (Minute::from_index(*minute), *rows)).collect();
        for (first, last) in divided(&counts, policy().rows_max) {
            let part = counts.range(first..=last).map(|(minute, rows)| ((lsn, minute.index()), *rows));
            let part: Rows = part.collect();
            let count = part.values().sum();
            let segment = segment((lsn, lsn), (first.index(), last.index()), 0, count);
            self.all.extend(part.clone());
            self.rows.insert(segment.file.name.clone(), part);
            self.segments.push(segment);
        }
        Segment::sort(&mut self.segments);
    }

    fn merge_all(&mut self, case: &str) {
        while let Some(merge) = plan(&self.segments, &policy(), |segment| !self.damaged.contains(&segment.file.name)) {
            let inputs = merge.inputs_of(&self.segments);
            assert!(inputs.len() > 1, "{case}");
            let (rows, bytes) = inputs.iter().fold((0, 0), |(r, b), of| (r + of.rows, b + of.file.bytes));
            assert!(rows <= policy().rows_max && bytes <= policy().bytes_max, "{case}: {rows} rows, {bytes} bytes");
            assert!(inputs.iter().all(|input| !self.damaged.contains(&input.file.name)), "{case}");
            let lsns = (inputs[0].lsns.0.0, inputs.iter().map(|input| input.lsns.1.0).max().unwrap());
            let minutes = (inputs.iter().map(|of| of.minutes.0).min(), inputs.iter().map(|of| of.minutes.1).max());
            let minutes = (minutes.0.unwrap().index(), minutes.1.unwrap().index());
            let mut merged = segment(lsns, minutes, merge.level, rows);
            merged.file.name = format!("t-{:020}.parquet", 1_000_000_000_000 + self.merged_rows + 1);
            let inside = inputs.iter().flat_map(|input| self.rows.remove(&input.file.name).unwrap()).collect();
            self.rows.insert(merged.file.name.clone(), inside);
            self.merged_rows += rows;
            merge.apply(&mut self.segments, Some(merged));
            check_segments(&self.segments, Lsn(u64::MAX)).unwrap_or_else(|error| panic!("{case}: {error}"));
        }
    }

    fn check(&self, case: &str) {
        check_segments(&self.segments, Lsn(u64::MAX)).unwrap_or_else(|error| panic!("{case}: {error}"));
        let mut all = Rows::new();
        for segment in &self.segments {
            assert!(Bucket::of(segment.minutes).is_some(), "{case}: {segment:?} lies in no bucket");
            for ((lsn, minute), rows) in &self.rows[&segment.file.name] {
                assert!((segment.lsns.0.0..=segment.lsns.1.0).contains(lsn), "{case}");
                assert!((segment.minutes.0.index()..=segment.minutes.1.index()).contains(minute), "{case}");
                assert_eq!(all.insert((*lsn, *minute), *rows), None, "{case}: a row is in two segments");
            }
        }
        assert!(all == self.all, "{case}: rows are lost");
    }
}

/// Live minutes, late rows, history, and rows strewn over a week, at random; some segments are damaged.
fn random(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let case = format!("seed {seed} (TIDEWATCH_SEED)");
    let mut model = Model::default();
    let (mut now, each) = (29_000_000 + rng.random_range(0..DAY), [1, 20, 300][rng.random_range(0..3)]);
    for lsn in 1..=rng.random_range(1..300) {
        let mut minutes = BTreeMap::new();
        for _ in 0..rng.random_range(0..4) {
            now += rng.random_range(0..3);
            minutes.insert(now, rng.random_range(1..=each));
        }
        match rng.random_range(0..20) {
            0..4 => drop(minutes.insert(now - rng.random_range(0..180), 1)),
            4 => drop(minutes.insert(now - rng.random_range(0..9 * DAY), 1)),
            5 => minutes.extend((0..rng.random_range(1..60)).map(|_| (now - rng.random_range(0..7 * DAY), 1))),
            6 => now += rng.random_range(0..2 * DAY),
            _ => {}
        }
        model.write(lsn, &minutes.into_iter().collect::<Vec<_>>());
        if rng.random_bool(0.02) {
            let damaged = model.segments.iter().choose(&mut rng).map(|segment| segment.file.name.clone());
            model.damaged.extend(damaged);
        }
        if rng.random_bool(0.5) {
            model.merge_all(&case);
            model.check(&case);
        }
    }
    model.check(&case);
}

#[test]
fn no_row_is_lost_or_added_twice_whatever_is_merged() {
    let replayed = std::env::var("TIDEWATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replayed.map_or(0..150, |seed: u64| seed..seed + 1);
    println!("seeds {seeds:?}");
    seeds.for_each(random);
}

/// Checkpoints of `minutes` each, in turn, over ten days.
fn long_stream(rows: u64, minutes: impl Fn(i64) -> Vec<i64>) -> Model {
    let mut model = Model::default();
    for lsn in 1..=10 * DAY as u64 / 2 {
        let minutes: BTreeMap<i64, u64> = minutes(10 * DAY + 2 * lsn as i64).into_iter().map(|at| (at, rows)).collect();
        model.write(lsn, &minutes.into_iter().collect::<Vec<_>>());
        model.merge_all("a long stream");
    }
    model.check("a long stream");
    model
}

#[test]
fn a_long_stream_stays_few_segments() {
    let written = |model: &Model| model.merged_rows as f64 / model.all.values().sum::<u64>() as f64;
    // A checkpoint every two minutes: a day has 720, an hour 30.
    let model = long_stream(1, |now| vec![now]);
    assert!(model.segments.len() <= 9 * 2 + 24 + 8 * 3, "{} segments", model.segments.len());
    assert!(written(&model) < 5.0, "each row is written {} times", written(&model));
    // Each checkpoint also has a correction to the hour before, and one to the day before.
    let model = long_stream(1, |now| vec![now, now - 70, now - DAY]);
    assert!(model.segments.len() <= 10 * 12 + 24 * 4 + 8 * 3, "{} segments", model.segments.len());
    assert!(written(&model) < 8.0, "each row is written {} times", written(&model));
    // Everything is strewn over a day.
    let model = long_stream(1, |now| (0..20).map(|hour| now - hour * HOUR).collect());
    assert!(model.segments.len() <= 11 * 2 * 9 * 3, "{} segments", model.segments.len());
    // An hour and a day have more than one merge may read.
    let model = long_stream(90, |now| vec![now]);
    let all = model.all.values().sum::<u64>() / policy().rows_max;
    assert!(model.segments.len() as u64 <= 2 * all + 24 * 4, "{} segments, {all} full ones", model.segments.len());
}

#[test]
fn merging_keeps_rows_and_tells_their_hull() {
    let fs = MemFs::new();
    let (mut folder, _) = open(&fs).unwrap();
    let mut write = |numbers: &[i64], minutes: (u64, u64), lsns: (u64, u64)| {
        let minutes = (minute(minutes.0), minute(minutes.1));
        let contents = Contents { minutes, lsns: (Lsn(lsns.0), Lsn(lsns.1)), level: 0 };
        folder.write_segment("t", &[rows(numbers)], contents).unwrap()
    };
    let inputs = [write(&[5, 6], (5, 6), (1, 4)), write(&[2], (2, 2), (7, 7)), write(&[7, 8], (7, 8), (8, 12))];
    let merged = folder.merge("t", &inputs, 1, in_turn).unwrap().unwrap();
    assert_eq!((merged.rows, merged.level), (5, 1));
    assert_eq!((merged.minutes, merged.lsns), ((minute(2), minute(8)), (Lsn(1), Lsn(12))));
    assert_eq!(numbers(&folder.read_segment(&merged).unwrap()), [5, 6, 2, 7, 8]);
    // The seam for what is more than putting one behind the other.
    let newest_only = |segments: Vec<Vec<RecordBatch>>| Ok(segments.into_iter().skip(2).flatten().collect());
    let folded = folder.merge("t", &inputs, 1, newest_only).unwrap().unwrap();
    assert_eq!(numbers(&folder.read_segment(&folded).unwrap()), [7, 8]);
    assert_eq!(folder.merge("t", &inputs, 1, |_| Ok(Vec::new())).unwrap(), None);
    assert_eq!(folder.merge("t", &[], 1, in_turn).unwrap(), None);
}
