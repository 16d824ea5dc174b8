//! The tables beside the views that people can ask: their shapes, and rows made for them.

use std::sync::Arc;

use arrow::{
    array::{ArrayRef, RecordBatch, StringArray, TimestampMicrosecondArray, UInt32Array, UInt64Array},
    datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit},
};
use tidewatch_alerts::{Outcome, Transition};
use tidewatch_log::Rejected;
use tidewatch_model::{EventTime, Lsn, Minute, StreamSchema};
use tidewatch_query::TableShape;
use tidewatch_rules::Verdict;

use super::{
    damages::FoundDamage,
    revisions::{Change, Revision},
    saved::TABLES,
};

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn schema(fields: &[(&str, DataType)]) -> SchemaRef {
    Arc::new(Schema::new(fields.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect::<Vec<_>>()))
}

/// The tables with rows of the stream's own, in the order of `TABLES`.
pub fn shapes(stream: &StreamSchema) -> [Arc<TableShape>; TABLES.len()] {
    let schemas = [
        (Arc::clone(stream.arrow()), stream.event_time()),
        (rejected_schema(), 0),
        // The reason stands in front.
        (late_schema(stream.arrow()), stream.event_time() + 1),
        (corrections_schema(), 0),
        (verdicts_schema(), 0),
        (alerts_schema(), 0),
        (damages_schema(), 0),
    ];
    let mut names = TABLES.into_iter();
    schemas.map(|(schema, time)| {
        let name = names.next().unwrap_or_default().to_owned();
        Arc::new(TableShape { name, schema, time: Some(time) })
    })
}

pub fn rules_shape() -> Arc<TableShape> {
    Arc::new(TableShape { name: "rules".to_owned(), schema: rules_schema(), time: None })
}

pub fn rejected_schema() -> SchemaRef {
    schema(&[
        ("arrived_at", time()),
        ("lsn", DataType::UInt64),
        ("index", DataType::UInt32),
        ("field", DataType::Utf8),
        ("reason", DataType::Utf8),
        ("event", DataType::Utf8),
    ])
}

/// The stream's own columns with the reason in front.
pub fn late_schema(stream: &SchemaRef) -> SchemaRef {
    let mut fields = vec![Arc::new(Field::new("reason", DataType::Utf8, true))];
    fields.extend(stream.fields().iter().cloned());
    Arc::new(Schema::new(fields))
}

pub fn corrections_schema() -> SchemaRef {
    schema(&[
        ("minute", time()),
        ("view", DataType::Utf8),
        ("keys", DataType::UInt64),
        ("lsn", DataType::UInt64),
        ("cause", DataType::Utf8),
    ])
}

pub fn verdicts_schema() -> SchemaRef {
    schema(&[
        ("minute", time()),
        ("rule", DataType::Utf8),
        ("outcome", DataType::Utf8),
        ("severity", DataType::Utf8),
        ("labels", DataType::Utf8),
        ("measures", DataType::Utf8),
        ("summary", DataType::Utf8),
    ])
}

pub fn alerts_schema() -> SchemaRef {
    schema(&[
        ("minute", time()),
        ("rule", DataType::Utf8),
        ("severity", DataType::Utf8),
        ("event", DataType::Utf8),
        ("state", DataType::Utf8),
        ("labels", DataType::Utf8),
        ("measures", DataType::Utf8),
        ("summary", DataType::Utf8),
        ("first_minute", time()),
        ("withheld", DataType::Utf8),
        ("key", DataType::Utf8),
    ])
}

pub fn damages_schema() -> SchemaRef {
    schema(&[
        ("found_at", time()),
        ("kind", DataType::Utf8),
        ("file", DataType::Utf8),
        ("at_byte", DataType::UInt64),
        ("bytes", DataType::UInt64),
        ("view", DataType::Utf8),
        ("first_lsn", DataType::UInt64),
        ("last_lsn", DataType::UInt64),
        ("records", DataType::UInt64),
        ("rows", DataType::UInt64),
        ("minute_from", time()),
        ("minute_to", time()),
        ("reason", DataType::Utf8),
        ("quarantined_as", DataType::Utf8),
    ])
}

