//! The tests of the store on disk: what they share. A history of checkpoints whose content follows from its number.

mod commits;
mod compaction;
mod crashes;
mod damage;
mod fixture;
mod segments;
mod tables;

use std::{path::Path, sync::Arc};

use arrow::{
    array::{Array, AsArray, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, TimeUnit},
};
use tidewatch_log::{FileSystem, MemFs};
use tidewatch_model::{Lsn, Minute};

use crate::{Contents, Folder, FolderError, IdRun, MANIFEST_VERSION, Manifest, Segment, StoredView, in_turn};

const DIR: &str = "/data/store";

/// Segments of the view are kept for so many steps.
const KEPT_STEPS: u64 = 3;

fn dir() -> &'static Path {
    Path::new(DIR)
}

fn open(fs: &MemFs) -> Result<(Folder, Option<Manifest>), FolderError> {
    Folder::open(Arc::new(fs.clone()), dir())
}

fn files(fs: &MemFs) -> Vec<String> {
    fs.list(dir()).unwrap()
}

fn minute(index: u64) -> Minute {
    Minute::from_index(28_000_000 + index as i64)
}

fn contents(from: u64, to: u64) -> Contents {
    Contents { minutes: (minute(from), minute(to)), lsns: (Lsn(from), Lsn(to)), level: 0 }
}

fn schema() -> SchemaRef {
    let minutes = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    Arc::new(Schema::new(vec![
        Field::new("status", DataType::Utf8, false),
        Field::new("minute", minutes, false),
        Field::new("transactions", DataType::Int64, true),
    ]))
}

/// Rows whose last column is these numbers.
fn rows(numbers: &[i64]) -> RecordBatch {
    let words = ["approved", "denied", "failed"];
    let status = StringArray::from_iter_values(numbers.iter().map(|number| words[*number as usize % words.len()]));
    let minutes = numbers.iter().map(|number| minute(*number as u64).start().micros());
    let minutes = TimestampMicrosecondArray::from_iter_values(minutes).with_timezone("UTC");
    let numbers = Int64Array::from(numbers.to_vec());
    RecordBatch::try_new(schema(), vec![Arc::new(status), Arc::new(minutes), Arc::new(numbers)]).unwrap()
}

/// The numbers that `rows` was given.
fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    let columns = batches.iter().map(|batch| batch.column(batch.num_columns() - 1).as_primitive::<Int64Type>());
    columns.flat_map(|column| column.values().to_vec()).collect()
}

fn state(step: u64) -> Vec<u8> {
    format!("state after step {step}").into_bytes()
}

fn ids(step: u64) -> Vec<u8> {
    vec![step as u8; 3 * step as usize]
}

/// The checkpoint `step` (from 1 on), after the one before it: a new state, ids, rows of a view, whose old ones go, and rows
/// of a table, which are merged at every third step.
fn checkpoint(folder: &mut Folder, step: u64) -> Result<(), FolderError> {
    let mut next = Manifest { log_id: 7, applied: Lsn(step), ..Manifest::clone(&folder.manifest()) };
    next.state = Some(folder.write_blob("state", &state(step))?);
    let file = folder.write_blob("ids", &ids(step))?;
    next.id_runs.push(IdRun { file, owner: "live".to_owned(), minutes: (minute(step), minute(step)) });
    next.id_runs.retain(|run| run.minutes.0 >= minute(step.saturating_sub(1)));
    let number = step as i64;
    let view =
        next.views.entry("payments".to_owned()).or_insert(StoredView { fingerprint: u64::MAX, segments: vec![] });
    // Two of the same records, of different minutes.
    for minutes in [step, step + 100] {
        let contents = Contents { lsns: (Lsn(step), Lsn(step)), ..contents(minutes, minutes) };
        view.segments.push(folder.write_segment("payments", &[rows(&[minutes as i64])], contents)?);
    }
    view.segments.retain(|segment| segment.lsns.0.0 + KEPT_STEPS > step);
    let fresh = folder.write_segment("transactions", &[rows(&[number])], contents(step, step))?;
    let table = next.tables.entry("transactions".to_owned()).or_default();
    table.push(fresh);
    if step.is_multiple_of(3) {
        let merged = folder.merge("transactions", table, 1, in_turn)?;
        *table = merged.into_iter().collect();
    }
    folder.commit(next).map(|_| ())
}

/// What `checkpoint` left is there, all of it, and no other file of ours. Returns the step.
fn check_content(folder: &Folder, fs: &MemFs, case: &str) -> u64 {
    let manifest = folder.manifest();
    let step = manifest.applied.0;
    assert!(folder.findings().damaged.is_empty(), "{case}: {:?}", folder.findings());
    let mut named: Vec<String> = manifest.files().map(|(file, _)| file.name.clone()).collect();
    named.push("MANIFEST".to_owned());
    named.sort();
    assert_eq!(files(fs), named, "{case}: files");
    if step == 0 {
        assert!(manifest.is_blank(), "{case}");
        return 0;
    }
    assert_eq!(folder.read_blob(manifest.state.as_ref().unwrap()).unwrap(), state(step), "{case}");
    for run in &manifest.id_runs {
        let of = (run.minutes.0.index() - minute(0).index()) as u64;
        assert_eq!(folder.read_blob(&run.file).unwrap(), ids(of), "{case}");
    }
    let all = |segments: &[Segment]| {
        let batches: Vec<_> = segments.iter().map(|segment| folder.read_segment(segment).unwrap()).collect();
        numbers(&batches.concat())
    };
    let first = (step + 1).saturating_sub(KEPT_STEPS).max(1) as i64;
    let of_view: Vec<i64> = (first..=step as i64).flat_map(|number| [number, number + 100]).collect();
    assert_eq!(all(&manifest.views["payments"].segments), of_view, "{case}: view");
    assert_eq!(all(&manifest.tables["transactions"]), (1..=step as i64).collect::<Vec<_>>(), "{case}: table");
    step
}

/// Four checkpoints, so that there are segments of both levels.
fn small_store() -> MemFs {
    let fs = MemFs::new();
    let (mut folder, _) = open(&fs).unwrap();
    for step in 1..=4 {
        checkpoint(&mut folder, step).unwrap();
    }
    fs
}
