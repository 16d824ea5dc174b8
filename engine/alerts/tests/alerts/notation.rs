//! The short notation in which the tests write what a rule said minute by minute, and what came of it.
//!
//! A minute is `.` (no row), `F` (the evaluation failed), `_` (never judged) or the first letter of a severity (`l`,
//! `w`, `h`, `c`) for one row; `~` behind it marks warm-up, `-` a minute of a session that notifies nobody.
//! A transition is `minute kind severity sent` or `minute kind severity (why not)`.

use tidewatch_alerts::{Alerts, Judged, Labels, Outcome, RuleAlerting, Transition, Values, VerdictRow};
use tidewatch_model::{Minute, Severity, Span};

/// Minutes count from here, so that no test rests on minute zero.
pub const START: i64 = 29_000_000;

pub fn rule(for_: i64, keep_firing_for: i64, cooldown: i64) -> RuleAlerting {
    RuleAlerting {
        name: "denied-surge".to_owned(),
        severity: Severity::Warning,
        for_: Span::from_minutes(for_),
        keep_firing_for: Span::from_minutes(keep_firing_for),
        cooldown: Span::from_minutes(cooldown),
        labels: Labels::from([("team".to_owned(), "payments".to_owned())]),
        summary: String::new(),
    }
}

pub fn row(status: &str, severity: Severity, warming_up: bool) -> VerdictRow {
    VerdictRow {
        labels: Labels::from([("status".to_owned(), status.to_owned())]),
        values: Values::from([("value".to_owned(), 120.0)]),
        severity,
        summary: format!("{status}: 120 in a minute"),
        warming_up,
    }
}

/// What a rule said of one minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    Row { severity: Severity, warming_up: bool },
    NoRow,
    Failed,
    NotJudged,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    pub said: Said,
    pub notify: bool,
}

pub fn read(minutes: &str) -> Vec<Step> {
    minutes.split_whitespace().map(step).collect()
}

fn step(token: &str) -> Step {
    let severity = |letter| match letter {
        'l' => Severity::Low,
        'w' => Severity::Warning,
        'h' => Severity::High,
        'c' => Severity::Critical,
        other => panic!("`{other}` is no severity"),
    };
    let said = match token.chars().next() {
        Some('.') => Said::NoRow,
        Some('F') => Said::Failed,
        Some('_') => Said::NotJudged,
        Some(letter) => Said::Row { severity: severity(letter), warming_up: token.contains('~') },
        None => unreachable!("split_whitespace gives no empty token"),
    };
    Step { said, notify: !token.contains('-') }
}

/// Lets the rule say one minute's step. Minutes that were never judged give nothing.
pub fn observe(alerts: &mut Alerts, rule: &RuleAlerting, offset: usize, step: Step) -> Vec<Transition> {
    let outcome = match step.said {
        Said::NotJudged => return Vec::new(),
        Said::Failed => Outcome::Failed { reason: "over its memory limit".to_owned() },
        Said::NoRow => Outcome::Rows(Vec::new()),
        Said::Row { severity, warming_up } => Outcome::Rows(vec![row("denied", severity, warming_up)]),
    };
    let minute = Minute::from_index(START + offset as i64);
    alerts.observe(Judged { rule, minute, outcome, notify: step.notify }).expect("minutes come in order")
}

pub fn show(transition: &Transition) -> String {
    let minute = transition.minute.index() - START;
    let notice = match transition.withheld() {
        None => "sent".to_owned(),
        Some(why) => format!("({why})"),
    };
    format!("{minute} {} {} {notice}", transition.kind, transition.severity)
}
