//! One bit of every byte that a small engine keeps on disk is flipped in turn, in the log and in every file of its checkpoint:
//! the engine does not start, or serves what is not touched with the numbers that it had and tells what is missing. Each bit of each byte of the
//! formats themselves is flipped in the tests of `log` and `store`.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Int64Type, TimestampMicrosecondType, UInt64Type},
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch::{
    checkpoint::{Checkpoints, Rest},
    core::{Core, CoreLimits, Plan},
    owed::Owed,
    quarantine::Quarantine,
    recovery,
};
use tidewatch_alerts::{Outbox, RetryPolicy};
use tidewatch_log::{Contained, Encoded, Events, FileSystem, LogConfig, LogError, MemFs, Record, Recovered, Writer};
use tidewatch_model::{EventTime, ManualClock, Minute, Partition, Span};
use tidewatch_store::{Cold, Folder};
use tidewatch_views::{compile_stream, compile_view};

use crate::support::seed;

pub const LOG: &str = "/data/log";
pub const STORE: &str = "/data/store";
const LOG_ID: u64 = 9;
const FIRST: i64 = 29_000_000;

pub fn plan() -> Plan {
    let stream = compile_stream(
        "events.sql",
        "CREATE TABLE events (event_id TEXT, occurred_at TIMESTAMP NOT NULL, kind TEXT, count BIGINT DEFAULT 1)
         WITH (event_time = 'occurred_at', id = 'event_id', lateness = '0 seconds', dedup_span = '1 hour')",
    )
    .unwrap();
    let view = compile_view(
        &stream,
        "kinds.sql",
        "CREATE MATERIALIZED VIEW kinds WITH (retention = '90 days') AS
         SELECT date_trunc('minute', occurred_at) AS minute, kind, sum(count) AS n FROM events GROUP BY ALL",
    )
    .unwrap();
    Plan { stream, views: vec![Arc::new(view)], rules: Vec::new() }
}

fn limits() -> CoreLimits {
    CoreLimits {
        ids_max: 1_000,
        head_bytes_max: 1 << 30,
        cache_bytes_max: 1 << 20,
        raw_bytes_max: 1 << 30,
        raw_retention: Span::from_minutes(1 << 24),
        ledger_retention: Span::from_minutes(1 << 24),
        rules: Default::default(),
    }
}

/// Two events in the first half of a minute; `ids` tells them from others of that minute.
fn events(plan: &Plan, minute: i64, ids: &str) -> Record {
    let start = Minute::from_index(FIRST + minute).start().micros();
    let columns: Vec<arrow::array::ArrayRef> = vec![
        Arc::new(arrow::array::StringArray::from(vec![format!("{minute}-{ids}-1"), format!("{minute}-{ids}-2")])),
        Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![start, start + 1]).with_timezone("UTC")),
        Arc::new(arrow::array::StringArray::from(vec!["card", "ach"])),
        Arc::new(arrow::array::Int64Array::from(vec![minute + 1, 1])),
    ];
    let rows = RecordBatch::try_new(Arc::clone(plan.stream.schema.arrow()), columns).unwrap();
    Record::Events(Events {
        stream: "events".to_owned(),
        partition: Partition::Live(0),
        arrived_at: EventTime::from_micros(start),
        producer: None,
        rows,
        rejected: Vec::new(),
    })
}

fn writer(fs: &MemFs, contained: Contained) -> Result<(Writer, Recovered), LogError> {
    let config = LogConfig { segment_bytes: 600, contained, ..LogConfig::new(LOG_ID) };
    Writer::open(Arc::new(fs.clone()), Path::new(LOG), &config)
}

