//! Views whose rows stand in a list.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field},
    record_batch::RecordBatch,
};
use tidewatch_model::{EventTime, Fill, Measure, Minute, Span, ViewMeta};
use tidewatch_store::StoreError;

use crate::{Baselines, MinuteTable, QueryError, QueryLimits, Reading, Rows, Scope, TableSnapshot};

/// One row: minute, key, measures.
pub type Row = (i64, &'static str, Option<i64>, f64);

#[derive(Debug)]
pub struct Fake {
    meta: Arc<ViewMeta>,
    rows: Vec<Row>,
    sealed_through: i64,
    /// Minutes that were asked for, added up over all scans.
    pub asked: Arc<AtomicI64>,
}

pub const KEYS: [&str; 6] = ["approved", "denied", "failed", "refunded", "reversed", "backend_reversed"];

impl Fake {
    pub fn new(name: &str, mut rows: Vec<Row>, sealed_through: i64) -> Self {
        let measure = |name: &str, kind, counter| Measure {
            field: Arc::new(Field::new(name, kind, true)),
            counter,
            fills_with_zero: counter,
        };
        let meta = ViewMeta::new(
            name,
            vec![Arc::new(Field::new("status", DataType::Utf8, true))],
            vec![measure("transactions", DataType::Int64, true), measure("latency", DataType::Float64, false)],
            Fill::None,
            Span::from_minutes(1_000_000),
        );
        rows.sort_by_key(|(minute, key, ..)| (*minute, KEYS.iter().position(|known| known == key)));
        Self { meta: Arc::new(meta), rows, sealed_through, asked: Arc::default() }
    }

    /// The same rows in a view that says that gaps read as zero.
    pub fn filling(self) -> Self {
        let meta = ViewMeta::new(
            &self.meta.name,
            self.meta.keys.clone(),
            self.meta.measures.clone(),
            Fill::Zero { horizon: Span::from_minutes(1_440) },
            self.meta.retention,
        );
        Self { meta: Arc::new(meta), ..self }
    }

    fn select(&self, from: Minute, to: Minute, sealed: bool) -> Rows {
        let rows: Vec<&Row> = self
            .rows
            .iter()
            .filter(|(minute, ..)| (from.index()..=to.index()).contains(minute))
            .filter(|(minute, ..)| (*minute <= self.sealed_through) == sealed)
            .collect();
        let minutes: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.0 * 60_000_000)).collect();
        let keys: StringArray = rows.iter().map(|row| Some(row.1)).collect();
        let counts: Int64Array = rows.iter().map(|row| row.2).collect();
        let latencies: Float64Array = rows.iter().map(|row| Some(row.3)).collect();
        let columns: Vec<ArrayRef> = vec![
            Arc::new(minutes.with_timezone("UTC")),
            Arc::new(keys),
            Arc::new(counts),
            Arc::new(latencies),
            Arc::new(BooleanArray::from(vec![sealed; rows.len()])),
        ];
        let series = rows.iter().map(|row| KEYS.iter().position(|key| *key == row.1).unwrap() as u32).collect();
        Rows { batch: RecordBatch::try_new(Arc::clone(self.meta.schema()), columns).unwrap(), series }
    }
}

impl MinuteTable for Fake {
    fn meta(&self) -> &Arc<ViewMeta> {
        &self.meta
    }

    fn sealed_through(&self) -> Option<Minute> {
        Some(Minute::from_index(self.sealed_through))
    }

    fn oldest_sealed(&self) -> Option<Minute> {
        self.oldest().filter(|oldest| oldest.index() <= self.sealed_through)
    }

    fn oldest(&self) -> Option<Minute> {
        self.rows.first().map(|row| Minute::from_index(row.0))
    }

    fn sealed_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        self.asked.fetch_add(to.index() - from.index() + 1, Ordering::SeqCst);
        Ok(self.select(from, to, true))
    }

    fn open_rows(&self, from: Minute, to: Minute) -> Result<Rows, StoreError> {
        Ok(self.select(from, to, false))
    }
}

pub const LIMITS: QueryLimits =
    QueryLimits { memory_bytes: 64 << 20, time: std::time::Duration::from_secs(60), rows: 100_000 };

pub fn reading(views: Vec<Fake>, named: Vec<TableSnapshot>) -> Reading {
    let views = views.into_iter().map(|view| Arc::new(view) as Arc<dyn MinuteTable>);
    Reading::new(views, named, Scope::EVERYTHING, Baselines::none())
}

/// The answer's rows as lines of CSV, without the names.
pub async fn lines(sql: &str, reading: Reading, now: i64) -> Result<Vec<String>, QueryError> {
    let answer = crate::ask(sql, Vec::new(), reading, EventTime::from_micros(now * 60_000_000), LIMITS).await?;
    let schema = answer.schema();
    let batches = crate::collect(answer).await?;
    let text = String::from_utf8(crate::render::to_csv(&schema, &batches)?).unwrap();
    Ok(text.lines().skip(1).map(str::to_owned).collect())
}
