//! What the person who started the demo sees: a line a sealed minute, a line an alert.

use arrow::{
    array::{Array, AsArray, RecordBatch},
    datatypes::{Float64Type, Int64Type},
};
use tidewatch_alerts::{Kind, Transition};
use tidewatch_model::{Minute, Severity};
use tidewatch_store::{Snapshot, ViewSnapshot};

pub struct Screen {
    colour: bool,
}

/// Widest bar of the volume.
const BAR: usize = 24;

impl Screen {
    pub fn new(colour: bool) -> Self {
        Self { colour }
    }

    pub fn head(&self) {
        println!("minute  transactions  approved  denied  failed     p95  volume");
    }

    /// One sealed minute.
    pub fn minute(&self, minute: Minute, snapshot: &Snapshot) {
        let Some(view) = snapshot.view("payments_by_status") else { return };
        let Some(rows) = read(view, minute.plus(-59), minute) else { return };
        let of = |status: Option<&str>| count(&rows, minute, status);
        let total = of(None);
        let approved = if total > 0 {
            format!("{:6.2} %", 100.0 * of(Some("approved")) as f64 / total as f64)
        } else {
            "-".to_owned()
        };
        let p95 = snapshot.view("payments_latency").and_then(|view| {
            let rows = read(view, minute, minute)?;
            let p95 = rows.column_by_name("latency_p95_us")?.as_primitive_opt::<Float64Type>()?.clone();
            (!p95.is_empty() && p95.is_valid(0)).then(|| format!("{:.0} ms", p95.value(0) / 1_000.0))
        });
        let highest = (0..60).map(|back| count(&rows, minute.plus(-back), None)).max().unwrap_or(0).max(1);
        let bar = "▇".repeat((total.max(0) as usize * BAR).div_ceil(highest as usize).min(BAR));
        println!(
            "{}  {total:>12}  {approved:>8}  {:>6}  {:>6}  {:>6}  {bar}",
            clock(minute),
            of(Some("denied")),
            of(Some("failed")),
            p95.unwrap_or_else(|| "-".to_owned()),
        );
    }

    /// An alert that fires, rises or resolves; what nobody would be told of is left out, save warnings' beginnings.
    pub fn transition(&self, transition: &Transition) {
        let (word, colour) = match (transition.kind, transition.severity) {
            (Kind::Resolved, _) if transition.notify() => ("resolved", "32"),
            (Kind::Fired | Kind::Raised | Kind::Announced, Severity::Critical) => ("FIRING", "1;31"),
            (Kind::Fired | Kind::Raised | Kind::Announced, Severity::High) => ("FIRING", "31"),
            (Kind::Fired | Kind::Announced, _) => ("firing", "33"),
            _ => return,
        };
        let text = format!(
            "{}  {word} [{}] {}: {}",
            clock(transition.minute),
            transition.severity,
            transition.rule,
            transition.summary
        );
        if self.colour { println!("\x1b[{colour}m{text}\x1b[0m") } else { println!("{text}") }
    }
}

fn clock(minute: Minute) -> String {
    let of_day = minute.index().rem_euclid(1_440);
    format!("{:02}:{:02} ", of_day / 60, of_day % 60)
}

fn read(view: &ViewSnapshot, from: Minute, to: Minute) -> Option<RecordBatch> {
    match view.sealed_rows(from, to) {
        Ok(rows) => Some(rows.batch),
        Err(error) => {
            tracing::error!(%error, "a minute cannot be shown");
            None
        }
    }
}

fn count(rows: &RecordBatch, minute: Minute, status: Option<&str>) -> i64 {
    let times = rows.column(0).as_primitive_opt::<arrow::datatypes::TimestampMicrosecondType>();
    let statuses = rows.column_by_name("status").and_then(|column| column.as_string_opt::<i32>());
    let counts = rows.column_by_name("transactions").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(times), Some(statuses), Some(counts)) = (times, statuses, counts) else { return 0 };
    let wanted = |row: &usize| {
        times.value(*row) == minute.start().micros() && status.is_none_or(|status| statuses.value(*row) == status)
    };
    (0..rows.num_rows()).filter(wanted).map(|row| counts.value(row)).sum()
}