pub fn rules_schema() -> SchemaRef {
    schema(&[
        ("name", DataType::Utf8),
        ("severity", DataType::Utf8),
        ("file", DataType::Utf8),
        ("sql", DataType::Utf8),
        ("error", DataType::Utf8),
    ])
}

fn times(values: impl Iterator<Item = i64>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter_values(values).with_timezone("UTC"))
}

fn texts<T: AsRef<str>>(values: impl Iterator<Item = Option<T>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

/// Columns made to a schema of this file; should they not fit, the table has no such rows rather than a panic.
fn rows(schema: SchemaRef, columns: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::clone(&schema), columns).unwrap_or_else(|_| RecordBatch::new_empty(schema))
}

pub fn rejected_rows(arrived_at: EventTime, lsn: Lsn, rejected: &[Rejected]) -> RecordBatch {
    let count = rejected.len();
    rows(
        rejected_schema(),
        vec![
            times(std::iter::repeat_n(arrived_at.micros(), count)),
            Arc::new(UInt64Array::from_value(lsn.0, count)),
            Arc::new(UInt32Array::from_iter_values(rejected.iter().map(|r| r.index))),
            texts(rejected.iter().map(|r| (!r.field.is_empty()).then_some(&r.field))),
            texts(rejected.iter().map(|r| Some(&r.reason))),
            texts(rejected.iter().map(|r| Some(&r.event))),
        ],
    )
}

pub fn late_rows(schema: &SchemaRef, reason: &str, late: &RecordBatch) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec![reason; late.num_rows()]))];
    columns.extend(late.columns().iter().cloned());
    rows(Arc::clone(schema), columns)
}

pub fn correction_row(minute: Minute, view: &str, keys: usize, lsn: Lsn, cause: &str) -> RecordBatch {
    rows(
        corrections_schema(),
        vec![
            times(std::iter::once(minute.start().micros())),
            texts(std::iter::once(Some(view))),
            Arc::new(UInt64Array::from(vec![keys as u64])),
            Arc::new(UInt64Array::from(vec![lsn.0])),
            texts(std::iter::once(Some(cause))),
        ],
    )
}

/// One row for each row of a verdict, one for a quiet or failed verdict: each rule is seen to judge each minute.
pub fn verdict_rows(verdicts: &[Verdict]) -> RecordBatch {
    let mut columns: [Vec<Option<String>>; 6] = Default::default();
    let mut minutes = Vec::new();
    for verdict in verdicts {
        let mut push = |cells: [Option<String>; 5]| {
            minutes.push(verdict.minute.start().micros());
            let [rule, rest @ ..] = &mut columns;
            rule.push(Some(verdict.rule.clone()));
            rest.iter_mut().zip(cells).for_each(|(column, cell)| column.push(cell));
        };
        match &verdict.outcome {
            Outcome::Failed { reason } => push([Some("failed".to_owned()), None, None, None, Some(reason.clone())]),
            Outcome::Rows(found) if found.is_empty() => push([Some("quiet".to_owned()), None, None, None, None]),
            Outcome::Rows(found) => found.iter().for_each(|row| {
                push([
                    Some(if row.warming_up { "warming up" } else { "matched" }.to_owned()),
                    Some(row.severity.to_string()),
                    serde_json::to_string(&row.labels).ok(),
                    Some(values_text(&row.values)),
                    Some(row.summary.clone()),
                ]);
            }),
        }
    }
    let mut arrays = vec![times(minutes.into_iter())];
    arrays.extend(columns.into_iter().map(|column| texts(column.into_iter())));
    rows(verdicts_schema(), arrays)
}

