//! The batch engine's answer, and the comparison of two sets of rows.

use std::{collections::BTreeMap, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, RecordBatch, StructArray},
    compute,
    datatypes::{Float64Type, SchemaRef},
    util::display::{ArrayFormatter, FormatOptions},
};
use datafusion::{datasource::MemTable, prelude::SessionContext};
use tidewatch_views::functions;
use tokio::runtime::{Builder, Runtime};

use super::views::Check;

/// DataFusion with the views' functions, over a table of events.
pub struct Batch {
    session: SessionContext,
    runtime: Runtime,
}

impl Batch {
    pub fn new() -> Self {
        // DataFusion 55's optimiser and planner differ on whether a common `coalesce` may be NULL, and a check of theirs
        // then refuses the query. The check says nothing of the rows, so it is left out.
        let config = functions::session_config()
            .with_target_partitions(1)
            .set_bool("datafusion.execution.skip_physical_aggregate_schema_check", true);
        let session = SessionContext::new_with_config(config);
        functions::register(&session);
        Self { session, runtime: Builder::new_current_thread().build().unwrap() }
    }

    /// Puts the events in place that the next questions are about.
    pub fn load(&self, events: RecordBatch) {
        let table = MemTable::try_new(events.schema(), vec![vec![events]]).unwrap();
        let _ = self.session.deregister_table("events").unwrap();
        let _ = self.session.register_table("events", Arc::new(table)).unwrap();
    }

    pub fn ask(&self, select: &str) -> Result<RecordBatch, String> {
        let answer = self.runtime.block_on(async {
            let frame = self.session.sql(select).await?;
            let schema: SchemaRef = Arc::clone(frame.schema().inner());
            Ok((schema, frame.collect().await?))
        });
        let (schema, batches) =
            answer.map_err(|error: datafusion::error::DataFusionError| format!("the batch engine: {error}"))?;
        let schema = batches.first().map_or(schema, |batch| batch.schema());
        compute::concat_batches(&schema, &batches).map_err(|error| error.to_string())
    }
}

/// Compares a view's rows with the batch engine's, both as [minute, keys…, measures…]; the number of rows compared.
pub fn compare(ours: &RecordBatch, batch: &RecordBatch, keys: usize, checks: &[Check]) -> Result<u64, String> {
    let (mine, theirs) = (rows_by_key(ours, keys)?, rows_by_key(batch, keys)?);
    if let Some(key) = mine.keys().find(|key| !theirs.contains_key(*key)) {
        return Err(format!("the view has a row {key:?} that the batch engine has not"));
    }
    if let Some(key) = theirs.keys().find(|key| !mine.contains_key(*key)) {
        return Err(format!("the view lacks the row {key:?}"));
    }
    for (at, check) in checks.iter().enumerate() {
        let column = 1 + keys + at;
        let (a, b) = (ours.column(column), batch.column(column));
        if a.data_type() != b.data_type() {
            return Err(format!("measure_{at} is {} and not {}", a.data_type(), b.data_type()));
        }
        for (key, row) in &mine {
            let other = theirs[key];
            if !same(*check, a, *row, b, other)? {
                let (a, b) = (shown(a, *row)?, shown(b, other)?);
                return Err(format!("measure_{at} of {key:?} is {a}; the batch engine says {b} ({check:?})"));
            }
        }
    }
    Ok(mine.len() as u64)
}

fn shown(array: &ArrayRef, row: usize) -> Result<String, String> {
    let options = FormatOptions::new().with_null("NULL").with_display_error(false);
    let formatter = ArrayFormatter::try_new(array, &options).map_err(|error| error.to_string())?;
    formatter.value(row).try_to_string().map_err(|error| error.to_string())
}

/// Each row by its minute and keys; a key that stands twice is an error of its own.
fn rows_by_key(batch: &RecordBatch, keys: usize) -> Result<BTreeMap<Vec<String>, usize>, String> {
    let options = FormatOptions::new().with_null("NULL").with_display_error(false);
    let columns = batch.columns().iter().take(1 + keys);
    let formatters: Vec<ArrayFormatter<'_>> = columns
        .map(|array| ArrayFormatter::try_new(array, &options))
        .collect::<Result<_, _>>()
        .map_err(|e| e.to_string())?;
    let mut rows = BTreeMap::new();
    for row in 0..batch.num_rows() {
        let cells = formatters.iter().map(|formatter| formatter.value(row).try_to_string());
        let key: Vec<String> = cells.collect::<Result<_, _>>().map_err(|error| error.to_string())?;
        if rows.insert(key.clone(), row).is_some() {
            return Err(format!("the row {key:?} stands twice"));
        }
    }
    Ok(rows)
}

fn near(a: f64, b: f64, beside: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-12 * (a.abs().max(b.abs()) + beside)
}

fn same(check: Check, a: &ArrayRef, row: usize, b: &ArrayRef, other: usize) -> Result<bool, String> {
    if a.is_null(row) != b.is_null(other) {
        return Ok(false);
    }
    if a.is_null(row) {
        return Ok(true);
    }
    let floats = || {
        let (a, b) = (a.as_primitive_opt::<Float64Type>()?, b.as_primitive_opt::<Float64Type>()?);
        Some((a.value(row), b.value(other)))
    };
    Ok(match check {
        Check::Exact => a.slice(row, 1).to_data() == b.slice(other, 1).to_data(),
        Check::Histogram => same_histogram(a.as_struct(), row, b.as_struct(), other),
        Check::Near | Check::Variance(_) | Check::Deviation(_) => {
            let (a, b) = floats().ok_or("a measure that should be a float is none")?;
            match check {
                Check::Variance(bound) => near(a, b, bound * bound),
                Check::Deviation(bound) => near(a * a, b * b, bound * bound),
                _ => near(a, b, 0.0),
            }
        }
    })
}

/// The second column is the sum of the values.
fn same_histogram(a: &StructArray, row: usize, b: &StructArray, other: usize) -> bool {
    a.columns().iter().zip(b.columns()).enumerate().all(|(at, (a, b))| match at {
        1 => near(a.as_primitive::<Float64Type>().value(row), b.as_primitive::<Float64Type>().value(other), 0.0),
        _ => a.slice(row, 1).to_data() == b.slice(other, 1).to_data(),
    })
}
