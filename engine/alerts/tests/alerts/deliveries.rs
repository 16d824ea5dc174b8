//! What the tests of the outbox share: a moment, what went wrong, and transitions to be delivered.

use tidewatch_alerts::{Alerts, DeliveryError, Judged, Outcome, Retry, Transition};
use tidewatch_model::{EventTime, Minute, Severity, Span};

use crate::notation::{START, row, rule};

pub const NOW: EventTime = EventTime::from_micros(1_760_000_000_000_000);

pub fn after(seconds: i64) -> EventTime {
    NOW.plus(Span::from_seconds(seconds))
}

pub fn error(retry: Retry) -> DeliveryError {
    DeliveryError { reason: "connection refused".to_owned(), retry }
}

/// For each status: fired, then resolved.
pub fn transitions(statuses: &[(&str, Severity)]) -> Vec<Transition> {
    let (mut alerts, rule) = (Alerts::new(), rule(0, 0, 0));
    let rows: Vec<_> = statuses.iter().map(|(status, severity)| row(status, *severity, false)).collect();
    let mut judge = |offset, rows| {
        let minute = Minute::from_index(START + offset);
        alerts.observe(Judged { rule: &rule, minute, outcome: Outcome::Rows(rows), notify: true }).unwrap()
    };
    let mut all = judge(0, rows);
    all.extend(judge(1, Vec::new()));
    all
}
