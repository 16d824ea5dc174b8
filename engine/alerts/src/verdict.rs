//! What a rule hands over: how its alerts behave, and what it found in one sealed minute.
//! How the rows come about (SQL, warm-up, filled-in summaries) is the business of `rules`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidewatch_model::{Minute, Severity, Span};

/// The text columns of a verdict's row together with the rule's own labels: what an alert is told apart by.
pub type Labels = BTreeMap<String, String>;

/// The numeric columns of a verdict's row.
pub type Values = BTreeMap<String, f64>;

/// How a rule's alerts behave. Spans count minutes of verdicts, part minutes rounded up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleAlerting {
    pub name: String,
    /// Where a row does not say otherwise.
    pub severity: Severity,
    /// How long a row must be there before its alert fires. `0m`: at once.
    #[serde(rename = "for", default)]
    pub for_: Span,
    /// How long an alert goes on firing after its row is gone.
    #[serde(default)]
    pub keep_firing_for: Span,
    /// How long after a notice of (rule, labels, severity) a further one is held back.
    #[serde(default)]
    pub cooldown: Span,
    /// Added to every row's labels. Where a row has a column of the same name, the row's value stays, since
    /// it is what tells two rows apart.
    #[serde(default)]
    pub labels: Labels,
    /// The template that `rules` fills in for each row.
    #[serde(default)]
    pub summary: String,
}

/// One row of a verdict: one thing that is wrong in one minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictRow {
    pub labels: Labels,
    #[serde(with = "crate::transition::values_as_text")]
    pub values: Values,
    pub severity: Severity,
    /// The rule's template with its placeholders filled in.
    pub summary: String,
    /// The rule has not yet seen the history it asks for: recorded, not sent.
    pub warming_up: bool,
}

/// What became of judging one minute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The rule's rows for the minute; none means that all is well.
    Rows(Vec<VerdictRow>),
    /// The rule exceeded a limit or broke: the minute says nothing, so nothing fires and nothing resolves.
    Failed { reason: String },
}

/// A rule's verdict on one sealed minute.
#[derive(Clone, Debug)]
pub struct Judged<'a> {
    pub rule: &'a RuleAlerting,
    pub minute: Minute,
    pub outcome: Outcome,
    /// Whether anybody is to be told at all. False for a replay session that was not asked to notify.
    pub notify: bool,
}
