//! The log's tests: what they share. Randomised ones print their seed; `TIDEWATCH_SEED` replays it.

mod codec;
mod committing;
mod copying;
mod crashes;
mod damage;
mod forgetful;
mod forgetting;
mod locking;
mod speed;

use std::{path::Path, sync::Arc, time::Duration};

use arrow::{
    array::{
        ArrayRef, BooleanArray, Float64Array, Int64Array, MapBuilder, MapFieldNames, StringArray, StringBuilder,
        TimestampMicrosecondArray,
    },
    record_batch::RecordBatch,
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch_model::{Column, ColumnType, EventTime, Lsn, Partition, SessionId, StreamSchema};

use crate::{
    Encoded, Events, FileSystem, Journal, JournalTopic, LogConfig, LogError, MemFs, Producer, Reader, Record,
    RecordKind, Recovered, Rejected, Schemas, Writer,
};

const DIR: &str = "/data/log";
const LOG_ID: u64 = 0x1122_3344_5566_7788;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn config() -> LogConfig {
    LogConfig { segment_bytes: 1_000, ..LogConfig::new(LOG_ID) }
}

fn seed() -> u64 {
    let seed = std::env::var("TIDEWATCH_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(20_250_712);
    println!("TIDEWATCH_SEED={seed}");
    seed
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column { name: name.to_owned(), kind, required: false, default: None }
}

/// Fifteen columns, as of a payment.
fn payments() -> Arc<StreamSchema> {
    use ColumnType::{BigInt, Boolean, Double, Map, Text, Timestamp};
    let mut columns: Vec<Column> = [
        ("event_id", Text),
        ("occurred_at", Timestamp),
        ("status", Text),
        ("kind", Text),
        ("channel", Text),
        ("region", Text),
        ("account_id", Text),
        ("counterparty_id", Text),
        ("amount_minor", BigInt),
        ("currency", Text),
        ("latency_us", BigInt),
        ("risk", Double),
        ("flagged", Boolean),
        ("count", BigInt),
        ("attributes", Map),
    ]
    .map(|(name, kind)| column(name, kind))
    .into();
    columns[1].required = true;
    columns[2].required = true;
    columns[13].default = Some(1);
    Arc::new(StreamSchema::new("transactions", columns, "occurred_at", Some("event_id")).unwrap())
}

fn schemas() -> Schemas {
    [payments()].into_iter().collect()
}

/// Random columns of `schema`; `nulls` is the share of nulls in those that may have them.
fn batch(schema: &StreamSchema, rows: usize, nulls: f64, rng: &mut StdRng) -> RecordBatch {
    let arrays = schema.columns().iter().map(|column| {
        let nullable = !column.required && column.default.is_none();
        let null = |rng: &mut StdRng| nullable && rng.random_bool(nulls);
        let array: ArrayRef = match column.kind {
            ColumnType::Text => {
                let words = ["", "approved", "denied", "größer", "日本", "a-somewhat-longer-identifier-0001"];
                Arc::new(StringArray::from_iter(
                    (0..rows).map(|_| (!null(rng)).then(|| words[rng.random_range(0..words.len())])),
                ))
            }
            ColumnType::Timestamp => Arc::new(
                TimestampMicrosecondArray::from_iter((0..rows).map(|_| (!null(rng)).then(|| rng.random::<i64>())))
                    .with_timezone("UTC"),
            ),
            ColumnType::BigInt => {
                Arc::new(Int64Array::from_iter((0..rows).map(|_| (!null(rng)).then(|| rng.random::<i64>()))))
            }
            ColumnType::Double => {
                Arc::new(Float64Array::from_iter((0..rows).map(|_| (!null(rng)).then(|| rng.random::<f64>()))))
            }
            ColumnType::Boolean => {
                Arc::new(BooleanArray::from_iter((0..rows).map(|_| (!null(rng)).then(|| rng.random::<bool>()))))
            }
            ColumnType::Map => {
                let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
                let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
                for _ in 0..rows {
                    let valid = !null(rng);
                    for entry in 0..if valid { rng.random_range(0..4) } else { 0 } {
                        maps.keys().append_value(format!("key {entry}"));
                        maps.values().append_option(rng.random_bool(0.8).then_some("value"));
                    }
                    maps.append(valid).unwrap();
                }
                Arc::new(maps.finish())
            }
        };
        array
    });
    RecordBatch::try_new(schema.arrow().clone(), arrays.collect()).unwrap()
}

fn events(rows: RecordBatch) -> Record {
    let sequences = (0..rows.num_rows() as u32).map(|row| row * 2).collect();
    Record::Events(Events {
        stream: "transactions".to_owned(),
        partition: Partition::Session(SessionId(7)),
        arrived_at: EventTime::from_micros(1_752_321_600_000_000),
        producer: Some(Producer { id: "till-9".to_owned(), first_sequence: 40, offsets: Some(sequences) }),
        rows,
        rejected: vec![Rejected {
            index: 1,
            reason: "no status".to_owned(),
            field: "status".to_owned(),
            event: "{}".to_owned(),
        }],
    })
}

/// A record that is told by its number.
fn note(number: u64) -> Record {
    Record::Journal(Journal { topic: JournalTopic::Alerts, json: format!("{{\"number\":{number}}}").into_bytes() })
}

fn encoded(record: &Record) -> Encoded {
    Encoded::new(record).unwrap()
}

fn no_clock() -> Duration {
    Duration::ZERO
}

fn open(fs: &MemFs) -> Result<(Writer, Recovered), LogError> {
    Writer::open(Arc::new(fs.clone()), dir(), &config())
}

/// Everything that the log holds, by opening it.
fn contents(fs: &MemFs) -> Result<Vec<(Lsn, Record)>, LogError> {
    let (_, found) = open(fs)?;
    Reader::open(Arc::new(fs.clone()), dir(), found.log_id, (found.first, found.last()), schemas())?.collect()
}

/// A log of so many records in at least so many segments.
fn written(records: u64, segments: usize) -> (MemFs, Writer) {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    for number in 1..=records {
        writer.append(&encoded(&note(number))).unwrap();
        writer.commit(&no_clock).unwrap();
    }
    assert!(segment_files(&fs).len() >= segments, "the test wants several segments");
    (fs, writer)
}

fn segment_files(fs: &MemFs) -> Vec<String> {
    fs.list(dir()).unwrap()
}

fn rng() -> StdRng {
    StdRng::seed_from_u64(seed())
}
