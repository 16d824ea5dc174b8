//! What the engine tells people about itself: alerts, rules and the state shown on the live page.
//! Plain data; the JSON forms of `/api/v1/status`, `/alerts/status` and `/api/v1/rules` are these structs.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use tidewatch_model::{EventTime, Minute, Severity};

/// The state of the engine, for the live page.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    pub version: String,
    #[serde(serialize_with = "time")]
    pub started_at: EventTime,
    /// What the engine's clock says.
    #[serde(serialize_with = "time")]
    pub now: EventTime,
    #[serde(serialize_with = "time_or_null")]
    pub watermark: Option<EventTime>,
    /// The newest sealed minute.
    #[serde(serialize_with = "minute_or_null")]
    pub sealed_through: Option<Minute>,
    /// Why requests cannot be served, where they cannot.
    pub not_ready: Option<String>,
    pub volume: Volume,
    pub alerts: Vec<Alert>,
    pub rules: Vec<RuleReport>,
    pub counters: Vec<Counter>,
}

/// Sealed minutes without gaps, oldest first; every list has one entry for each minute.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Volume {
    #[serde(serialize_with = "minute_or_null")]
    pub first_minute: Option<Minute>,
    pub statuses: Vec<StatusVolume>,
    /// The share of transactions approved, 0 to 1; null where there were none.
    pub approval_rate: Vec<Option<f64>>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusVolume {
    pub status: String,
    pub transactions: Vec<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Counter {
    pub name: String,
    pub value: u64,
    /// What is counted, in a few words.
    pub help: String,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alert {
    pub rule: String,
    pub severity: Severity,
    pub state: AlertState,
    pub labels: BTreeMap<String, String>,
    pub values: BTreeMap<String, f64>,
    pub summary: String,
    /// The first minute of the alert.
    #[serde(serialize_with = "minute")]
    pub since: Minute,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    Pending,
    Firing,
    Resolved,
}

impl AlertState {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// What is firing, and what each rule last measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct AlertReport {
    #[serde(serialize_with = "minute_or_null")]
    pub sealed_through: Option<Minute>,
    pub alerts: Vec<Alert>,
    pub scores: Vec<Score>,
    /// The newest sealed minute of every status.
    pub statuses: Vec<StatusScore>,
}

/// One status in the newest sealed minute against the 60 minutes before it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StatusScore {
    pub status: String,
    #[serde(serialize_with = "minute")]
    pub minute: Minute,
    /// Transactions in that minute.
    pub value: f64,
    /// Their mean over the minutes before; none where there is no minute before.
    pub usual: Option<f64>,
    /// The distance from that mean in standard deviations; none where there were no transactions before.
    pub score: Option<f64>,
}

/// A row of a rule's newest verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    pub rule: String,
    pub labels: BTreeMap<String, String>,
    pub values: BTreeMap<String, f64>,
    #[serde(serialize_with = "minute")]
    pub minute: Minute,
}

/// A rule and its newest verdict.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RuleReport {
    pub name: String,
    pub severity: Severity,
    pub file: String,
    /// Left out of the status, which is asked for often.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sql: String,
    /// Why the rule does not run, or failed for its newest minute.
    pub error: Option<String>,
    #[serde(serialize_with = "minute_or_null")]
    pub judged_through: Option<Minute>,
    /// Rows of the verdict for that minute: 0 means that all was well.
    pub rows: u32,
    /// The first of those rows as its summary.
    pub summary: Option<String>,
    pub warming_up: bool,
}

pub(crate) fn time<S: Serializer>(value: &EventTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(value)
}

pub(crate) fn time_or_null<S: Serializer>(value: &Option<EventTime>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

pub(crate) fn minute<S: Serializer>(value: &Minute, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&value.start())
}

pub(crate) fn minute_or_null<S: Serializer>(value: &Option<Minute>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => minute(value, serializer),
        None => serializer.serialize_none(),
    }
}
