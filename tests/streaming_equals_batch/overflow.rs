//! Views with a limit on keys: beyond it values of one key become `__other__`, and the totals by the other keys stay
//! those of the batch engine.

use std::collections::BTreeMap;

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch_views::OTHER;

use super::{
    Met,
    batch::Batch,
    engine::Engine,
    events::{Times, columns},
    model::Model,
    run_all, seeds,
    traffic::{self, Step},
    views::RandomView,
};

const CASES: u64 = 150;

type Totals = BTreeMap<(i64, String), (i64, i64)>;

/// Events and amounts of each minute and status.
fn totals(rows: &RecordBatch) -> Totals {
    let minutes = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let status = rows.column(1).as_string::<i32>();
    let (counts, sums) = (rows.column(3).as_primitive::<Int64Type>(), rows.column(4).as_primitive::<Int64Type>());
    let mut totals = Totals::new();
    for row in 0..rows.num_rows() {
        let total = totals.entry((minutes.value(row), status.value(row).to_owned())).or_default();
        total.0 += counts.value(row);
        total.1 += sums.value(row);
    }
    totals
}

/// The most accounts that a minute has by name.
fn most_named(rows: &RecordBatch) -> usize {
    let minutes = rows.column(0).as_primitive::<TimestampMicrosecondType>();
    let accounts = rows.column(2).as_string::<i32>();
    let mut named: BTreeMap<i64, usize> = BTreeMap::new();
    for row in (0..rows.num_rows()).filter(|row| accounts.is_null(*row) || accounts.value(*row) != OTHER) {
        *named.entry(minutes.value(row)).or_default() += 1;
    }
    named.into_values().max().unwrap_or_default()
}

fn run(seed: u64, batch: &Batch) -> Result<Met, String> {
    let mut rng = StdRng::seed_from_u64(seed);
    let times = Times { ids_max: 1_000_000, ..Times::random(&mut rng) };
    let tidy = rng.random_bool(0.5);
    let steps = traffic::random(&mut rng, times, tidy);
    // There are four statuses: with room for as many again, `__other__` stands for accounts only.
    let keys_max = rng.random_range(4..9);
    let view = RandomView {
        name: "accounts".to_owned(),
        options: format!("retention = '4000 days', max_keys = {keys_max}, overflow = 'account'"),
        select: "SELECT date_trunc('minute', occurred_at) AS minute, status, account, count(*) AS events, \
                 coalesce(sum(amount), 0) AS amount FROM events GROUP BY ALL"
            .to_owned(),
        keys: 2,
        checks: Vec::new(),
        having: false,
        rolled_up: false,
    };
    let mut engine = Engine::new(times.stream(), std::slice::from_ref(&view), &times)?;
    let mut model = Model::new(times);
    // `rejected` counts what overflowed here: nothing else is of interest.
    let mut met = Met { cases: 1, ..Met::default() };
    for step in &steps {
        met.rejected += engine.step(step)?.overflowed;
        match step {
            Step::Submit(submission) => drop(model.submit(submission)),
            Step::Advance { partition, watermark } => drop(model.advance(*partition, *watermark)),
            Step::Open { session, lateness } => model.open(*session, *lateness),
            Step::End { session } => drop(model.end(*session)),
            Step::Checkpoint | Step::Restart => {}
        }
    }
    let rows = engine.rows()?;
    let Some(rows) = rows.first() else { return Err("the view is gone".to_owned()) };
    let waiting = model.waiting();
    for (what, ours, events) in [("sealed", &rows.sealed, model.settled()), ("open", &rows.open, waiting.as_slice())] {
        batch.load(columns(&engine.stream().schema, events.iter()));
        let (ours_by_status, wanted) = (totals(ours), totals(&batch.ask(&view.select)?));
        if ours_by_status != wanted {
            return Err(format!("{what}: {ours_by_status:?}\nand not {wanted:?}"));
        }
        // A correction and a session bring keys of their own to a minute that is full.
        if model.corrections() == 0
            && !steps.iter().any(|step| matches!(step, Step::Open { .. }))
            && most_named(ours) > keys_max
        {
            return Err(format!("{what}: more than {keys_max} keys in a minute"));
        }
        met.rows_sealed += ours.num_rows() as u64;
    }
    Ok(met)
}

#[test]
fn keys_beyond_the_limit_are_counted_together_and_no_event_is_lost() {
    let met = run_all(seeds(CASES), run).unwrap_or_else(|error| panic!("{error}"));
    println!("{} cases, {} events beyond the limit, {} rows", met.cases, met.rejected, met.rows_sealed);
    assert!(met.cases < CASES || met.rejected > 100, "too few events met the limit: {}", met.rejected);
}
