//! Tables are read from disk and from memory: a question sees each row once, wherever it is, reads only the stretch of time
//! that it asks for, and rows leave by age and for want of room, together with the minutes of the views.

use std::{path::Path, sync::Arc};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tidewatch::{
    checkpoint::{self, Checkpoints, Rest},
    core::{Core, CoreLimits, Plan, SavedCore},
    owed::Owed,
};
use tidewatch_alerts::{Outbox, RetryPolicy};
use tidewatch_log::{Events, FileSystem, MemFs, Record};
use tidewatch_model::{EventTime, Lsn, Minute, Partition, Span};
use tidewatch_query::{QueryLimits, render};
use tidewatch_store::{Cold, Folder};
use tidewatch_views::{compile_stream, compile_view};

use crate::support::seed;

const STORE: &str = "/data/store";
const HOUR: i64 = 60;
/// A whole day.
const FIRST: i64 = 20_000 * 24 * HOUR;

fn plan(measure: &str) -> Plan {
    let stream = compile_stream(
        "events.sql",
        "CREATE TABLE events (seen_at TIMESTAMP, kind TEXT, count BIGINT DEFAULT 1, occurred_at TIMESTAMP NOT NULL)
         WITH (event_time = 'occurred_at', lateness = '0 seconds', dedup_span = '30 days', correction_horizon = '30 days')",
    )
    .unwrap();
    let sql = format!(
        "CREATE MATERIALIZED VIEW kinds WITH (retention = '90 days') AS
         SELECT date_trunc('minute', occurred_at) AS minute, kind, {measure} AS n FROM events GROUP BY ALL"
    );
    let view = compile_view(&stream, "kinds.sql", &sql).unwrap();
    Plan { stream, views: vec![Arc::new(view)], rules: Vec::new() }
}

fn limits(raw_retention: Span) -> CoreLimits {
    CoreLimits {
        ids_max: 1_000,
        head_bytes_max: 0,
        cache_bytes_max: 1 << 20,
        raw_bytes_max: 1 << 30,
        raw_retention,
        ledger_retention: Span::from_minutes(90 * 24 * HOUR),
        rules: Default::default(),
    }
}

/// A core with a store below it, on a disk in memory.
struct Engine {
    fs: MemFs,
    plan: Plan,
    limits: CoreLimits,
    disk_bytes_max: u64,
    core: Core,
    checkpoints: Checkpoints,
    lsn: Lsn,
}

impl Engine {
    fn new(raw_retention: Span, disk_bytes_max: u64) -> Self {
        let (fs, plan, limits) = (MemFs::new(), plan("sum(count)"), limits(raw_retention));
        let core = Core::new(&plan, limits).unwrap();
        let folder = open(&fs);
        let cold = Cold::new(folder.files().clone(), folder.manifest(), limits.cache_bytes_max);
        let checkpoints = Checkpoints::new(folder, 1, &plan.views, cold).unwrap().with_disk_bytes_max(disk_bytes_max);
        Self { fs, plan, limits, disk_bytes_max, core, checkpoints, lsn: Lsn(0) }
    }

    /// Events of these minutes, with these counts.
    fn events(&mut self, events: &[(i64, i64)]) {
        let times = || events.iter().map(|(minute, _)| Minute::from_index(FIRST + minute).start().micros() + 7);
        let columns: Vec<ArrayRef> = vec![
            // Not the time of the event, and before it.
            Arc::new(TimestampMicrosecondArray::from_value(0, events.len()).with_timezone("UTC")),
            Arc::new(StringArray::from(vec!["card"; events.len()])),
            Arc::new(Int64Array::from_iter_values(events.iter().map(|(_, count)| *count))),
            Arc::new(TimestampMicrosecondArray::from_iter_values(times()).with_timezone("UTC")),
        ];
        let rows = RecordBatch::try_new(Arc::clone(self.plan.stream.schema.arrow()), columns).unwrap();
        self.lsn = self.lsn.next();
        let record = Record::Events(Events {
            stream: "events".to_owned(),
            partition: Partition::Live(0),
            arrived_at: EventTime::from_micros(times().max().unwrap()),
            producer: None,
            rows,
            rejected: Vec::new(),
        });
        self.core.apply(self.lsn, &record).unwrap();
    }

    /// Writes a checkpoint that the core does not know of yet.
    fn write(&mut self) -> SavedCore {
        let rest = Rest::of(&Owed::default(), &Outbox::new(RetryPolicy::default())).unwrap();
        let saved = self.core.save().unwrap();
        self.checkpoints.write(&saved, &rest).unwrap();
        saved
    }

