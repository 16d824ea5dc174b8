//! The same random events through CSV, JSON lines and Parquet are the same batches.

use std::{
    fmt::Write as _,
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, DictionaryArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
        TimestampNanosecondArray, UInt64Array,
    },
    datatypes::{Field, Int32Type, Schema},
};
use parquet::arrow::ArrowWriter;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use super::*;
use crate::Survey;

/// One event as a file may hold it: times in microseconds, amounts in cents.
struct Event {
    id: u64,
    time: i64,
    status: &'static str,
    cents: i64,
    account: Option<String>,
    count: Option<i64>,
    color: Option<String>,
}

fn event(rng: &mut StdRng) -> Event {
    const TEXTS: [&str; 6] = ["plain", "with, comma", "with \"quotes\"", "two\nlines", "ümläut ☂", "007"];
    let maybe = |rng: &mut StdRng| rng.random_bool(0.8).then(|| (*TEXTS.choose(rng).unwrap()).to_owned());
    Event {
        id: rng.random(),
        time: rng.random_range(1_500_000_000_000_000..1_800_000_000_000_000),
        status: ["approved", "denied", "failed"].choose(rng).unwrap(),
        // Up to 2^53 cents every amount has a float whose shortest form is the amount.
        cents: rng.random_range(-1_000_000_000_000..1_000_000_000_000),
        account: maybe(rng),
        count: rng.random_bool(0.5).then(|| rng.random_range(0..1_000)),
        color: maybe(rng),
    }
}

fn decimal(cents: i64) -> String {
    format!("{}{}.{:02}", if cents < 0 { "-" } else { "" }, cents.abs() / 100, cents.abs() % 100)
}

fn time_text(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).unwrap().format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

fn csv(events: &[Event]) -> Vec<u8> {
    let quoted = |text: &Option<String>| {
        text.as_ref().map_or_else(String::new, |text| format!("\"{}\"", text.replace('"', "\"\"")))
    };
    let mut text = "ID,at,status,TX,account_id,count,color\n".to_owned();
    for e in events {
        let count = e.count.map_or_else(String::new, |count| count.to_string());
        let (at, tx) = (time_text(e.time), decimal(e.cents));
        writeln!(text, "{},{at},{},{tx},{},{count},{}", e.id, e.status, quoted(&e.account), quoted(&e.color)).unwrap();
    }
    text.into_bytes()
}

fn json_lines(events: &[Event]) -> Vec<u8> {
    let mut text = String::new();
    for e in events {
        let quoted = |text: &Option<String>| serde_json::to_string(text).unwrap();
        writeln!(
            text,
            "{{\"ID\":{},\"at\":{},\"status\":\"{}\",\"TX\":{},\"account_id\":{},\"count\":{},\"color\":{}}}",
            e.id,
            e.time,
            e.status,
            decimal(e.cents),
            quoted(&e.account),
            serde_json::to_string(&e.count).unwrap(),
            quoted(&e.color),
        )
        .unwrap();
    }
    text.into_bytes()
}

/// Types as other programs choose them: nanoseconds, floats, dictionaries, narrow and unsigned integers.
fn parquet(events: &[Event]) -> Vec<u8> {
    let account: DictionaryArray<Int32Type> = events.iter().map(|e| e.account.as_deref()).collect();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("color", Arc::new(events.iter().map(|e| e.color.clone()).collect::<StringArray>())),
        ("at", Arc::new(events.iter().map(|e| Some(e.time * 1_000 + 999)).collect::<TimestampNanosecondArray>())),
        ("ID", Arc::new(events.iter().map(|e| Some(e.id)).collect::<UInt64Array>())),
        ("TX", Arc::new(events.iter().map(|e| Some(decimal(e.cents).parse().unwrap())).collect::<Float64Array>())),
        ("count", Arc::new(events.iter().map(|e| e.count.map(|c| c as i32)).collect::<Int32Array>())),
        ("account_id", Arc::new(account)),
        ("status", Arc::new(events.iter().map(|e| Some(e.status)).collect::<StringArray>())),
    ];
    let fields: Vec<Field> =
        columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect());
    let mut writer = ArrowWriter::try_new(Vec::new(), schema, None).unwrap();
    writer.write(&batch.unwrap()).unwrap();
    writer.into_inner().unwrap()
}

#[test]
fn three_formats_give_the_same_batches() {
    let seed = std::env::var("TIDEWATCH_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        // The standard library seeds its hashers from the system: a fresh number without another crate.
        RandomState::new().hash_one(0)
    });
    println!("TIDEWATCH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..20 {
        let events: Vec<Event> = (0..rng.random_range(1..500)).map(|_| event(&mut rng)).collect();
        let attributes = [Some("color"), Some("rest"), None].choose(&mut rng).unwrap().as_deref();
        let options = SourceOptions {
            batch_rows: rng.random_range(1..200),
            ..options("event_id=ID,occurred_at=at,amount=TX", "currency=EUR,kind=card", attributes)
        };
        let files = [("csv", csv(&events)), ("jsonl", json_lines(&events)), ("parquet", parquet(&events))];
        let files = files.map(|(ending, bytes)| TempFile::new(ending, &bytes));
        let wholes = files.each_ref().map(|file| read(file.path(), &options).unwrap());
        let schema = stream();
        let surveys = files.each_ref().map(|file| Survey::of(file.path(), &schema, &options, |_| ()).unwrap());
        for (whole, survey) in wholes.iter().zip(&surveys) {
            assert_eq!(whole.broken, []);
            assert_eq!(whole.events, wholes[0].events);
            assert_eq!(whole.rows, (1..=events.len() as u64).collect::<Vec<_>>());
            assert_eq!(
                (survey.rows, survey.disorder, survey.times),
                (events.len() as u64, surveys[0].disorder, surveys[0].times)
            );
        }
        let minor = wholes[0].events["amount_minor"].as_primitive::<arrow::datatypes::Int64Type>();
        assert_eq!(minor, &events.iter().map(|e| Some(e.cents)).collect::<Int64Array>());
        assert_eq!(wholes[0].events["count"].null_count(), 0);
        let colored = events.iter().filter(|e| e.color.is_some() && attributes.is_some()).count();
        assert_eq!(wholes[0].events["attributes"].len() - wholes[0].events["attributes"].null_count(), colored);
    }
}

#[test]
fn row_groups_read_side_by_side_are_the_file() {
    let events: Vec<Event> = (0..100).map(|n| event(&mut StdRng::seed_from_u64(n))).collect();
    let file = TempFile::new("parquet", &parquet(&events));
    let options = options("event_id=ID,occurred_at=at", "", None);
    let source = FileSource::open(file.path(), &stream(), &options).unwrap();
    assert_eq!((source.row_groups(), source.row_count()), (Some(1), Some(100)));
    let part = SourceOptions { row_groups: Some(0..1), ..options.clone() };
    assert_eq!(read(file.path(), &part).unwrap().events, read(file.path(), &options).unwrap().events);
    let none = SourceOptions { row_groups: Some(1..5), ..options };
    assert_eq!(read(file.path(), &none).unwrap().events.num_rows(), 0);
}
