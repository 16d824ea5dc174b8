//! An operator that is saved and restored again and again does to the last bit what one does that runs on.
//! `TIDEWATCH_SEED` replays one case.

mod speed;
mod traffic;

use std::sync::Arc;

use arrow::{
    array::RecordBatch,
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};
use tidewatch_model::{Minute, Partition, SessionId, Span};

use self::traffic::{MINUTE, apply, events, steps, stream, view, views};

use super::{IdRuns, OpenFrame, OperatorState, RestoreError, SavedOperator};
use crate::{Applied, Events, LateReason, Operator, OperatorLimits, View, states::random::pictures};

fn bytes(batch: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, batch.schema_ref()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

/// All that a record did, every bit of it.
fn told(applied: &Applied) -> String {
    let sealed = applied.sealed.iter().map(|s| format!("{} {:?} {:?}", s.minute, s.by, pictures(&s.views)));
    let corrections = applied.corrections.iter().map(|c| format!("{} {:?} {:?}", c.minute, c.by, pictures(&c.views)));
    let late = applied.late.iter().map(|(rows, reason)| format!("{reason:?} {:?}", bytes(rows)));
    format!(
        "{:?} {} {:?} sealed {:?} corrected {:?} late {:?}",
        applied.accepted.as_ref().map(bytes),
        applied.duplicates,
        applied.absorbed,
        sealed.collect::<Vec<_>>(),
        corrections.collect::<Vec<_>>(),
        late.collect::<Vec<_>>(),
    )
}

/// What a caller keeps: the newest state, and the runs of ids as so many files.
#[derive(Default)]
struct Disk {
    state: String,
    open: Vec<OpenFrame>,
    ids: Vec<IdRuns>,
}

impl Disk {
    fn keep(&mut self, saved: SavedOperator, tidy: bool) {
        self.state = serde_json::to_string(&saved.state).unwrap();
        let through_ipc = |open: OpenFrame| {
            let frame = StreamReader::try_new(bytes(&open.frame).as_slice(), None).unwrap().next().unwrap().unwrap();
            OpenFrame { frame, ..open }
        };
        self.open = saved.open.into_iter().map(through_ipc).collect();
        self.ids.extend(saved.ids);
        if tidy {
            self.ids.retain(|file| {
                let from = saved.ids_from.iter().find(|(domain, _)| *domain == file.domain).and_then(|(_, from)| *from);
                from.is_some_and(|from| file.runs.iter().any(|(minute, _)| *minute >= from))
            });
        }
    }

    fn restore(&self, views: &[Arc<View>], limits: OperatorLimits) -> Result<Operator, RestoreError> {
        let state: OperatorState = serde_json::from_str(&self.state).unwrap();
        let ids = self.ids.iter().cloned();
        Operator::restore(stream().schema, views.to_vec(), limits, state, self.open.clone(), ids)
    }
}

/// What there was to be got wrong.
#[derive(Debug, Default)]
struct Met {
    restores: u64,
    open_keys: usize,
    forgotten: u64,
    duplicates: u64,
    late: u64,
    ended: u64,
    corrections: usize,
    sealed: usize,
    overflowed: u64,
    failed: u64,
}

impl Met {
    fn note(&mut self, applied: &Applied) {
        self.duplicates += applied.duplicates;
        let late = |wanted| applied.late.iter().filter(|(_, reason)| *reason == wanted).count() as u64;
        self.late += late(LateReason::BeyondHorizon);
        self.ended += late(LateReason::SessionEnded);
        self.corrections += applied.corrections.len();
        self.sealed += applied.sealed.len();
        self.overflowed += applied.absorbed.iter().map(|absorbed| absorbed.overflowed).sum::<u64>();
        self.failed += applied.absorbed.iter().filter_map(|a| a.failed.as_ref()).map(|(count, _)| count).sum::<u64>();
    }
}

fn run(seed: u64, met: &mut Met) {
    let mut rng = StdRng::seed_from_u64(seed);
    let limits = OperatorLimits { ids_max: *[3, 20, 60, 10_000].choose(&mut rng).unwrap() };
    let views = views(rng.random_range(1..5));
    let stream = stream();
    let new = || Operator::new(Arc::clone(&stream.schema), views.clone(), limits).unwrap();
    let (mut steady, mut restored, mut disk) = (new(), new(), Disk::default());
    for (at, step) in steps(&stream.schema, &mut rng).iter().enumerate() {
        let (wanted, found) = (apply(&mut steady, step), apply(&mut restored, step));
        assert_eq!(told(&found), told(&wanted), "seed {seed} (TIDEWATCH_SEED), step {at}");
        met.note(&wanted);
        if rng.random_bool(0.05) {
            // A checkpoint that could not be written.
            drop(restored.save().unwrap());
            restored.unsave_ids();
        }
        if rng.random_bool(0.3) {
            disk.keep(restored.save().unwrap(), rng.random_bool(0.5));
            if rng.random_bool(0.6) {
                if rng.random_bool(0.3) {
                    disk.ids.shuffle(&mut rng);
                }
                met.restores += 1;
                met.forgotten += u64::from(disk.state.contains("\"forgotten_before\":2"));
                restored = disk.restore(&views, limits).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                met.open_keys += restored.open_groups();
            }
        }
    }
    steady.unsave_ids();
    restored.unsave_ids();
    let (mut wanted, mut found) = (steady.save().unwrap(), restored.save().unwrap());
    assert_eq!(found.state, wanted.state, "seed {seed}");
    assert_eq!(found.ids_from, wanted.ids_from, "seed {seed}");
    assert_eq!(steady.ids(), restored.ids(), "seed {seed}");
    for ids in found.ids.iter_mut().chain(&mut wanted.ids) {
        ids.runs.iter_mut().for_each(|(_, ids)| ids.sort_unstable());
    }
    assert_eq!(found.ids, wanted.ids, "seed {seed}");
    let frames = |open: &[OpenFrame]| -> Vec<_> {
        open.iter().map(|open| (open.session, open.view, bytes(&open.frame))).collect()
    };
    assert_eq!(frames(&found.open), frames(&wanted.open), "seed {seed}");
}

#[test]
fn an_operator_that_was_restored_goes_on_as_if_nothing_had_been() {
    let replayed = std::env::var("TIDEWATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replayed.map_or(0..150, |seed: u64| seed..seed + 1);
    let mut met = Met::default();
    seeds.for_each(|seed| run(seed, &mut met));
    println!("{met:?}");
    let Met { restores, open_keys, forgotten, duplicates, late, ended, corrections, sealed, overflowed, failed } = met;
    let all = [restores, open_keys as u64, forgotten, duplicates, late, ended, overflowed, failed];
    let enough = all.iter().all(|met| *met > 100) && corrections > 100 && sealed > 100;
    assert!(replayed.is_some() || enough, "too little was met to prove anything");
}

/// An operator with open rows of live traffic and of a session, and ids of both; and its disk.
fn saved() -> (Vec<Arc<View>>, Disk, SavedOperator) {
    let mut rng = StdRng::seed_from_u64(7);
    let (views, stream) = (views(4), stream());
    let mut operator =
        Operator::new(Arc::clone(&stream.schema), views.clone(), OperatorLimits { ids_max: 99 }).unwrap();
    operator.open_session(SessionId(1), Span::ZERO).unwrap();
    for partition in [Partition::Live(0), Partition::Session(SessionId(1))] {
        let now = 29_000_000 * MINUTE - if partition == Partition::Live(0) { 0 } else { 500 * MINUTE };
        while operator.ids().0 < 30 {
            let rows = events(&stream.schema, now, &mut rng);
            operator.events(Events { partition, producer: None, rows: &rows }).unwrap();
        }
        let rows = events(&stream.schema, now, &mut rng);
        operator.events(Events { partition, producer: None, rows: &rows }).unwrap();
    }
    let (mut disk, saved) = (Disk::default(), operator.save().unwrap());
    disk.keep(saved.clone(), false);
    (views, disk, saved)
}

#[test]
fn what_does_not_fit_together_is_refused_with_a_reason() {
    let (views, _, saved) = saved();
    let limits = OperatorLimits { ids_max: 99 };
    type Change = fn(&mut Vec<Arc<View>>, &mut SavedOperator, &mut serde_json::Value);
    let cases: [(&str, Change); 12] = [
        ("`by_account` cannot be taken back: its SELECT was another", |views, _, _| {
            views[0] = view("by_account", "", "status, account, sum(amount) AS n FROM events GROUP BY ALL");
        }),
        ("`by_account` cannot be taken back: at place 0 there is `other` now", |views, _, _| {
            views[0] = view("other", "", "count(*) AS n FROM events GROUP BY ALL");
        }),
        ("`all` cannot be taken back: there is no view at place 2", |views, _, _| drop(views.pop())),
        ("format 2 and this version reads format 1", |_, _, json| json["format"] = 2.into()),
        ("session 0000000000000001 had", |_, saved, _| saved.ids.retain(|ids| ids.domain.session.is_none())),
        ("live traffic had", |_, saved, _| drop(saved.ids[0].runs.pop())),
        ("ranges of sealed minutes", |_, _, json| json["sealed"] = serde_json::json!([[5, 4]])),
        ("beyond all time", |_, _, json| json["live"]["newest"] = i64::MAX.into()),
        ("that was left behind", |_, _, json| json["live"]["next"] = 29_000_009.into()),
        ("that was left behind", |_, _, json| json["live"]["next"] = serde_json::Value::Null),
        ("a session has open rows", |_, _, json| json["sessions"] = serde_json::json!([])),
        ("a key in two frames", |_, saved, _| saved.open.push(saved.open[0].clone())),
    ];
    for (reason, change) in cases {
        let (mut views, mut saved) = (views.clone(), saved.clone());
        let mut json = serde_json::to_value(&saved.state).unwrap();
        change(&mut views, &mut saved, &mut json);
        let state = serde_json::from_value(json).unwrap();
        let restored = Operator::restore(stream().schema, views, limits, state, saved.open, saved.ids);
        let error = restored.map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}\nand not {reason}");
    }
}

#[test]
fn retention_and_room_for_keys_may_change_between() {
    let (_, disk, _) = saved();
    let restored = disk.restore(&views(1), OperatorLimits { ids_max: 5 }).unwrap();
    assert!(restored.open_groups() > 3 && restored.ids().0 > 5, "what was there stays, the limits hold for what comes");
}

#[test]
fn a_session_opened_again_does_not_remember_its_life_before() {
    let stream = stream();
    let (views, limits) = (views(4), OperatorLimits { ids_max: 99 });
    let mut operator = Operator::new(Arc::clone(&stream.schema), views.clone(), limits).unwrap();
    let session = SessionId(9);
    let rows = events(&stream.schema, 29_000_000 * MINUTE, &mut StdRng::seed_from_u64(3));
    let feed = |operator: &mut Operator| {
        operator.events(Events { partition: Partition::Session(session), producer: None, rows: &rows }).unwrap()
    };
    operator.open_session(session, Span::ZERO).unwrap();
    let first = feed(&mut operator);
    let mut disk = Disk::default();
    disk.keep(operator.save().unwrap(), false);
    // Ended and opened again between two saves, and nobody deleted the runs of its first life.
    operator.end_session(session);
    operator.open_session(session, Span::ZERO).unwrap();
    disk.keep(operator.save().unwrap(), false);
    let mut restored = disk.restore(&views, limits).unwrap();
    assert_eq!(restored.ids().0, 0);
    let again = feed(&mut restored);
    assert_eq!(told(&again), told(&feed(&mut operator)));
    assert_eq!(again.accepted.map(|rows| rows.num_rows()), first.accepted.map(|rows| rows.num_rows()));
}

#[test]
fn a_save_hands_out_each_id_once() {
    let stream = stream();
    let mut operator = Operator::new(Arc::clone(&stream.schema), views(4), OperatorLimits { ids_max: 9_999 }).unwrap();
    let mut rng = StdRng::seed_from_u64(11);
    let mut handed_out = Vec::new();
    for _ in 0..20 {
        let rows = events(&stream.schema, 29_000_000 * MINUTE, &mut rng);
        operator.events(Events { partition: Partition::Live(0), producer: None, rows: &rows }).unwrap();
        let saved = operator.save().unwrap();
        handed_out.extend(saved.ids.into_iter().flat_map(|ids| ids.runs).flat_map(|(_, ids)| ids));
        assert_eq!(handed_out.len(), operator.ids().0);
        assert!(operator.save().unwrap().ids.is_empty());
    }
    let oldest = operator.save().unwrap().ids_from;
    assert!(
        matches!(oldest.as_slice(), [(live, Some(from))] if live.session.is_none() && *from < Minute::from_index(29_000_001))
    );
}

/// A state as version 1 writes it.
const STATE_V1: &str = r#"{"format":1,"live":{"opening":0,"lateness_us":30000000,"partitions":[[{"live":0},1740000017000000],[{"live":3},1740000000000001]],"watermark":1740000000000001,"next":29000000,"newest":29000001,"ids":{"span_us":600000000,"forgotten_before":29000000,"oldest":null,"held":1,"leftovers":[[28999999,18446744073709551615,7]]}},"sessions":[[1311768467463790320,{"opening":2,"lateness_us":30000001,"partitions":[],"watermark":null,"next":null,"newest":null,"ids":{"span_us":630000001,"forgotten_before":null,"oldest":null,"held":0,"leftovers":[]}}]],"openings":2,"producers":[["p1",18446744073709551615],["p0",5]],"session_sequences":[["123456789abcdef0",9]],"sealed":[[28999000,28999998],[29000005,29000005]]}"#;

#[test]
fn a_state_of_version_1_is_understood() {
    let state: OperatorState = serde_json::from_str(STATE_V1).unwrap();
    let limits = OperatorLimits { ids_max: 99 };
    let mut operator = Operator::restore(stream().schema, views(4), limits, state, Vec::new(), Vec::new()).unwrap();
    assert_eq!(operator.last_sequence(Partition::Live(0), "p0"), Some(5));
    assert_eq!(serde_json::to_string(&operator.save().unwrap().state).unwrap(), STATE_V1);
}
