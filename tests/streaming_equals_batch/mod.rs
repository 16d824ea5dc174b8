//! Streaming equals batch: over random traffic, the rows that a view keeps are those that a batch engine computes
//! from the events that count, whatever came late, twice, in sessions or before a restart. Which events count is
//! decided by a model of its own (`model.rs`), and the batch engine is DataFusion over the view's own SELECT.
//!
//! A case is a seed: `TIDEWATCH_SEED=17` replays case 17, `TIDEWATCH_CASES=100000` runs more of them.
//!
//! Compared are the sealed minutes and, apart from them, the open ones. A view with HAVING stores only the keys that
//! survive, and a correction to one that did not survive is not kept (the store says so); it is therefore compared
//! only as long as a case has no correction. Gap filling is not part of it: it is a projection of the store.
//!
//! That the test can fail was tried by hand. Each of these changes to the engine makes seed 0 fail: ids forgotten over
//! a restart (`IdMemory` emptied after recovery), corrections left out (`Operator::correct`), minutes sealed one early
//! (`Domain::due`). Before they were mended, so did `coalesce` in a view (seed 1), a session's late event that took a
//! minute away from live traffic (seed 10), a full memory of ids asked once a batch (seed 9), and `__other__`
//! beyond twice the limit on keys (seed 13 of `overflow.rs`).

mod batch;
mod engine;
mod events;
mod model;
mod overflow;
mod traffic;
mod views;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::AddAssign,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU64, Ordering},
};

use arrow::{array::RecordBatch, compute};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch::core::Effects;
use tidewatch_views::Sealer;

use batch::{Batch, compare};
use engine::{Engine, ViewRows};
use events::{Times, columns};
use model::{Model, Outcome};
use traffic::Step;
use views::RandomView;

use crate::support::number;

const CASES: u64 = 1_500;

/// What the cases met, so that a run says what it covered.
#[derive(Clone, Copy, Debug, Default)]
struct Met {
    cases: u64,
    sent: u64,
    counted: u64,
    duplicates: u64,
    too_late: u64,
    rejected: u64,
    corrections: u64,
    sealed_live: u64,
    sealed_by_sessions: u64,
    restarts: u64,
    rows_sealed: u64,
    rows_open: u64,
    rows_having: u64,
    rows_rolled_up: u64,
}

impl Met {
    fn numbers(&self) -> [u64; 14] {
        [
            self.cases,
            self.sent,
            self.counted,
            self.duplicates,
            self.too_late,
            self.rejected,
            self.corrections,
            self.sealed_live,
            self.sealed_by_sessions,
            self.restarts,
            self.rows_sealed,
            self.rows_open,
            self.rows_having,
            self.rows_rolled_up,
        ]
    }
}

impl AddAssign for Met {
    fn add_assign(&mut self, other: Self) {
        self.cases += other.cases;
        self.sent += other.sent;
        self.counted += other.counted;
        self.duplicates += other.duplicates;
        self.too_late += other.too_late;
        self.rejected += other.rejected;
        self.corrections += other.corrections;
        self.sealed_live += other.sealed_live;
        self.sealed_by_sessions += other.sealed_by_sessions;
        self.restarts += other.restarts;
        self.rows_sealed += other.rows_sealed;
        self.rows_open += other.rows_open;
        self.rows_having += other.rows_having;
        self.rows_rolled_up += other.rows_rolled_up;
    }
}

/// One case, under way.
struct Case<'a> {
    batch: &'a Batch,
    views: Vec<RandomView>,
    engine: Engine,
    model: Model,
    met: Met,
    sealed: BTreeSet<i64>,
    /// The newest minute that each domain sealed, until a session ends.
    newest: BTreeMap<Option<u64>, i64>,
}

fn run(seed: u64, batch: &Batch) -> Result<Met, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let times = Times::random(&mut rng);
    let tidy = rng.random_bool(0.2);
    let views: Vec<RandomView> =
        (0..rng.random_range(1..=3)).map(|number| views::random(&mut rng, number, tidy)).collect();
    let steps = traffic::random(&mut rng, times, tidy);
    let engine = Engine::new(times.stream(), &views, &times)?;
    let mut case = Case {
        batch,
        views,
        engine,
        model: Model::new(times),
        met: Met { cases: 1, ..Met::default() },
        sealed: BTreeSet::new(),
        newest: BTreeMap::new(),
    };
    for (number, step) in steps.iter().enumerate() {
        case.step(step).map_err(|error| format!("step {number} ({}): {error}", brief(step)))?;
    }
    case.step(&Step::Restart).map_err(|error| format!("the last restart: {error}"))?;
    case.check_rows().map_err(|error| format!("at the end: {error}"))?;
    Ok(case.met)
}