    fn written(&mut self, saved: &SavedCore) {
        while self.checkpoints.compact().unwrap().is_some() {}
        self.core.saved(saved.save, &self.checkpoints.cold());
        self.checkpoints.no_room().into_iter().for_each(|no_room| self.core.make_room(no_room));
    }

    fn checkpoint(&mut self) {
        let saved = self.write();
        self.written(&saved);
    }

    /// What came after the newest checkpoint is not there any more: there is no log here.
    fn restart(&mut self) {
        let folder = open(&self.fs);
        let applied = folder.manifest().applied;
        let restored =
            checkpoint::restore(&folder, &folder.manifest(), &self.plan, self.limits, RetryPolicy::default());
        let restored = restored.unwrap();
        let checkpoints = Checkpoints::new(folder, 1, &self.plan.views, restored.cold).unwrap();
        self.checkpoints = checkpoints.with_disk_bytes_max(self.disk_bytes_max);
        (self.core, self.lsn) = (restored.core, applied);
    }

    /// The answer's rows as lines of CSV, without the names.
    fn ask(&self, sql: &str) -> Vec<String> {
        let limits = QueryLimits { memory_bytes: 1 << 30, time: std::time::Duration::from_secs(60), rows: 1_000_000 };
        let reading = self.core.reading().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let text = runtime.block_on(async {
            let answer = tidewatch_query::ask(sql, Vec::new(), reading, EventTime::default(), limits).await.unwrap();
            let schema = answer.schema();
            render::to_csv(&schema, &tidewatch_query::collect(answer).await.unwrap()).unwrap()
        });
        String::from_utf8(text).unwrap().lines().skip(1).map(str::to_owned).collect()
    }

    fn check(&self, sql: &str, expected: &str) {
        assert_eq!(self.ask(sql), [expected], "{sql}");
    }
}

fn open(fs: &MemFs) -> Folder {
    Folder::open(Arc::new(fs.clone()), Path::new(STORE)).unwrap().0
}

fn at(minute: i64) -> String {
    Minute::from_index(FIRST + minute).start().to_string()
}

const LONG: Span = Span::from_minutes(365 * 24 * HOUR);

#[test]
fn a_question_sees_each_row_once_wherever_it_is() {
    for round in 0..20 {
        let mut rng = StdRng::seed_from_u64(seed("tables").wrapping_add(round));
        let mut engine = Engine::new(LONG, u64::MAX);
        let mut events: Vec<(i64, i64)> = Vec::new();
        let (mut now, mut on_disk, mut under_way) = (0, 0, None);
        for _ in 0..rng.random_range(5..60) {
            let batch: Vec<(i64, i64)> = (0..rng.random_range(1..20))
                .map(|_| {
                    now += rng.random_range(0..4);
                    (now - rng.random_range(0_i64..200).saturating_sub(150).max(0), rng.random_range(1..9))
                })
                .collect();
            engine.events(&batch);
            events.extend(&batch);
            match rng.random_range(0..10) {
                // On disk, but the core is told of it later: a row is in both until then.
                0 if under_way.is_none() => (under_way, on_disk) = (Some(engine.write()), events.len()),
                1 | 2 => {
                    if let Some(saved) = under_way.take() {
                        engine.written(&saved);
                    }
                }
                3 | 4 if under_way.is_none() => {
                    engine.checkpoint();
                    on_disk = events.len();
                }
                5 => {
                    engine.restart();
                    (under_way, now) = (None, 0);
                    events.truncate(on_disk);
                    now = events.iter().map(|(minute, _)| *minute).max().unwrap_or(now);
                }
                _ => {}
            }
            let all = events.iter().map(|(_, count)| count).sum::<i64>();
            engine.check(
                "SELECT count(*), coalesce(sum(count), 0) FROM transactions",
                &format!("{},{all}", events.len()),
            );
            let (from, to) = (now - rng.random_range(0..300), now - rng.random_range(0..100));
            let among = events.iter().filter(|(minute, _)| (from..=to).contains(minute)).count();
            let sql = format!(
                "SELECT count(*) FROM transactions WHERE occurred_at >= '{}' AND occurred_at < '{}'",
                at(from),
                at(to + 1)
            );
            engine.check(&sql, &among.to_string());
        }
    }
}