/// What a correction changed in a minute's verdict.
pub fn revision_rows(revision: &Revision) -> RecordBatch {
    let text = |of: &dyn Fn(&Change) -> Option<String>| texts(revision.changes.iter().map(of));
    let outcome = |change: &Change| if change.would_have_fired { "would have fired" } else { "would not have fired" };
    rows(
        verdicts_schema(),
        vec![
            times(revision.changes.iter().map(|_| revision.minute.start().micros())),
            text(&|change| Some(change.rule.clone())),
            text(&|change| Some(outcome(change).to_owned())),
            text(&|change| Some(change.severity.to_string())),
            text(&|change| serde_json::to_string(&change.labels).ok()),
            text(&|_| None),
            text(&|change| Some(change.summary.clone())),
        ],
    )
}

/// Values as JSON text; numbers that JSON does not have are text in it.
fn values_text(values: &std::collections::BTreeMap<String, f64>) -> String {
    let value = |v: &f64| if v.is_finite() { serde_json::json!(v) } else { serde_json::json!(v.to_string()) };
    let object: serde_json::Map<String, serde_json::Value> =
        values.iter().map(|(k, v)| (k.clone(), value(v))).collect();
    serde_json::Value::Object(object).to_string()
}

pub fn transition_rows(transitions: &[Transition]) -> RecordBatch {
    let text = |of: &dyn Fn(&Transition) -> Option<String>| texts(transitions.iter().map(of));
    rows(
        alerts_schema(),
        vec![
            times(transitions.iter().map(|t| t.minute.start().micros())),
            text(&|t| Some(t.rule.clone())),
            text(&|t| Some(t.severity.to_string())),
            text(&|t| Some(t.kind.to_string())),
            text(&|t| Some(t.to.phase().to_string())),
            text(&|t| serde_json::to_string(&t.labels).ok()),
            text(&|t| Some(values_text(&t.values))),
            text(&|t| Some(t.summary.clone())),
            times(transitions.iter().map(|t| t.first_minute.start().micros())),
            text(&|t| t.withheld().map(|why| why.to_string())),
            text(&|t| Some(t.key.to_string())),
        ],
    )
}

pub fn damage_row(damage: &FoundDamage) -> RecordBatch {
    let number = |value: Option<u64>| Arc::new(UInt64Array::from(vec![value])) as ArrayRef;
    let text = |value: Option<&str>| texts(std::iter::once(value));
    let minute = |value: Option<Minute>| {
        let micros = value.map(|minute| minute.start().micros());
        Arc::new(TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC")) as ArrayRef
    };
    rows(
        damages_schema(),
        vec![
            times(std::iter::once(damage.found_at.micros())),
            text(Some(damage.part.text())),
            text(Some(&damage.file)),
            number(damage.offset),
            number(damage.bytes),
            text(damage.of.as_deref()),
            number(damage.lsns.map(|(first, _)| first.0)),
            number(damage.lsns.map(|(_, last)| last.0)),
            number(damage.records),
            number(damage.rows),
            minute(damage.minutes.0),
            minute(damage.minutes.1),
            text(Some(&damage.reason)),
            text(damage.quarantined_as.as_deref()),
        ],
    )
}

pub fn rule_rows(rules: &tidewatch_rules::RuleSet) -> RecordBatch {
    let cells = rules
        .rules()
        .iter()
        .map(|rule| {
            let header = rule.header();
            let file = rule.file();
            [
                Some(rule.name().to_owned()),
                Some(header.severity.to_string()),
                Some(file.path.clone()),
                Some(file.sql.clone()),
                None,
            ]
        })
        .chain(
            rules.broken().iter().map(|broken| [None, None, Some(broken.file.clone()), None, Some(broken.to_string())]),
        );
    let mut columns: [Vec<Option<String>>; 5] = Default::default();
    for row in cells {
        columns.iter_mut().zip(row).for_each(|(column, cell)| column.push(cell));
    }
    rows(rules_schema(), columns.into_iter().map(|column| texts(column.into_iter())).collect())
}
