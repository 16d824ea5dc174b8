//! Gap filling against a model that is a map: random minutes, empty ones, gaps, corrections into older hours, sessions
//! that bring minutes from before live traffic; in memory, on disk, and restored from there; read over random ranges.
//! `TIDEWATCH_SEED` replays one case.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{Int64Type, TimestampMicrosecondType},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use tidewatch_log::MemFs;
use tidewatch_model::Minute;
use tidewatch_views::{Groups, PartialRows, Stream, View, compile_stream, compile_view};

use crate::{Cold, Contents, Folder, Head, Manifest, Rows, Snapshot, ViewFrames};

const KEYS: i64 = 6;

/// Events, their sum, and the least of them.
type Values = (i64, i64, Option<i64>);

pub(crate) fn stream() -> Stream {
    let sql = "CREATE TABLE events (at TIMESTAMP NOT NULL, name TEXT, amount BIGINT) WITH (event_time = 'at')";
    compile_stream("events.sql", sql).unwrap()
}

fn view(stream: &Stream, horizon: i64, retention: i64) -> Arc<View> {
    let sql = format!(
        "CREATE MATERIALIZED VIEW v WITH (fill = 'zero', fill_horizon = '{horizon}m', retention = '{retention}m') AS
         SELECT date_trunc('minute', at) AS minute, name, count(*) AS events, sum(amount) AS total, min(amount) AS least
         FROM events GROUP BY ALL"
    );
    Arc::new(compile_view(stream, "v.sql", &sql).unwrap())
}

/// The partial rows of a minute with these events.
pub(crate) fn partial(stream: &Stream, view: &Arc<View>, minute: i64, events: &[(i64, i64)]) -> PartialRows {
    let at = Minute::from_index(minute);
    let mut groups = Groups::new(Arc::clone(view)).unwrap();
    if !events.is_empty() {
        let times = TimestampMicrosecondArray::from_value(at.start().micros(), events.len()).with_timezone("UTC");
        let keys = StringArray::from_iter_values(events.iter().map(|(key, _)| format!("k{key}")));
        let values = Int64Array::from_iter_values(events.iter().map(|(_, value)| *value));
        let columns: Vec<arrow::array::ArrayRef> = vec![Arc::new(times), Arc::new(keys), Arc::new(values)];
        let rows = RecordBatch::try_new(Arc::clone(stream.schema.arrow()), columns).unwrap();
        groups.absorb(&rows, &vec![minute; events.len()]);
    }
    groups.seal(at)
}

/// The number of the minute of each row.
pub(crate) fn minutes(rows: &RecordBatch) -> Vec<i64> {
    let times = rows.column_by_name("minute").unwrap().as_primitive::<TimestampMicrosecondType>();
    times.values().iter().map(|time| time / 60_000_000).collect()
}

/// What should be in the store.
#[derive(Default)]
struct Model {
    minutes: BTreeMap<i64, BTreeMap<i64, Values>>,
    horizon: i64,
}

impl Model {
    fn add(&mut self, minute: i64, events: &[(i64, i64)]) {
        let keys = self.minutes.entry(minute).or_default();
        for (key, value) in events {
            let (count, total, least) = keys.entry(*key).or_default();
            *count += 1;
            *total += value;
            *least = Some(least.map_or(*value, |least| least.min(*value)));
        }
    }

    fn seen_within(&self, key: i64, minute: i64) -> bool {
        self.minutes.range(minute - self.horizon..minute).any(|(_, keys)| keys.contains_key(&key))
    }

    fn rows(&self, from: i64, to: i64) -> BTreeMap<(i64, String), Values> {
        let mut rows = BTreeMap::new();
        for (minute, keys) in self.minutes.range(from..=to) {
            for key in 0..KEYS {
                match keys.get(&key) {
                    Some(values) => rows.insert((*minute, format!("k{key}")), *values),
                    None if self.seen_within(key, *minute) => rows.insert((*minute, format!("k{key}")), (0, 0, None)),
                    None => None,
                };
            }
        }
        rows
    }
}

fn read(rows: &Rows) -> BTreeMap<(i64, String), Values> {
    let batch = &rows.batch;
    let minutes = batch.column(0).as_primitive::<TimestampMicrosecondType>();
    let keys = batch.column(1).as_string::<i32>();
    let [events, total, least] = [2, 3, 4].map(|column| batch.column(column).as_primitive::<Int64Type>());
    let order: Vec<(i64, u32)> = minutes.values().iter().copied().zip(rows.series.iter().copied()).collect();
    assert!(order.windows(2).all(|pair| pair[0] < pair[1]), "rows are in order of minute and series, each once");
    assert!(!events.is_nullable() && !total.is_nullable(), "counts and sums are filled with zero");
    let row = |row: usize| {
        let minute = minutes.value(row) / 60_000_000;
        let least = least.is_valid(row).then(|| least.value(row));
        ((minute, keys.value(row).to_owned()), (events.value(row), total.value(row), least))
    };
    (0..batch.num_rows()).map(row).collect()
}

