//! Frames give back what went into them, bit for bit; damaged ones say where, and no damage makes them panic.
//! `TIDEWATCH_SEED` replays one case.

mod damage;

use std::sync::Arc;

use arrow::{
    array::{
        Array, ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
        UInt32Array,
    },
    compute,
    datatypes::{Field, Schema},
    ipc::{reader::StreamReader, writer::StreamWriter},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom, seq::SliceRandom};
use tidewatch_model::Minute;

use crate::{
    KeyBytes, KeyCodec, PartialRows, View, compile_stream, compile_view,
    states::{
        Kind, States,
        random::{self, pictures},
    },
};

const STREAM: &str = "CREATE TABLE events (at TIMESTAMP NOT NULL, name TEXT, amount BIGINT, price DOUBLE, ok BOOLEAN) \
                      WITH (event_time = 'at')";

/// Every kind of aggregate, under every kind of key, with keys that have our names.
const ALL: &str =
    "SELECT ok AS own, date_trunc('minute', at) AS minute, count(*) AS a, sum(amount) AS b, name AS state_1,
    sum(price) AS c, avg(price) AS d, stddev(price) AS e, var_pop(price) AS f, price AS state_0, min(amount) AS g,
    max(amount) AS h, min(at) AS i, max(at) AS j, date_trunc('hour', at) AS hour, min(price) AS k, max(price) AS l,
    min(name) AS m, max(name) AS n, amount, approx_distinct(name) AS o, histogram(price, amount) AS p
    FROM events GROUP BY ALL";

const EVERY_KIND: &str = "SELECT date_trunc('minute', at) AS minute, name, count(*) AS a, sum(amount) AS b,
    sum(price) AS c, avg(price) AS d, stddev(price) AS e, min(amount) AS f, max(amount) AS g, min(at) AS h, max(at) AS i,
    min(price) AS j, max(price) AS k, min(name) AS l, max(name) AS m, approx_distinct(name) AS n, histogram(price) AS o,
    histogram(price, amount) AS p FROM events GROUP BY ALL";

const NO_KEYS: &str =
    "SELECT date_trunc('minute', at) AS minute, count(*) AS a, histogram(price) AS b FROM events GROUP BY ALL";

const SIMPLE: &str =
    "SELECT date_trunc('minute', at) AS minute, name, count(*) AS a, sum(amount) AS b, sum(price) AS c,
    avg(price) AS d, approx_distinct(name) AS e, histogram(price) AS f FROM events GROUP BY ALL";

fn view(select: &str) -> View {
    let stream = compile_stream("events.sql", STREAM).unwrap();
    compile_view(&stream, "v.sql", &format!("CREATE MATERIALIZED VIEW v AS {select}")).unwrap()
}

/// Random keys of the view's types, each once.
fn keys(view: &View, codec: &KeyCodec, rng: &mut StdRng) -> Vec<KeyBytes> {
    let rows = rng.random_range(0..12);
    let columns = view.inner.fields().iter().skip(1).take(view.keys.len()).map(|field| -> ArrayRef {
        let mut cell = || rng.random_range(0..6);
        let cells: Vec<i64> = (0..rows).map(|_| cell()).collect();
        match field.data_type().to_string().as_str() {
            "Utf8" => Arc::new(
                cells.iter().map(|c| ["", "a", "é", "__other__", "a\0b"].get(*c as usize)).collect::<StringArray>(),
            ),
            "Boolean" => Arc::new(cells.iter().map(|c| (*c < 4).then_some(*c % 2 == 0)).collect::<BooleanArray>()),
            "Int64" => Arc::new(
                cells.iter().map(|c| [0, -1, i64::MIN, i64::MAX, 7].get(*c as usize).copied()).collect::<Int64Array>(),
            ),
            "Float64" => {
                let odd = [0.0, -0.0, f64::NAN, -f64::NAN, f64::from_bits(0x7ff8_0000_0000_0001)];
                Arc::new(cells.iter().map(|c| odd.get(*c as usize).copied()).collect::<Float64Array>())
            }
            _ => Arc::new(
                cells
                    .iter()
                    .map(|c| (*c < 4).then_some(*c * 3_600_000_000))
                    .collect::<TimestampMicrosecondArray>()
                    .with_timezone("UTC"),
            ),
        }
    });
    let columns: Vec<ArrayRef> = columns.collect();
    match codec.encode(&columns).unwrap() {
        Some(encoded) => {
            let keys: std::collections::BTreeSet<KeyBytes> = encoded.iter().map(|row| row.data().into()).collect();
            let mut keys: Vec<KeyBytes> = keys.into_iter().collect();
            keys.shuffle(rng);
            keys
        }
        None if rows > 0 => vec![KeyBytes::default()],
        None => Vec::new(),
    }
}

