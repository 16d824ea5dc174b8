//! Compaction: the plan keeps the order of the log and every bound, comes to an end, and leaves few segments.

use super::*;
use crate::{Chunk, FileEntry, MergePolicy, plan};

/// A segment that has no file: the plan looks at what the manifest says.
fn segment(lsn: u64, level: u8, rows: u64, bytes: u64) -> Segment {
    let file = FileEntry { name: format!("t-{lsn:020}.parquet"), bytes, crc32c: 0 };
    let chunks = vec![Chunk { offset: 4, bytes: bytes - 4, crc32c: 0 }];
    Segment { file, rows, minutes: (minute(lsn), minute(lsn)), lsns: (Lsn(lsn), Lsn(lsn)), level, chunks }
}

fn policy() -> MergePolicy {
    MergePolicy { fan_in: 4, level_max: 3, bytes_max: 10_000, rows_max: 1_000 }
}

fn check(levels_and_bytes: &[(u8, u64)], expected: Option<(std::ops::Range<usize>, u8)>) {
    let places = levels_and_bytes.iter().enumerate();
    let segments: Vec<_> = places.map(|(at, (level, bytes))| segment(at as u64 + 1, *level, 1, *bytes)).collect();
    let planned = plan(&segments, &policy()).map(|merge| (merge.inputs, merge.level));
    assert_eq!(planned, expected, "{levels_and_bytes:?}");
}

#[test]
fn neighbours_of_one_level_are_merged() {
    check(&[], None);
    check(&[(0, 9); 3], None);
    check(&[(0, 9); 4], Some((0..4, 1)));
    check(&[(0, 9); 9], Some((0..4, 1)));
    check(&[(1, 9), (0, 9), (0, 9), (0, 9), (0, 9)], Some((1..5, 1)));
    // What lies between is not passed over.
    check(&[(0, 9), (0, 9), (1, 9), (0, 9), (0, 9)], None);
    check(&[(1, 9), (1, 9), (1, 9), (1, 9), (0, 9)], Some((0..4, 2)));
    // Low levels first, and the highest stays.
    check(&[(2, 9), (2, 9), (2, 9), (2, 9), (0, 9), (0, 9), (0, 9), (0, 9)], Some((4..8, 1)));
    check(&[(3, 9); 40], None);
}

#[test]
fn no_merge_goes_beyond_a_bound() {
    check(&[(0, 4_000); 4], Some((0..2, 1)));
    check(&[(0, 5_000), (0, 9_000), (0, 100), (0, 9_900)], Some((1..3, 1)));
    check(&[(0, 9_000); 40], None);
    // A full one parts its neighbours.
    check(&[(0, 50), (0, 50), (0, 99_000), (0, 50), (0, 50)], Some((0..2, 1)));
    let rows: Vec<_> = (1..=8).map(|lsn| segment(lsn, 0, 400, 10)).collect();
    assert_eq!(plan(&rows, &policy()).map(|merge| merge.inputs), Some(0..2));
    let endless: Vec<_> = (1..=8).map(|lsn| segment(lsn, 0, u64::MAX, u64::MAX)).collect();
    assert_eq!(plan(&endless, &policy()), None);
}

#[test]
fn a_long_stream_stays_few_segments_in_order() {
    for bytes in [10, 300, 3_000, 6_000, 20_000] {
        let mut segments = Vec::new();
        let mut written = 0_u64;
        for lsn in 1..=2_000 {
            segments.push(segment(lsn, 0, 1, bytes + lsn % 7));
            while let Some(merge) = plan(&segments, &policy()) {
                let inputs = &segments[merge.inputs.clone()];
                assert!(inputs.len() >= 2 && inputs.iter().all(|input| input.level + 1 == merge.level));
                let total = inputs.iter().map(|input| input.file.bytes).sum();
                assert!(total <= policy().bytes_max, "{total}");
                let rows: u64 = inputs.iter().map(|input| input.rows).sum();
                assert!(rows <= policy().rows_max);
                let mut merged = segment(inputs[0].lsns.0.0, merge.level, rows, total);
                merged.lsns.1 = inputs[inputs.len() - 1].lsns.1;
                written += total;
                segments.splice(merge.inputs, [merged]);
            }
        }
        let covered: u64 = segments.iter().map(|segment| segment.lsns.1.0 - segment.lsns.0.0 + 1).sum();
        assert_eq!(covered, 2_000);
        assert!(segments.windows(2).all(|pair| pair[0].lsns.1.next() == pair[1].lsns.0));
        let all: u64 = segments.iter().map(|segment| segment.file.bytes).sum();
        assert!(written <= all * u64::from(policy().level_max), "each row is written once a level");
        // A level's worth of small ones, and otherwise at least a third of the bound or of the highest level each.
        let full = (all / (policy().bytes_max / 3)).max(2_000 / 64) as usize;
        assert!(segments.len() <= full + 4 * 3, "{bytes}: {} segments", segments.len());
    }
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