/// A store on a disk in memory, with what a checkpoint would have beside the rows.
struct Disk {
    folder: Folder,
    cold: Cold,
    frames: ViewFrames,
}

impl Disk {
    fn new(view: &Arc<View>, cache_bytes_max: usize) -> Self {
        let (folder, _) = Folder::open(Arc::new(MemFs::new()), Path::new("/store")).unwrap();
        let cold = Cold::new(folder.files().clone(), folder.manifest(), cache_bytes_max);
        Self { folder, cold, frames: ViewFrames::new(Arc::clone(view)).unwrap() }
    }

    /// Writes what is new, and tells the head so.
    fn save(&mut self, head: &mut Head) {
        let unsaved = head.take_unsaved();
        let mut next = Manifest::clone(&self.folder.manifest());
        let lsn = next.applied.next();
        next.applied = lsn;
        let name = self.frames.name().to_owned();
        let stored = next.views.entry(name).or_default();
        stored.fingerprint = self.frames.fingerprint();
        let rows = &unsaved.views[0];
        if let Some(frame) = self.frames.write(rows.iter().map(AsRef::as_ref)).unwrap() {
            let minutes = rows.iter().map(|rows| rows.minute());
            let minutes = (minutes.clone().min().unwrap(), minutes.max().unwrap());
            let contents = Contents { minutes, lsns: (lsn, lsn), level: 0 };
            stored.segments.push(self.folder.write_segment("v", &[frame], contents).unwrap());
        }
        let manifest = self.folder.commit(next).unwrap();
        self.cold = self.cold.with_manifest(manifest);
        head.saved(unsaved.save, &self.cold);
    }

    /// The head as a restart finds it. What was seen goes into a frame and back.
    fn restored(
        &mut self,
        head: &mut Head,
        view: &Arc<View>,
        bytes_max: usize,
        sealed: impl Fn(Minute) -> bool,
    ) -> Head {
        self.save(head);
        let held = head.held().remove(0);
        let seen = head.seen().remove(0).map(|seen| {
            let frame = self.frames.write_seen(&seen).unwrap();
            let read = self.frames.read_seen(seen.hour, &frame).unwrap();
            assert_eq!(read, seen);
            read
        });
        let mut again = Head::new(std::slice::from_ref(view), bytes_max).unwrap();
        again.restore(0, &held, seen.as_ref(), sealed).unwrap();
        self.cold = Cold::new(self.folder.files().clone(), self.folder.manifest(), 1 << 20);
        again.saved(0, &self.cold);
        assert_eq!(again.held(), head.held());
        assert_eq!(again.bytes(), 0, "nothing is read before somebody asks");
        again
    }
}

/// How many filled rows were read.
fn check(seed: u64) -> usize {
    let mut rng = StdRng::seed_from_u64(seed);
    let stream = stream();
    let horizon = *[1, 3, 20, 59, 60, 61, 90, 180].iter().choose(&mut rng).unwrap();
    let view = view(&stream, horizon, 100_000);
    // With little memory, what is saved is read back from disk.
    let bytes_max = *[0, 4_000, usize::MAX].iter().choose(&mut rng).unwrap();
    let mut head = Head::new(std::slice::from_ref(&view), bytes_max).unwrap();
    let mut disk = Disk::new(&view, *[0, 2_000, 1 << 20].iter().choose(&mut rng).unwrap());
    // Time begins before anything is stored, so that everything that grows old was seen to.
    head.retain(Minute::from_index(0).start());
    let start = 29_000_000 + rng.random_range(0..60);
    let mut model = Model { horizon, ..Model::default() };
    let mut next = start;
    let (mut filled, mut before) = (0, None);
    for _ in 0..rng.random_range(5..120) {
        let minute = match rng.random_range(0..100) {
            0..60 => next,
            60..65 => next + rng.random_range(1..300),
            65..80 => model.minutes.keys().copied().choose(&mut rng).unwrap_or(next),
            80..90 => next - rng.random_range(0..horizon * 3),
            _ => start - rng.random_range(0..500),
        };
        next = next.max(minute + 1);
        let count = rng.random_range(0..4);
        let events: Vec<(i64, i64)> =
            (0..count).map(|_| (rng.random_range(0..KEYS), rng.random_range(-9..10))).collect();
        model.add(minute, &events);
        head.add(0, partial(&stream, &view, minute, &events)).unwrap();
        match rng.random_range(0..20) {
            0..2 => {
                head = disk.restored(&mut head, &view, bytes_max, |minute| model.minutes.contains_key(&minute.index()));
            }
            2..6 => disk.save(&mut head),
            _ => {}
        }
        let (from, to) = match rng.random_range(0..3) {
            0 => (0, 100_000_000),
            1 => (next - 60, next),
            _ => {
                let from = start + rng.random_range(-600..600);
                (from, from + rng.random_range(0..400))
            }
        };
        let snapshot = head.snapshot();
        let rows = snapshot.views()[0].sealed_rows(Minute::from_index(from), Minute::from_index(to)).unwrap();
        let (ours, wanted) = (read(&rows), model.rows(from, to));
        assert_eq!(ours, wanted, "seed {seed} (TIDEWATCH_SEED): {from} to {to}, horizon {horizon}");
        // What a reader holds stays as it was, whatever became of the hours since.
        if let Some((snapshot, range, rows)) = before.take_if(|_| rng.random_bool(0.3)) {
            let (snapshot, (from, to)): (Snapshot, (i64, i64)) = (snapshot, range);
            let again = snapshot.views()[0].sealed_rows(Minute::from_index(from), Minute::from_index(to)).unwrap();
            assert_eq!(read(&again), rows, "seed {seed} (TIDEWATCH_SEED): an older snapshot, {from} to {to}");
        }
        before.get_or_insert((snapshot, (from, to), ours));
        filled += wanted.values().filter(|values| values.0 == 0).count();
    }
    filled
}