/// Twelve minutes: four in each of two checkpoints, the rest in the log alone.
pub fn small_engine(plan: &Plan) -> MemFs {
    let fs = MemFs::new();
    let (mut log, _) = writer(&fs, Contained::default()).unwrap();
    let (folder, _) = Folder::open(Arc::new(fs.clone()), Path::new(STORE)).unwrap();
    let cold = Cold::new(folder.files().clone(), folder.manifest(), limits().cache_bytes_max);
    let mut checkpoints = Checkpoints::new(folder, LOG_ID, &plan.views, cold).unwrap();
    let mut core = Core::new(plan, limits()).unwrap();
    // One of them is late, so that a minute has rows in two segments.
    for (minute, ids) in
        (0..6).map(|minute| (minute, "a")).chain([(1, "late")]).chain((6..12).map(|minute| (minute, "a")))
    {
        let record = events(plan, minute, ids);
        let lsn = log.append(&Encoded::new(&record).unwrap()).unwrap();
        log.commit(&|| Duration::ZERO).unwrap();
        core.apply(lsn, &record).unwrap();
        if minute == 3 || minute == 7 {
            let rest = Rest::of(&Owed::default(), &Outbox::new(RetryPolicy::default())).unwrap();
            checkpoints.write(&core.save().unwrap(), &rest).unwrap();
        }
    }
    drop(checkpoints);
    // Removes what the second checkpoint replaced.
    Folder::open(Arc::new(fs.clone()), Path::new(STORE)).unwrap();
    fs
}

/// Minute, kind and number of every row that is served.
pub type Rows = BTreeSet<(i64, String, i64)>;

/// What an engine serves, and what it says is missing.
pub struct Started {
    pub rows: Rows,
    /// The table `damages`.
    damages: Vec<RecordBatch>,
    /// The end of the log was taken for a torn tail.
    cut: bool,
}

/// What an engine that starts from this disk serves, or why it does not start.
pub fn started(fs: &MemFs, plan: &Plan) -> Result<Started, String> {
    let disk: Arc<dyn FileSystem> = Arc::new(fs.clone());
    let (folder, _) = Folder::open(Arc::clone(&disk), Path::new(STORE)).map_err(|error| error.to_string())?;
    let manifest = folder.manifest();
    let contained = Contained { log_id: Some(manifest.log_id), before: manifest.applied.next() };
    let (_, found) = writer(fs, contained).map_err(|error| error.to_string())?;
    let (id, first, last, lost) = (found.log_id, found.first, found.last(), found.lost);
    let log = recovery::Found { disk: Arc::clone(&disk), dir: LOG.into(), id, first, last, lost };
    let quarantine = Quarantine::new(disk, Path::new("/data"), Arc::new(ManualClock::at(EventTime::from_micros(0))));
    let restored = recovery::recover(plan, limits(), RetryPolicy::default(), &folder, &log, &quarantine);
    let mut restored = restored.map_err(|error| error.to_string())?;
    let rows = served(&restored.core)?;
    let met = restored.cold.take_damages();
    restored.core.note_damages(met.iter().map(|damage| quarantine.stored(damage, &manifest)).collect());
    let tables = restored.core.save().map_err(|error| error.to_string())?.tables;
    let damages = tables.into_iter().find(|table| table.name == "damages").map(|table| table.new);
    Ok(Started { rows, damages: damages.unwrap_or_default(), cut: found.cut.is_some() })
}

fn served(core: &Core) -> Result<Rows, String> {
    let open = core.operator().open_rows();
    let snapshot = core.head().snapshot_with_open(open).map_err(|error| error.to_string())?;
    let mut rows = Rows::new();
    for view in snapshot.views() {
        let all = (Minute::from_index(0), Minute::from_index(100_000_000));
        for batch in [
            view.sealed_rows(all.0, all.1).map_err(|error| error.to_string())?.batch,
            view.open_rows(all.0, all.1).map_err(|error| error.to_string())?.batch,
        ] {
            let minutes = batch.column_by_name("minute").unwrap().as_primitive::<TimestampMicrosecondType>();
            let kinds = arrow::compute::cast(batch.column_by_name("kind").unwrap(), &arrow::datatypes::DataType::Utf8);
            let kinds = kinds.unwrap();
            let numbers = batch.column_by_name("n").unwrap().as_primitive::<Int64Type>();
            for row in 0..batch.num_rows() {
                let minute = minutes.value(row) / 60_000_000 - FIRST;
                rows.insert((minute, kinds.as_string::<i32>().value(row).to_owned(), numbers.value(row)));
            }
        }
    }
    Ok(rows)
}

