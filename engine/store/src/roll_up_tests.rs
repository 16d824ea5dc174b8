//! Roll-ups: what is added to a window stays in it, whatever becomes of its minutes; and a day of checkpoints leaves few segments.

use std::sync::Arc;

use arrow::{array::AsArray, datatypes::Int64Type};
use tidewatch_model::{Lsn, Minute, Window};
use tidewatch_views::{PartialRows, View, compile_view};

use crate::{
    Chunk, Contents, FileEntry, Head, Held, MergePolicy, NoRoom, Segment, Snapshot, plan_windows,
    tests::{partial, stream},
};

const DAY: i64 = 1_440;

fn view() -> Arc<View> {
    let sql = "CREATE MATERIALIZED VIEW v WITH (retention = '2h', retention_1h = '1 year', retention_1d = '10 years') AS
         SELECT date_trunc('minute', at) AS minute, name, count(*) AS events, sum(amount) AS total FROM events GROUP BY ALL";
    Arc::new(compile_view(&stream(), "v.sql", sql).unwrap())
}

fn rows(minute: i64, values: &[i64]) -> PartialRows {
    let events: Vec<(i64, i64)> = values.iter().map(|value| (1, *value)).collect();
    partial(&stream(), &view(), minute, &events)
}

/// The start and the total of each window.
fn totals(snapshot: &Snapshot, name: &str, sealed: bool) -> Vec<(i64, i64)> {
    let view = snapshot.view(name).unwrap();
    let all = (Minute::from_index(0), Minute::from_index(100_000_000));
    let rows = if sealed { view.sealed_rows(all.0, all.1) } else { view.open_rows(all.0, all.1) }.unwrap().batch;
    let minutes = crate::tests::minutes(&rows);
    let totals = rows.column_by_name("total").unwrap().as_primitive::<Int64Type>();
    minutes.into_iter().zip(totals.values().iter().copied()).collect()
}

#[test]
fn a_window_keeps_what_its_minutes_lose() {
    let mut head = Head::new(&[view()], usize::MAX).unwrap();
    for minute in DAY..DAY + 300 {
        head.add(0, rows(minute, &[1])).unwrap();
        head.retain(Minute::from_index(minute).end());
    }
    let hours = |of: [i64; 4]| (0..4).map(|hour| (DAY + 60 * hour, of[hour as usize])).collect::<Vec<_>>();
    assert_eq!(totals(&head.snapshot(), "v_1h", true)[..4], hours([60; 4]));
    // The minute has left, and its window has not.
    head.correct(0, rows(DAY + 5, &[40])).unwrap();
    assert_eq!(totals(&head.snapshot(), "v_1h", true)[..4], hours([100, 60, 60, 60]));
    // For want of room minutes go, and windows do when they are named.
    head.make_room(NoRoom { before: Minute::from_index(DAY + 200), roll_ups_before: None });
    head.correct(0, rows(DAY + 61, &[40])).unwrap();
    assert_eq!(totals(&head.snapshot(), "v_1h", true)[..4], hours([100, 100, 60, 60]));
    head.make_room(NoRoom { before: Minute::from_index(0), roll_ups_before: Some(Minute::from_index(DAY + 70)) });
    head.correct(0, rows(DAY + 1, &[7])).unwrap();
    assert_eq!(totals(&head.snapshot(), "v_1h", true)[..3], hours([0, 100, 60, 60])[1..]);
    // The day is not over, and has what is open too.
    let snapshot = head.snapshot_with_open(vec![vec![rows(DAY + 300, &[1_000])]]).unwrap();
    assert_eq!(totals(&snapshot, "v_1d", false), [(DAY, 1_387)]);
    assert_eq!(totals(&snapshot, "v_1d", true), []);
}

#[test]
fn a_new_roll_up_is_built_from_the_minutes_and_leaves_out_half_windows() {
    let mut head = Head::new(&[view()], usize::MAX).unwrap();
    let held = Held { hours: vec![], no_room_before: Some(25), ..Held::default() };
    head.restore(0, &held, None, |_| false).unwrap();
    for minute in DAY + 60..DAY + 200 {
        head.add(0, rows(minute, &[1])).unwrap();
    }
    // Both roll-ups, as if they had not been there before.
    head.build_roll_up(1).unwrap();
    head.build_roll_up(2).unwrap();
    assert_eq!(totals(&head.snapshot(), "v_1d", false), [], "of that day an hour is not known");
    head.add(0, rows(DAY + 200, &[1])).unwrap();
    assert_eq!(totals(&head.snapshot(), "v_1d", false), []);
}

#[test]
fn a_day_of_checkpoints_leaves_few_segments() {
    let policy = MergePolicy::default();
    for window in Window::ROLL_UPS {
        let mut segments: Vec<Segment> = Vec::new();
        let (mut most, mut written) = (0, 0_u64);
        for lsn in 1..=3 * DAY as u64 {
            let start = window.start(Minute::from_index(lsn as i64 - 1));
            let contents = Contents { minutes: (start, start), lsns: (Lsn(lsn), Lsn(lsn)), level: 0 };
            segments.push(segment(contents));
            while let Some(merge) = plan_windows(window, &segments, &policy, |_| true) {
                let inputs = merge.inputs_of(&segments);
                let minutes = |of: fn(&Segment) -> Minute| inputs.iter().map(of);
                let contents = Contents {
                    minutes: (minutes(|of| of.minutes.0).min().unwrap(), minutes(|of| of.minutes.1).max().unwrap()),
                    lsns: (inputs[0].lsns.0, inputs.iter().map(|of| of.lsns.1).max().unwrap()),
                    level: merge.level,
                };
                written += 1;
                merge.apply(&mut segments, Some(segment(contents)));
            }
            most = most.max(segments.len());
        }
        println!("{window:?}: at most {most} segments, {written} merges in {} checkpoints", 3 * DAY);
        assert!(most <= 40, "{window:?}: {most} segments");
    }
}

fn segment(contents: Contents) -> Segment {
    let Contents { minutes, lsns, level } = contents;
    let file = FileEntry { name: format!("t-{:020}.parquet", lsns.0.0), bytes: 1_000, crc32c: 0 };
    let chunks = vec![Chunk { offset: 4, bytes: 996, crc32c: 0 }];
    Segment { file, rows: 100, minutes, lsns, level, chunks }
}