#[test]
fn gaps_are_filled_as_a_map_of_minutes_says() {
    let replayed = std::env::var("TIDEWATCH_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = replayed.map_or(0..300, |seed: u64| seed..seed + 1);
    println!("seeds {seeds:?}");
    let filled: usize = seeds.clone().map(check).sum();
    assert!(replayed.is_some() || filled > 10_000, "too little was filled to prove anything: {filled}");
}

#[test]
fn a_snapshot_does_not_change() {
    let stream = stream();
    let view = view(&stream, 60, 1_000);
    let mut head = Head::new(std::slice::from_ref(&view), usize::MAX).unwrap();
    let all = (Minute::from_index(0), Minute::from_index(1_000_000));
    head.add(0, partial(&stream, &view, 1_000, &[(1, 5)])).unwrap();
    head.add(0, partial(&stream, &view, 1_001, &[])).unwrap();
    let before = head.snapshot();
    let rows = read(&before.views()[0].sealed_rows(all.0, all.1).unwrap());
    // A correction to the same minute, a new key before it, and one minute more.
    for (minute, events) in [(1_000, [(1, 7)]), (999, [(2, 1)]), (1_002, [(3, 3)])] {
        head.add(0, partial(&stream, &view, minute, &events)).unwrap();
    }
    assert_eq!(read(&before.views()[0].sealed_rows(all.0, all.1).unwrap()), rows);
    let after = read(&head.snapshot().views()[0].sealed_rows(all.0, all.1).unwrap());
    assert_eq!(after.get(&(1_000, "k1".to_owned())), Some(&(2, 12, Some(5))));
    assert_eq!(after.get(&(1_001, "k2".to_owned())), Some(&(0, 0, None)));
}

#[test]
fn history_that_was_old_when_it_came_stays_and_what_grows_old_goes() {
    let stream = stream();
    let view = view(&stream, 60, 120);
    let mut head = Head::new(std::slice::from_ref(&view), usize::MAX).unwrap();
    let held = |head: &Head| -> Vec<i64> {
        let rows =
            head.snapshot().views()[0].sealed_rows(Minute::from_index(0), Minute::from_index(100_000)).unwrap().batch;
        let minutes = rows.column(0).as_primitive::<TimestampMicrosecondType>().values().to_vec();
        minutes.into_iter().map(|micros| micros / 60_000_000).collect()
    };
    let add = |head: &mut Head, minute| {
        head.add(0, partial(&stream, &view, minute, &[(1, 1)])).unwrap();
    };
    add(&mut head, 60_000);
    head.retain(Minute::from_index(60_001).start());
    add(&mut head, 600);
    head.retain(Minute::from_index(60_100).start());
    assert_eq!(held(&head), [600, 60_000]);
    let mut disk = Disk::new(&view, 1 << 20);
    let mut head = disk.restored(&mut head, &view, usize::MAX, |minute| [600, 60_000].contains(&minute.index()));
    assert_eq!(held(&head), [600, 60_000]);
    head.retain(Minute::from_index(60_300).start());
    assert_eq!(held(&head), [600]);
}