/// One row of `damages` tells what is missing, and the damaged bytes have a copy.
fn assert_told(started: &Started, whole: &Rows, path: &Path, disk: &MemFs, case: &str) {
    let [rows] = &started.damages[..] else { panic!("{case}: {:?}", started.damages) };
    assert_eq!(rows.num_rows(), 1, "{case}");
    let text = |name: &str| rows.column_by_name(name).unwrap().as_string::<i32>().value(0);
    let number = |name: &str| {
        let column = rows.column_by_name(name).unwrap().as_primitive::<UInt64Type>();
        column.is_valid(0).then(|| column.value(0))
    };
    let minute = |name: &str| {
        let column = rows.column_by_name(name).unwrap().as_primitive::<TimestampMicrosecondType>();
        column.is_valid(0).then(|| column.value(0) / 60_000_000 - FIRST)
    };
    assert_eq!(Path::new("/data").join(text("file")), path, "{case}");
    let (from, to) = (minute("minute_from").unwrap(), minute("minute_to").unwrap_or(i64::MAX));
    let gone = whole.difference(&started.rows);
    assert!(gone.into_iter().all(|(minute, ..)| (from..=to).contains(minute)), "{case}: {from} to {to}");
    match text("kind") {
        "log" => assert_eq!((number("records"), number("rows")), (Some(1), None), "{case}"),
        _ => {
            assert_eq!((text("view"), number("records")), ("kinds", None), "{case}");
            assert!(number("rows").is_some_and(|rows| rows > 0), "{case}");
        }
    }
    let copy = disk.bytes(&Path::new("/data").join(text("quarantined_as"))).unwrap();
    assert_eq!(copy.len() as u64, number("bytes").unwrap(), "{case}");
}

/// The disk as it is, with this file instead of its own.
pub fn with(fs: &MemFs, path: &Path, bytes: Vec<u8>) -> MemFs {
    let copy = MemFs::new();
    for dir in [LOG, STORE].map(Path::new) {
        copy.create_dir(dir).unwrap();
        for name in fs.list(dir).unwrap() {
            let path = dir.join(name);
            copy.put(&path, fs.bytes(&path).unwrap());
        }
    }
    copy.put(path, bytes);
    copy
}

#[test]
fn a_flipped_bit_anywhere_never_gives_a_wrong_number() {
    let mut rng = StdRng::seed_from_u64(seed("flipped bits"));
    let plan = plan();
    let fs = small_engine(&plan);
    let Started { rows: whole, damages, .. } = started(&with(&fs, Path::new("/nowhere"), Vec::new()), &plan).unwrap();
    assert_eq!((whole.len(), damages.len()), (24, 0));
    for dir in [LOG, STORE].map(Path::new) {
        for name in fs.list(dir).unwrap() {
            let path = dir.join(&name);
            let good = fs.bytes(&path).unwrap();
            let (mut refused, mut served, mut less) = (0, 0, 0);
            for at in 0..good.len() {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << rng.random_range(0..8);
                let disk = with(&fs, &path, bytes);
                match started(&disk, &plan) {
                    Err(_) => refused += 1,
                    Ok(started) if started.rows == whole => served += 1,
                    Ok(started) => {
                        less += 1;
                        let case = format!("{name} at {at}");
                        if !started.cut {
                            assert_told(&started, &whole, &path, &disk, &case);
                        }
                        let rows = started.rows;
                        let invented: Vec<_> = rows.difference(&whole).collect();
                        assert!(invented.is_empty(), "{name} at {at}: {invented:?}");
                        // Of a minute either every row is there or none. A file's minutes reach from its oldest to its
                        // newest: the second's from the late events' to the newest sealed one.
                        let gone: BTreeSet<i64> = whole.difference(&rows).map(|(minute, ..)| *minute).collect();
                        assert!(gone.iter().all(|minute| *minute <= 6) || gone.len() == 1, "{name} at {at}: {gone:?}");
                        assert!(rows.iter().all(|(minute, ..)| !gone.contains(minute)), "{name} at {at}: {gone:?}");
                    }
                }
            }
            println!(
                "{name}: {} bytes: {refused} refused, {served} without a loss, {less} with the rest served",
                good.len()
            );
            if dir == Path::new(LOG) {
                assert_eq!(refused, 0, "{name}");
            }
            // A damaged segment takes its own minutes. Nothing is served without the state and the ids.
            if name.starts_with("state") || name.starts_with("ids") || name == "MANIFEST" {
                assert_eq!((served, less), (0, 0), "{name}");
            }
            if name.starts_with("kinds") {
                assert_eq!((refused, served), (0, 0), "{name}");
            }
        }
    }
}
