//! Random traffic for an operator: live and of sessions, in no good order, with repeats.

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidewatch_model::{EventTime, Partition, SessionId, Span, StreamSchema};

use crate::{Applied, Events, Operator, Sequenced, Stream, View, compile_stream, compile_view};

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;

pub fn stream() -> Stream {
    let sql = "CREATE TABLE events (id TEXT, at TIMESTAMP NOT NULL, status TEXT, account TEXT, amount BIGINT, \
               price DOUBLE) WITH (event_time = 'at', id = 'id', lateness = '30s', dedup_span = '10m', \
               correction_horizon = '15m', live_for = '2h')";
    compile_stream("events.sql", sql).unwrap()
}

pub fn view(name: &str, options: &str, select: &str) -> Arc<View> {
    let sql =
        format!("CREATE MATERIALIZED VIEW {name} {options} AS SELECT date_trunc('minute', at) AS minute, {select}");
    Arc::new(compile_view(&stream(), "v.sql", &sql).unwrap())
}

/// With room for so many keys: one that overflows by account, one as a whole, one without keys.
pub fn views(keys_max: usize) -> Vec<Arc<View>> {
    let by_account = "status, account, count(*) AS n, sum(amount) AS total, sum(price) AS p, avg(price) AS q,
        stddev(price) AS r, min(amount) AS least, max(at) AS newest, min(account) AS first, approx_distinct(id) AS ids,
        histogram(price, amount) AS h FROM events GROUP BY ALL";
    let by_price = "price, 1000 / amount AS share, count(*) AS n, max(price) AS p FROM events
        WHERE status <> 'reversed' GROUP BY ALL";
    vec![
        view("by_account", &format!("WITH (max_keys = {keys_max}, overflow = 'account')"), by_account),
        view("by_price", &format!("WITH (max_keys = {keys_max})"), by_price),
        view("all", "", "count(*) AS n, sum(amount) AS total, histogram(price) AS h FROM events GROUP BY ALL"),
    ]
}

#[derive(Debug)]
pub enum Step {
    Events { partition: Partition, producer: Option<(String, u64)>, rows: RecordBatch },
    Advance { partition: u16, watermark: i64 },
    Open { session: u64, lateness: i64 },
    End { session: u64 },
}

/// Events around `now`, some of them sent before.
pub fn events(schema: &StreamSchema, now: i64, rng: &mut StdRng) -> RecordBatch {
    let rows = rng.random_range(0..25);
    let times = (0..rows).map(|_| match rng.random_range(0..20) {
        0 => now - rng.random_range(0..40 * MINUTE),
        1 => now + rng.random_range(0..3 * MINUTE),
        2..6 => now - rng.random_range(0..6 * MINUTE),
        _ => now - rng.random_range(0..40 * SECOND),
    });
    let times: Vec<i64> = times.collect();
    // The same time mostly has the same id, so that what is repeated is repeated in its own minute.
    let ids = times
        .iter()
        .map(|time| rng.random_bool(0.9).then(|| format!("e{}-{}", time / MINUTE, rng.random_range(0..30))));
    let ids: StringArray = ids.collect();
    let mut text = |values: &[&str]| -> ArrayRef {
        Arc::new((0..rows).map(|_| values.choose(rng).copied().filter(|v| !v.is_empty())).collect::<StringArray>())
    };
    let status = text(&["approved", "denied", "reversed", ""]);
    let account = text(&["a", "b", "c", "d", "e", "__other__", ""]);
    let amounts: Int64Array = (0..rows).map(|_| rng.random_bool(0.9).then(|| rng.random_range(-2..50))).collect();
    let prices = (0..rows).map(|_| {
        let odd = [0.0, -0.0, 1e300, f64::NAN, f64::INFINITY, 0.1];
        rng.random_bool(0.9).then(|| *[*odd.choose(rng).unwrap(), 0.1, 7.25].choose(rng).unwrap())
    });
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids),
        Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
        status,
        account,
        Arc::new(amounts),
        Arc::new(prices.collect::<Float64Array>()),
    ];
    RecordBatch::try_new(Arc::clone(schema.arrow()), columns).unwrap()
}

pub fn steps(schema: &StreamSchema, rng: &mut StdRng) -> Vec<Step> {
    let mut now = 29_000_000 * MINUTE;
    let mut session_now = [now - 90 * MINUTE, now, now - 1_000 * MINUTE];
    let pause = |rng: &mut StdRng| match rng.random_range(0..40) {
        0 => 5 * 60 * MINUTE,
        1 | 2 => rng.random_range(0..20 * MINUTE),
        _ => rng.random_range(0..50 * SECOND),
    };
    let live_from = if rng.random_bool(0.3) { 20 } else { 0 };
    let count = rng.random_range(20..90);
    let step = |at: usize| {
        now += pause(rng);
        let session = rng.random_range(0..3);
        match rng.random_range(0..20) {
            0 => Step::Advance { partition: rng.random_range(0..2), watermark: now - rng.random_range(0..MINUTE) },
            1 | 2 => Step::Open { session: session as u64, lateness: rng.random_range(0..10 * MINUTE) },
            3 => Step::End { session: session as u64 },
            4..10 => {
                session_now[session] += pause(rng);
                let rows = events(schema, session_now[session], rng);
                let producer = rng.random_bool(0.2).then(|| ("session".to_owned(), rng.random_range(0..400)));
                Step::Events { partition: Partition::Session(SessionId(session as u64)), producer, rows }
            }
            _ if at < live_from => Step::Open { session: session as u64, lateness: 0 },
            _ => {
                let producer = rng.random_bool(0.4);
                let producer = producer.then(|| (format!("p{}", rng.random_range(0..3)), rng.random_range(0..400)));
                let partition = Partition::Live(rng.random_range(0..2));
                Step::Events { partition, producer, rows: events(schema, now, rng) }
            }
        }
    };
    (0..count).map(step).collect()
}

pub fn apply(operator: &mut Operator, step: &Step) -> Applied {
    match step {
        Step::Events { partition, producer, rows } => {
            let producer = producer.as_ref().map(|(producer, first)| {
                let last = first + rows.num_rows() as u64;
                Sequenced { producer, first: *first, offsets: None, last }
            });
            operator.events(Events { partition: *partition, producer, rows }).unwrap()
        }
        Step::Advance { partition, watermark } => {
            operator.advance(Partition::Live(*partition), EventTime::from_micros(*watermark))
        }
        Step::Open { session, lateness } => {
            operator.open_session(SessionId(*session), Span::from_micros(*lateness)).unwrap();
            Applied::default()
        }
        Step::End { session } => operator.end_session(SessionId(*session)),
    }
}