/// A step without its events.
fn brief(step: &Step) -> String {
    match step {
        Step::Submit(s) => format!("{} events of {:?}, numbered {:?}", s.sent.len(), s.source, s.numbering),
        other => format!("{other:?}"),
    }
}

impl Case<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        if matches!(step, Step::Restart) {
            self.met.restarts += 1;
            self.check_rows()?;
            let before = self.engine.rows()?;
            self.engine.step(step)?;
            return self.check_restart(&before).map_err(|error| format!("a restart changed the rows: {error}"));
        }
        let effects = self.engine.step(step)?;
        let outcome = match step {
            Step::Submit(submission) => self.model.submit(submission),
            Step::Advance { partition, watermark } => self.model.advance(*partition, *watermark),
            Step::Open { session, lateness } => {
                self.model.open(*session, *lateness);
                Outcome::default()
            }
            Step::End { session } => self.model.end(*session),
            Step::Checkpoint | Step::Restart => Outcome::default(),
        };
        self.check_effects(step, &effects, &outcome)
    }

    /// Rows come in another order after a checkpoint, and sums of floats are added up in another.
    fn check_restart(&self, before: &[ViewRows]) -> Result<(), String> {
        let after = self.engine.rows()?;
        for ((view, before), after) in self.views.iter().zip(before).zip(&after) {
            for (ours, wanted) in [(&after.sealed, &before.sealed), (&after.open, &before.open)] {
                compare(ours, wanted, view.keys, &view.checks).map_err(|error| format!("{error}\n{}", view.select))?;
            }
        }
        Ok(())
    }

    fn check_effects(&mut self, step: &Step, effects: &Effects, expected: &Outcome) -> Result<(), String> {
        let sealer = |by| match by {
            Sealer::Live => None,
            Sealer::Session(session) => Some(session.0),
        };
        let found = Outcome {
            counted: effects.accepted,
            duplicates: effects.duplicates,
            too_late: effects.late,
            rejected: effects.rejected,
            sealed: effects.sealed.iter().map(|sealed| (sealed.minute.index(), sealer(sealed.by))).collect(),
            corrections: effects.corrections,
        };
        if found != *expected {
            return Err(format!("the engine did {found:?}\nand should have done {expected:?}"));
        }
        if effects.overflowed + effects.sums_overflowed > 0 || !effects.failures.is_empty() {
            return Err(format!("nothing should overflow or fail: {:?}", effects.failures));
        }
        let sent = match step {
            Step::Submit(submission) => submission.sent.len() as u64,
            _ => 0,
        };
        if found.counted + found.duplicates + found.too_late + found.rejected != sent {
            return Err(format!("{sent} events were sent: {found:?}"));
        }
        self.check_order(&found)?;
        if let Step::End { session } = step {
            // Opened again, it may go over the same time again.
            self.newest.remove(&Some(*session));
        }
        self.met.sent += sent;
        self.met.counted += found.counted;
        self.met.duplicates += found.duplicates;
        self.met.too_late += found.too_late;
        self.met.rejected += found.rejected;
        self.met.corrections += found.corrections;
        Ok(())
    }

    /// A minute is sealed at most once, and each domain seals in order of time.
    fn check_order(&mut self, found: &Outcome) -> Result<(), String> {
        for (minute, by) in &found.sealed {
            if !self.sealed.insert(*minute) {
                return Err(format!("minute {minute} was sealed twice"));
            }
            if self.newest.insert(*by, *minute).is_some_and(|before| before >= *minute) {
                return Err(format!("minute {minute} was sealed out of order by {by:?}"));
            }
            match by {
                None => self.met.sealed_live += 1,
                Some(_) => self.met.sealed_by_sessions += 1,
            }
        }
        Ok(())
    }

    /// The views' rows, and the batch engine's over what the model let in.
    fn check_rows(&mut self) -> Result<(), String> {
        let rows = self.engine.rows()?;
        let schema = &self.engine.stream().schema;
        self.batch.load(columns(schema, self.model.settled().iter()));
        let sealed = self.check_views(&rows, |rows| &rows.sealed).map_err(|error| format!("sealed: {error}"))?;
        let waiting = self.model.waiting();
        self.batch.load(columns(&self.engine.stream().schema, waiting.iter()));
        let open = self.check_views(&rows, |rows| &rows.open).map_err(|error| format!("open: {error}"))?;
        self.check_roll_ups(&rows).map_err(|error| format!("roll-ups: {error}"))?;
        self.met.rows_sealed += sealed;
        self.met.rows_open += open;
        Ok(())
    }

    /// Those of windows that are over, and those of windows that are not, are together what all events add up to.
    fn check_roll_ups(&mut self, rows: &[ViewRows]) -> Result<(), String> {
        let events: Vec<_> = self.model.settled().iter().chain(&self.model.waiting()).cloned().collect();
        self.batch.load(columns(&self.engine.stream().schema, events.iter()));
        let selects = self.views.iter().flat_map(|view| view.rolled_up().into_iter().map(move |select| (view, select)));
        let rolled_up = rows.get(self.views.len()..).unwrap_or_default();
        if rolled_up.len() != selects.clone().count() {
            return Err(format!("there are {} roll-ups", rolled_up.len()));
        }
        for ((view, select), rows) in selects.zip(rolled_up) {
            let ours = compute::concat_batches(&rows.sealed.schema(), [&rows.sealed, &rows.open]);
            let ours = ours.map_err(|error| error.to_string())?;
            let batch = self.batch.ask(&select).map_err(|error| format!("{error}\n{select}"))?;
            let same = compare(&ours, &batch, view.keys, &view.checks);
            self.met.rows_rolled_up += same.map_err(|error| format!("{error}\n{select}"))?;
        }
        Ok(())
    }

    fn check_views(&mut self, rows: &[ViewRows], part: fn(&ViewRows) -> &RecordBatch) -> Result<u64, String> {
        let mut compared = 0;
        for (view, rows) in self.views.iter().zip(rows) {
            if view.having && self.model.corrections() > 0 {
                continue;
            }
            let batch = self.batch.ask(&view.select).map_err(|error| format!("{error}\n{}", view.select))?;
            let same = compare(part(rows), &batch, view.keys, &view.checks);
            let count = same.map_err(|error| format!("{error}\n{}", view.select))?;
            compared += count;
            if view.having {
                self.met.rows_having += count;
            }
        }
        Ok(compared)
    }
}

