//! Made-up views under the shipped names, and the shipped rules.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use tidewatch_model::{Fill, Measure, Minute, Span, ViewMeta};
use tidewatch_query::{Baselines, Catalog, ListedView, MinuteTable, Reading, Scope, TableShape};

use crate::RuleSet;

pub const STATUSES: [&str; 6] = ["approved", "denied", "failed", "refunded", "reversed", "backend_reversed"];
pub const REGIONS: [&str; 3] = ["us-east", "eu", "apac"];

fn measure(name: &str, kind: DataType, counter: bool) -> Measure {
    Measure { field: Arc::new(Field::new(name, kind, true)), counter, fills_with_zero: counter }
}

fn view(name: &str, keys: &[&str], measures: Vec<Measure>) -> Arc<ViewMeta> {
    let keys = keys.iter().map(|key| Arc::new(Field::new(*key, DataType::Utf8, true))).collect();
    Arc::new(ViewMeta::new(name, keys, measures, Fill::None, Span::from_minutes(1_000_000)))
}

pub fn by_status() -> Arc<ViewMeta> {
    view("payments_by_status", &["status"], vec![measure("transactions", DataType::Int64, true)])
}

pub fn by_region() -> Arc<ViewMeta> {
    view("payments_by_region", &["region"], vec![measure("transactions", DataType::Int64, true)])
}

pub fn latency() -> Arc<ViewMeta> {
    let measures =
        vec![measure("transactions", DataType::Int64, true), measure("latency_p95_us", DataType::Float64, false)];
    view("payments_latency", &[], measures)
}

/// Both keys at once, for what is added up.
pub fn both() -> Arc<ViewMeta> {
    view("payments", &["status", "region"], vec![measure("transactions", DataType::Int64, true)])
}

pub fn catalog() -> Catalog {
    let raw: SchemaRef = Arc::new(Schema::new(vec![Field::new("status", DataType::Utf8, false)]));
    let alerts: SchemaRef = Arc::new(Schema::new(vec![Field::new("rule", DataType::Utf8, false)]));
    let shape = |name: &str, schema| Arc::new(TableShape { name: name.to_owned(), schema, time: None });
    Catalog::new([by_status(), by_region(), latency(), both()], [shape("transactions", raw), shape("alerts", alerts)])
}

/// A row: minute, keys, measures.
pub struct Row {
    pub minute: i64,
    pub keys: Vec<&'static str>,
    pub transactions: Option<i64>,
    pub p95: f64,
}

pub fn row(minute: i64, keys: &[&'static str], transactions: i64) -> Row {
    Row { minute, keys: keys.to_vec(), transactions: Some(transactions), p95: 0.0 }
}

pub fn listed(meta: &Arc<ViewMeta>, rows: &[Row], sealed_through: i64) -> Arc<dyn MinuteTable> {
    let minutes: TimestampMicrosecondArray = rows.iter().map(|row| Some(row.minute * 60_000_000)).collect();
    let mut columns: Vec<ArrayRef> = vec![Arc::new(minutes.with_timezone("UTC"))];
    for at in 0..meta.keys.len() {
        columns.push(Arc::new(rows.iter().map(|row| Some(row.keys[at])).collect::<StringArray>()));
    }
    columns.push(Arc::new(rows.iter().map(|row| row.transactions).collect::<Int64Array>()));
    if meta.measures.len() > 1 {
        columns.push(Arc::new(rows.iter().map(|row| Some(row.p95)).collect::<Float64Array>()));
    }
    let sealed: BooleanArray = rows.iter().map(|row| Some(row.minute <= sealed_through)).collect();
    columns.push(Arc::new(sealed));
    let batch = RecordBatch::try_new(Arc::clone(meta.schema()), columns).unwrap();
    Arc::new(ListedView::new(Arc::clone(meta), &batch, Minute::from_index(sealed_through)).unwrap())
}

/// All views; those that are not given are empty.
pub fn reading(given: Vec<Arc<dyn MinuteTable>>) -> Reading {
    let mut views = given;
    for meta in [by_status(), by_region(), latency(), both()] {
        if !views.iter().any(|view| view.meta().name == meta.name) {
            let sealed = views.first().and_then(|view| view.sealed_through()).map_or(0, Minute::index);
            views.push(listed(&meta, &[], sealed));
        }
    }
    Reading::new(views, [], Scope::EVERYTHING, Baselines::shared())
}

/// The same tables with nothing remembered: for another minute.
pub fn fresh(tables: &Reading) -> Reading {
    Reading::new(tables.views().cloned(), tables.named_tables().cloned(), tables.scope(), Baselines::shared())
}

pub fn shipped() -> Vec<(String, String)> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../queries/rules");
    let mut files: Vec<(String, String)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sql"))
        .map(|path| (path.display().to_string(), std::fs::read_to_string(&path).unwrap()))
        .collect();
    files.sort();
    files
}

pub fn rule(name: &str, header: &str, sql: &str) -> (String, String) {
    let lookback = if header.contains("lookback") { "" } else { "lookback = \"60 minutes\"\n" };
    let text = format!("/*\nname = \"{name}\"\nseverity = \"low\"\n{lookback}{header}\n*/\n{sql}\n");
    (format!("{name}.sql"), text)
}

/// Loads rules that must all be whole.
pub fn load(files: Vec<(String, String)>) -> RuleSet {
    let set = RuleSet::load(files, &catalog());
    assert!(set.broken().is_empty(), "{:?}", set.broken());
    set
}