fn partial(view: &View, codec: &KeyCodec, minute: i64, rng: &mut StdRng) -> PartialRows {
    let keys = keys(view, codec, rng);
    let states = view.aggregates.iter().map(|aggregate| random::states(&aggregate.kind, keys.len(), rng)).collect();
    PartialRows::new(Minute::from_index(minute), keys, states)
}

fn ipc(frame: &RecordBatch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = StreamWriter::try_new(&mut bytes, frame.schema_ref()).unwrap();
    writer.write(frame).unwrap();
    writer.finish().unwrap();
    drop(writer);
    bytes
}

fn read_ipc(bytes: &[u8]) -> RecordBatch {
    StreamReader::try_new(bytes, None).unwrap().next().unwrap().unwrap()
}

fn shuffled(frame: &RecordBatch, rng: &mut StdRng) -> RecordBatch {
    let mut places: Vec<u32> = (0..frame.num_rows() as u32).collect();
    places.shuffle(rng);
    compute::take_record_batch(frame, &UInt32Array::from(places)).unwrap()
}

fn seeds(count: u64) -> std::ops::Range<u64> {
    let replayed = std::env::var("TIDEWATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    replayed.map_or(0..count, |seed: u64| seed..seed + 1)
}

#[test]
fn frames_give_back_every_bit() {
    let mut rows_seen = 0;
    for seed in seeds(200) {
        let mut rng = StdRng::seed_from_u64(seed);
        let view = view([ALL, NO_KEYS, SIMPLE].choose(&mut rng).unwrap());
        let codec = view.key_codec().unwrap();
        let start = *[0, -5, 29_000_000, 153_722_867_277].choose(&mut rng).unwrap();
        let rows: Vec<PartialRows> = (0..4).map(|at| partial(&view, &codec, start + at, &mut rng)).collect();
        let mut disordered = rows.clone();
        disordered.shuffle(&mut rng);
        let frame = view.to_frame(&codec, &disordered).unwrap();
        assert_eq!(frame.schema(), view.frame_schema());
        rows_seen += frame.num_rows();
        // A codec of its own, as another process has.
        let other = view.key_codec().unwrap();
        for (what, frame) in
            [("as it is", frame.clone()), ("by IPC", read_ipc(&ipc(&frame))), ("shuffled", shuffled(&frame, &mut rng))]
        {
            let back = view.from_frame(&other, &frame).unwrap();
            assert_eq!(pictures(&back), pictures(&rows), "seed {seed} (TIDEWATCH_SEED), {what}");
        }
    }
    println!("{rows_seen} rows");
}

#[test]
fn columns_are_named_apart_and_described() {
    let view = view(ALL);
    let schema = view.frame_schema();
    let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(
        &names[..9],
        ["minute", "own", "state_1", "state_0", "hour", "amount", "state_0_", "state_1_", "state_2"]
    );
    assert_eq!(schema.metadata().get("tidewatch.frame").map(String::as_str), Some("1"));
    let codec = view.key_codec().unwrap();
    let mut rng = StdRng::seed_from_u64(1);
    let rows = [partial(&view, &codec, 7, &mut rng)];
    let own: Vec<bool> = (0..rows[0].len()).map(|_| rng.random()).collect();
    let frame = view.open_frame(&codec, &rows, own.clone()).unwrap();
    assert_eq!(frame.schema().fields().last().unwrap().name(), "own_");
    let (back, flags) = view.read_open_frame(&codec, &shuffled(&frame, &mut rng)).unwrap().pop().unwrap();
    assert_eq!((pictures(&[back]), flags), (pictures(&rows), own));
}

#[test]
fn the_fingerprint_is_that_of_the_select() {
    let stream = compile_stream("events.sql", STREAM).unwrap();
    let print = |options: &str, select: &str| {
        let sql = format!("CREATE MATERIALIZED VIEW v {options} AS {select}");
        compile_view(&stream, "v.sql", &sql).unwrap().fingerprint()
    };
    let select = "SELECT date_trunc('minute', at) AS minute, name, count(*) AS n FROM events GROUP BY ALL";
    let same = print("", select);
    assert_eq!(print("WITH (retention = '3 days', fill = 'zero')", &format!("-- as it was\n {select}")), same);
    for other in [
        "SELECT date_trunc('minute', at) AS minute, name, count(name) AS n FROM events GROUP BY ALL",
        "SELECT date_trunc('minute', at) AS minute, ok, count(*) AS n FROM events GROUP BY ALL",
        "SELECT date_trunc('minute', at) AS minute, name, count(*) AS n FROM events WHERE ok GROUP BY ALL",
    ] {
        assert_ne!(print("", other), same, "{other}");
    }
}

/// A frame with one column replaced.
fn with_column(frame: &RecordBatch, at: usize, column: ArrayRef) -> RecordBatch {
    let schema = frame.schema();
    let mut fields: Vec<Field> = schema.fields().iter().map(|field| field.as_ref().clone()).collect();
    fields[at] = Field::new(fields[at].name(), column.data_type().clone(), true);
    let mut columns = frame.columns().to_vec();
    columns[at] = column;
    let schema = Schema::new_with_metadata(fields, schema.metadata().clone());
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

/// Two rows of a view whose key is a name, made by adding a few values to each state.
fn known_rows(view: &View, codec: &KeyCodec) -> PartialRows {
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let states = view.aggregates.iter().map(|aggregate| {
        let floats: ArrayRef = Arc::new(Float64Array::from(vec![1.5, -2.5]));
        let mut args: Vec<ArrayRef> = match &aggregate.kind {
            Kind::Count => vec![],
            Kind::SumInt => vec![Arc::new(Int64Array::from(vec![1, i64::MAX]))],
            Kind::MinInt { output } | Kind::MaxInt { output } => {
                vec![compute::cast(&Int64Array::from(vec![1_500_000, -2]), output).unwrap()]
            }
            Kind::MinText | Kind::MaxText | Kind::Distinct => vec![Arc::clone(&texts)],
            _ => vec![floats],
        };
        args.truncate(aggregate.args.len());
        if aggregate.args.len() > 1 {
            args.push(Arc::new(Int64Array::from(vec![3, 4])));
        }
        let mut states = States::new(&aggregate.kind);
        states.grow(2);
        states.update(&[0, 1], &args, None).unwrap();
        // Once more for the second: beyond 64 bits, and spread about a mean.
        states.update(&[1, 1], &args, None).unwrap();
        states
    });
    let states = states.collect();
    let keys = codec.encode(&[texts]).unwrap().unwrap().iter().map(|row| row.data().into()).collect();
    PartialRows::new(Minute::from_index(29_000_000), keys, states)
}

fn two_rows() -> (View, KeyCodec, RecordBatch) {
    let view = view(SIMPLE);
    let codec = view.key_codec().unwrap();
    let frame = view.to_frame(&codec, &[known_rows(&view, &codec)]).unwrap();
    (view, codec, frame)
}

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/frame-v1.arrows");

#[test]
fn a_frame_of_version_1_is_understood() {
    let view = view(EVERY_KIND);
    let codec = view.key_codec().unwrap();
    let rows = [known_rows(&view, &codec)];
    let frame = read_ipc(&std::fs::read(FIXTURE).unwrap());
    assert_eq!(pictures(&view.from_frame(&codec, &frame).unwrap()), pictures(&rows));
    assert_eq!(frame, view.to_frame(&codec, &rows).unwrap());
}

#[test]
#[ignore = "writes the fixture, once for each version"]
fn write_the_fixture() {
    let view = view(EVERY_KIND);
    let codec = view.key_codec().unwrap();
    let frame = view.to_frame(&codec, &[known_rows(&view, &codec)]).unwrap();
    std::fs::write(FIXTURE, ipc(&frame)).unwrap();
}

#[test]
fn frames_of_other_views_and_versions_are_refused() {
    let (view, codec, frame) = two_rows();
    let told = |frame: &RecordBatch| view.from_frame(&codec, frame).unwrap_err().to_string();
    let with_format = |format: Option<&str>| {
        let mut schema = frame.schema().as_ref().clone();
        schema.metadata.clear();
        schema.metadata.extend(format.map(|format| ("tidewatch.frame".to_owned(), format.to_owned())));
        RecordBatch::try_new(Arc::new(schema), frame.columns().to_vec()).unwrap()
    };
    assert!(told(&with_format(Some("2"))).contains("format 2"));
    assert!(told(&with_format(None)).contains("tidewatch.frame"));
    assert!(told(&frame.project(&[0, 1, 2]).unwrap()).contains("3 columns, and not 8"));
    assert!(told(&frame.project(&[0, 1, 2, 4, 3, 5, 6, 7]).unwrap()).contains("`state_2`"));
    assert!(told(&with_column(&frame, 2, Arc::new(StringArray::from(vec!["1", "2"])))).contains("Utf8"));
    let rows = view.from_frame(&codec, &frame).unwrap();
    let other = self::view(NO_KEYS);
    assert!(other.to_frame(&codec, &rows).is_err(), "rows of another view");
    assert!(view.from_frame(&codec, &other.to_frame(&other.key_codec().unwrap(), &[]).unwrap()).is_err());
}