#[test]
fn only_the_stretch_of_time_that_is_asked_for_is_read() {
    let mut engine = Engine::new(LONG, u64::MAX);
    for hour in 0..4 {
        engine.events(&[(hour * HOUR, 1), (hour * HOUR + 1, 1)]);
        engine.checkpoint();
    }
    // Of the first hour nothing can be read any more.
    let of = engine.fs.list(Path::new(STORE)).unwrap().into_iter().find(|name| name.starts_with("transactions"));
    let path = Path::new(STORE).join(of.unwrap());
    let mut bytes = engine.fs.bytes(&path).unwrap();
    bytes[10] ^= 1;
    engine.fs.put(&path, bytes);
    engine.check(&format!("SELECT count(seen_at) FROM transactions WHERE occurred_at > '{}'", at(HOUR)), "6");
    engine.check(
        &format!("SELECT count(seen_at) FROM transactions WHERE occurred_at BETWEEN '{}' AND '{}'", at(60), at(90)),
        "2",
    );
    engine.check("SELECT count(seen_at) FROM transactions", "6");
    // And merging goes around it.
    engine.events(&[(30 * HOUR, 1)]);
    engine.checkpoint();
    engine.restart();
    engine.check("SELECT count(seen_at) FROM transactions", "7");
}

#[test]
fn a_changed_view_is_built_from_rows_on_disk_and_in_memory() {
    let mut engine = Engine::new(LONG, u64::MAX);
    for minute in 0..200 {
        engine.events(&[(minute, 2), (minute, 3)]);
        if minute % 30 == 0 {
            engine.checkpoint();
        }
    }
    engine.checkpoint();
    engine.check("SELECT sum(n), max(n), count(*) FROM kinds", "1000,5,200");
    engine.plan = plan("max(count)");
    engine.restart();
    engine.check("SELECT sum(n), max(n), count(*) FROM kinds", "600,3,200");
    engine.events(&[(200, 9)]);
    engine.checkpoint();
    engine.restart();
    engine.check("SELECT sum(n), max(n), count(*) FROM kinds", "609,9,201");
}

#[test]
fn rows_leave_by_age_and_old_history_stays() {
    let mut engine = Engine::new(Span::from_minutes(3 * HOUR), u64::MAX);
    engine.events(&[(10 * HOUR, 1)]);
    engine.events(&[(10 * HOUR + 2, 1)]);
    engine.checkpoint();
    // Older than three hours when it came.
    engine.events(&[(0, 1), (1, 1)]);
    engine.checkpoint();
    let rows = "SELECT count(*) FROM transactions";
    engine.check(rows, "4");
    for hour in 11..16 {
        engine.events(&[(hour * HOUR, 1), (hour * HOUR + 5, 1)]);
        engine.events(&[(hour * HOUR + 30, 1)]);
        engine.checkpoint();
        engine.restart();
    }
    // Those of the hours from 12 on, since 12:30 is three hours before the last; and the history.
    engine.check(&format!("{rows} WHERE occurred_at > '{}'", at(5 * HOUR)), "12");
    engine.check(rows, "14");
    // The views keep what they are told to.
    engine.check("SELECT count(*) FROM kinds", "19");
}

#[test]
fn what_has_no_room_goes_oldest_first_and_leaves_no_half_sums() {
    let mut engine = Engine::new(LONG, 40_000);
    let (mut promised, mut kept): (Option<Minute>, usize) = (None, 0);
    for hour in 0..30 {
        for minute in 0..3 {
            engine.events(&[(hour * HOUR + minute, 2), (hour * HOUR + minute, 3)]);
        }
        engine.checkpoint();
        if let Some(before) = promised {
            let oldest = engine.ask("SELECT min(minute) FROM kinds").remove(0);
            assert!(oldest >= before.start().to_string(), "{oldest} is older than {before}");
            kept += 1;
        }
        promised = engine.checkpoints.no_room().map(|no_room| no_room.before);
        if hour % 7 == 0 {
            engine.restart();
            // What was not saved is found out again.
            promised = None;
        }
    }
    assert!(kept > 0, "there was room for everything");
    let oldest = engine.ask("SELECT min(minute) FROM kinds").remove(0);
    let counts = |engine: &Engine| engine.ask("SELECT count(*), min(n), max(n) FROM kinds WHERE sealed");
    let before = counts(&engine);
    // However little room there is, the newest hour stays.
    assert!(oldest > at(0) && oldest <= at(29 * HOUR), "{oldest}");
    let rows = engine.ask(&format!("SELECT count(*) FROM transactions WHERE occurred_at >= '{oldest}'")).remove(0);
    let minutes = engine.ask("SELECT count(*) FROM kinds").remove(0);
    assert_eq!(rows.parse::<u64>().unwrap(), 2 * minutes.parse::<u64>().unwrap());
    // A late event of a minute that had to go is not all that there was in it.
    engine.events(&[(0, 1), (1, 1)]);
    assert_eq!(counts(&engine), before);
    engine.checkpoint();
    engine.restart();
    assert_eq!(engine.ask("SELECT count(*) FROM kinds WHERE n < 5"), ["0"]);
}
