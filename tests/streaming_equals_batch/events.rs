//! The events of the property: a stream with a column of every type, random events of it, and their columns.
//! It knows nothing of what becomes of an event.

use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, MapBuilder, MapFieldNames, RecordBatch, StringArray,
        StringBuilder, TimestampMicrosecondArray,
    },
    datatypes::{DataType, Field},
};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use tidewatch_model::{ColumnType, StreamSchema};
use tidewatch_views::{Stream, compile_stream};

pub const SECOND: i64 = 1_000_000;
pub const MINUTE: i64 = 60 * SECOND;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

/// The bounds of the numbers, by which variances are compared.
pub const AMOUNT_MAX: f64 = 2_000.0;
pub const PRICE_MAX: f64 = 2_000.0;

type Attributes = Vec<(&'static str, Option<&'static str>)>;

#[derive(Clone, Debug)]
pub struct Event {
    pub id: Option<u32>,
    /// Microseconds since 1970.
    pub at: i64,
    pub status: &'static str,
    pub kind: Option<&'static str>,
    pub region: Option<&'static str>,
    pub account: Option<u8>,
    pub amount: Option<i64>,
    pub price: Option<f64>,
    pub ok: Option<bool>,
    pub weight: i64,
    pub latency: Option<i64>,
    pub attributes: Option<Attributes>,
}

/// The times of a stream, in microseconds, and how its ids are written.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub lateness: i64,
    pub dedup_span: i64,
    pub correction_horizon: i64,
    pub live_for: i64,
    pub numeric_ids: bool,
    pub ids_max: usize,
    /// Memory for sealed minutes: with little, whatever a checkpoint has is read back from it.
    pub head_bytes_max: usize,
    pub cache_bytes_max: usize,
}

impl Times {
    pub fn random(rng: &mut StdRng) -> Self {
        let mut pick = |seconds: &[i64]| seconds.choose(rng).map_or(0, |seconds| seconds * SECOND);
        let dedup_span = pick(&[120, 300, 300, 1_200, 3_600]);
        let correction_horizon = [dedup_span, pick(&[0, 90, 600, 7_200])];
        Self {
            lateness: pick(&[0, 10, 30, 30, 30, 90, 300]),
            dedup_span,
            live_for: pick(&[600, 3_600, 3_600, 10_800, 30]),
            correction_horizon: correction_horizon[usize::from(rng.random_bool(0.3))],
            numeric_ids: rng.random_bool(0.2),
            ids_max: if rng.random_bool(0.15) { rng.random_range(3..40) } else { 1_000_000 },
            head_bytes_max: *[0, 20_000, 1 << 40].choose(rng).unwrap(),
            cache_bytes_max: *[0, 100_000, 1 << 40].choose(rng).unwrap(),
        }
    }

    pub fn stream(&self) -> Stream {
        let id = if self.numeric_ids { "BIGINT" } else { "TEXT" };
        let [lateness, dedup, horizon, live_for] =
            [self.lateness, self.dedup_span, self.correction_horizon, self.live_for].map(|micros| micros / SECOND);
        let sql = format!(
            "CREATE TABLE events (
                event_id {id}, occurred_at TIMESTAMP NOT NULL, status TEXT NOT NULL, kind TEXT, region TEXT,
                account TEXT, amount BIGINT, price DOUBLE, ok BOOLEAN, weight BIGINT DEFAULT 1 CHECK (weight >= 0),
                latency BIGINT CHECK (latency >= 0), attributes MAP(TEXT, TEXT)
             ) WITH (event_time = 'occurred_at', id = 'event_id', lateness = '{lateness}s', dedup_span = '{dedup}s',
                     correction_horizon = '{horizon}s', live_for = '{live_for}s')"
        );
        compile_stream("events.sql", &sql).unwrap()
    }
}

impl Event {
    pub fn minute(&self) -> i64 {
        self.at.div_euclid(MINUTE)
    }

