//! What happens at the limits of the state machine.

use tidewatch_alerts::{Alerts, Judged, Kind, Outcome, Transition, VerdictRow};
use tidewatch_model::{Minute, Severity, limits};

use crate::notation::{START, row, rule};

fn judge(alerts: &mut Alerts, offset: i64, rows: Vec<VerdictRow>) -> Vec<Transition> {
    let (rule, minute) = (rule(0, 0, 60), Minute::from_index(START + offset));
    alerts.observe(Judged { rule: &rule, minute, outcome: Outcome::Rows(rows), notify: true }).unwrap()
}

fn rows(range: std::ops::Range<usize>) -> Vec<VerdictRow> {
    range.map(|at| row(&format!("account-{at:06}"), Severity::Warning, false)).collect()
}

#[test]
fn beyond_the_limit_label_sets_are_counted_and_reported_once() {
    let max = limits::ALERTS_PER_RULE_MAX;
    let mut alerts = Alerts::new();
    let mut all = judge(&mut alerts, 0, rows(0..max + 3));
    assert_eq!((all.len(), alerts.untracked(), alerts.active().count()), (max + 1, 3, max));
    let report = all.last().expect("it has max + 1 elements");
    assert_eq!((report.kind, report.values["untracked"], report.notify()), (Kind::LimitReached, 3.0, true));

    let again = judge(&mut alerts, 1, rows(0..max + 3));
    assert_eq!((again.len(), alerts.untracked()), (0, 6), "an ongoing excess is reported once");

    let moved = judge(&mut alerts, 2, rows(2..max + 3));
    let count = |kind| moved.iter().filter(|t| t.kind == kind).count();
    assert_eq!((count(Kind::Resolved), count(Kind::Fired), alerts.untracked()), (2, 2, 7), "what ends makes room");

    judge(&mut alerts, 3, Vec::new()).into_iter().for_each(|t| all.push(t));
    let anew = judge(&mut alerts, 4, rows(0..max + 1));
    let report = anew.last().expect("it has max + 1 elements");
    assert_eq!((report.kind, report.notify()), (Kind::LimitReached, false), "reported anew, within its cooldown");
}

#[test]
fn the_history_keeps_the_newest() {
    let mut alerts = Alerts::new();
    let max = limits::ALERT_HISTORY_MAX as i64;
    for offset in 0..max + 10 {
        judge(&mut alerts, offset, if offset % 2 == 0 { rows(0..1) } else { Vec::new() });
    }
    let history = alerts.history();
    assert_eq!((history.len() as i64, history.dropped()), (max, 10));
    assert_eq!(history.iter().next_back().map(|t| t.minute), Some(Minute::from_index(START + max + 9)));
}