/// The first seed that fails, with the reason; what was met otherwise.
fn run_all(
    seeds: std::ops::Range<u64>,
    check: impl Fn(u64, &Batch) -> Result<Met, String> + Sync,
) -> Result<Met, String> {
    let next = AtomicU64::new(seeds.start);
    let worker = || {
        let batch = Batch::new();
        let mut met = Met::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return Ok(met);
            }
            let outcome = catch_unwind(AssertUnwindSafe(|| check(seed, &batch)));
            match outcome.unwrap_or_else(|_| Err("a panic, printed above".to_owned())) {
                Ok(more) => met += more,
                Err(error) => {
                    next.store(seeds.end, Ordering::Relaxed);
                    return Err(format!("seed {seed} fails (replay it with TIDEWATCH_SEED={seed}): {error}"));
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get().min(4));
    let results: Vec<Result<Met, String>> = std::thread::scope(|scope| {
        let handles: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        handles
            .into_iter()
            .map(|handle| handle.join().unwrap_or_else(|_| Err("a thread panicked".to_owned())))
            .collect()
    });
    let mut all = Met::default();
    for result in results {
        all += result?;
    }
    Ok(all)
}

fn seeds(default: u64) -> std::ops::Range<u64> {
    match number("TIDEWATCH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TIDEWATCH_CASES").unwrap_or(default),
    }
}

#[test]
fn every_row_of_every_view_is_what_a_batch_engine_computes() {
    let seeds = seeds(CASES);
    println!("streaming equals batch: seeds {seeds:?}");
    let met = run_all(seeds, run).unwrap_or_else(|error| panic!("{error}"));
    println!("{met:?}");
    assert_eq!(met.counted + met.duplicates + met.too_late + met.rejected, met.sent);
    // A run of this many cases that never meets one of these has a generator that lost its edge.
    if met.cases >= CASES {
        assert!(met.numbers().iter().all(|number| *number > 100), "{met:?}");
    }
}