    pub fn random(rng: &mut StdRng, id: Option<u32>, at: i64) -> Self {
        fn perhaps<T: Copy>(rng: &mut StdRng, values: &[T]) -> Option<T> {
            if rng.random_bool(0.2) { None } else { values.choose(rng).copied() }
        }
        // Multiples of 2^-20 of either sign: sums of them are exact in any order, so cancellation hides nothing.
        let bound = PRICE_MAX as i64 * (1 << 20);
        let price = rng.random_bool(0.8).then(|| rng.random_range(-bound..bound) as f64 / f64::from(1 << 20));
        let attributes = rng.random_bool(0.7).then(|| {
            let mut entries = Attributes::new();
            if rng.random_bool(0.7) {
                entries.push(("channel", perhaps(rng, &["app", "web", "pos"])));
            }
            if rng.random_bool(0.3) {
                entries.push(("other", perhaps(rng, &["x", ""])));
            }
            entries
        });
        Self {
            id,
            at,
            status: ["approved", "approved", "approved", "denied", "failed", "reversed"].choose(rng).unwrap(),
            kind: perhaps(rng, &["card", "ach", "wallet"]),
            region: perhaps(rng, &["eu", "us", "été", ""]),
            account: perhaps(rng, &[1, 2, 3, 5, 8, 13, 21, 34]),
            amount: perhaps(rng, &[-250, 0, 1, 7, 99, 100, 249, 250, 999, 1_000, 1_999]),
            price,
            ok: perhaps(rng, &[true, false]),
            weight: *[0, 1, 1, 1, 2, 100].choose(rng).unwrap(),
            latency: perhaps(rng, &[0, 1, 80, 1_500, 1_501, 40_000, 2_000_000]),
            attributes,
        }
    }
}

/// Events as columns of the stream.
pub fn columns<'a>(stream: &StreamSchema, events: impl Iterator<Item = &'a Event> + Clone) -> RecordBatch {
    let texts = |value: fn(&Event) -> Option<&'static str>| -> ArrayRef {
        Arc::new(events.clone().map(value).collect::<StringArray>())
    };
    let ids: ArrayRef = match stream.columns()[0].kind {
        ColumnType::BigInt => Arc::new(events.clone().map(|e| e.id.map(i64::from)).collect::<Int64Array>()),
        _ => Arc::new(events.clone().map(|e| e.id.map(|id| format!("event-{id}"))).collect::<StringArray>()),
    };
    let times = TimestampMicrosecondArray::from_iter_values(events.clone().map(|e| e.at)).with_timezone("UTC");
    let accounts: StringArray = events.clone().map(|e| e.account.map(|account| format!("a{account}"))).collect();
    let columns: Vec<ArrayRef> = vec![
        ids,
        Arc::new(times),
        texts(|e| Some(e.status)),
        texts(|e| e.kind),
        texts(|e| e.region),
        Arc::new(accounts),
        Arc::new(events.clone().map(|e| e.amount).collect::<Int64Array>()),
        Arc::new(events.clone().map(|e| e.price).collect::<Float64Array>()),
        Arc::new(events.clone().map(|e| e.ok).collect::<BooleanArray>()),
        Arc::new(Int64Array::from_iter_values(events.clone().map(|e| e.weight))),
        Arc::new(events.clone().map(|e| e.latency).collect::<Int64Array>()),
        maps(events),
    ];
    RecordBatch::try_new(Arc::clone(stream.arrow()), columns).unwrap()
}

fn maps<'a>(events: impl Iterator<Item = &'a Event>) -> ArrayRef {
    let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new())
        .with_keys_field(Field::new("keys", DataType::Utf8, false))
        .with_values_field(Field::new("values", DataType::Utf8, true));
    for event in events {
        for (key, value) in event.attributes.iter().flatten() {
            maps.keys().append_value(key);
            maps.values().append_option(*value);
        }
        maps.append(event.attributes.is_some()).unwrap();
    }
    Arc::new(maps.finish())
}
