//! Whole files: broken rows with their lines, the same data through all three formats, and real data.

mod broken_rows;
mod round_trip;
mod shared_data;

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arrow::{array::RecordBatch, compute::concat_batches};
use tidewatch_model::{StreamSchema, transactions};

use crate::{BrokenRow, FileSource, MappingSpec, SourceError, SourceOptions};

pub(crate) fn stream() -> Arc<StreamSchema> {
    Arc::new(transactions().unwrap())
}

/// A file that is gone when the test is.
struct TempFile(PathBuf);

impl TempFile {
    fn new(ending: &str, bytes: &[u8]) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name =
            format!("tidewatch-sources-{}-{}.{ending}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, bytes).unwrap();
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn options(map: &str, set: &str, attributes: Option<&str>) -> SourceOptions {
    let mapping = MappingSpec::parse(&[map.to_owned()], &[set.to_owned()], attributes).unwrap();
    SourceOptions { mapping, ..SourceOptions::default() }
}

/// Everything that a file holds.
struct Whole {
    events: RecordBatch,
    rows: Vec<u64>,
    lines: Vec<u64>,
    broken: Vec<BrokenRow>,
}

fn read(path: &Path, options: &SourceOptions) -> Result<Whole, SourceError> {
    let schema = stream();
    let (mut batches, mut rows, mut lines, mut broken) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for batch in FileSource::open(path, &schema, options)? {
        let mut batch = batch?;
        batches.push(batch.events);
        rows.append(&mut batch.rows);
        lines.append(&mut batch.lines);
        broken.append(&mut batch.broken);
    }
    let events = concat_batches(schema.arrow(), &batches).unwrap();
    Ok(Whole { events, rows, lines, broken })
}
