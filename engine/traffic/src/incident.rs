//! An incident: what goes wrong, when, where, and which series show it. This is the truth that
//! alerts are compared with. What it does to events is the business of `effect`.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, Minute};

pub type Labels = BTreeMap<String, String>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentKind {
    /// Many times the usual share is denied.
    DenialSurge,
    /// The core's answers get lost: `backend_reversed` appears, failures multiply.
    BackendFailure,
    /// No events at all.
    Outage,
    /// Latency grows steadily, then recovers within five minutes.
    LatencyCreep,
    /// One region sends nothing.
    RegionGone,
}

impl IncidentKind {
    pub const ALL: [Self; 5] =
        [Self::DenialSurge, Self::BackendFailure, Self::Outage, Self::LatencyCreep, Self::RegionGone];

    /// As in the truth's JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::DenialSurge => "denial_surge",
            Self::BackendFailure => "backend_failure",
            Self::Outage => "outage",
            Self::LatencyCreep => "latency_creep",
            Self::RegionGone => "region_gone",
        }
    }
}

impl fmt::Display for IncidentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DenialSurge => "denial surge",
            Self::BackendFailure => "backend failure",
            Self::Outage => "outage",
            Self::LatencyCreep => "latency creep",
            Self::RegionGone => "region gone",
        })
    }
}

/// Something that goes wrong with the events that occurred in [from, to).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    pub kind: IncidentKind,
    #[serde(with = "minute_as_time")]
    pub from: Minute,
    /// The first minute that is well again.
    #[serde(with = "minute_as_time")]
    pub to: Minute,
    /// Which events it touches, for example region = eu. Empty: all of them.
    #[serde(default)]
    pub scope: Labels,
    /// By how much: of denials, of failures, or of latency at its height. 0 where events are missing.
    pub factor: f64,
}

/// What a series counts or measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Measure {
    Transactions,
    Latency,
}

/// What happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Appears,
    Rises,
    Falls,
    Ceases,
}

/// One way in which an incident shows: the measure of the series with these labels changes so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    pub measure: Measure,
    pub change: Change,
    /// Empty: every series, and their total.
    pub labels: Labels,
    /// Whether this is what the incident is. The others are its side effects (denials take from approvals):
    /// an alert on one is explained, but missing it is no fault.
    pub essential: bool,
}

impl Incident {
    pub fn covers(&self, minute: Minute) -> bool {
        self.from <= minute && minute < self.to
    }

    /// The series that show the incident, the essential ones first.
    pub fn signals(&self) -> Vec<Signal> {
        use Change::{Appears, Ceases, Falls, Rises};
        use Measure::{Latency, Transactions};
        let signal = |measure, change, status: Option<&str>, essential| {
            let mut labels = self.scope.clone();
            labels.extend(status.map(|status| ("status".to_owned(), status.to_owned())));
            Signal { measure, change, labels, essential }
        };
        match self.kind {
            IncidentKind::DenialSurge => {
                vec![
                    signal(Transactions, Rises, Some("denied"), true),
                    signal(Transactions, Falls, Some("approved"), false),
                ]
            }
            IncidentKind::BackendFailure => vec![
                signal(Transactions, Appears, Some("backend_reversed"), true),
                signal(Transactions, Rises, Some("failed"), true),
                signal(Transactions, Falls, Some("approved"), false),
            ],
            IncidentKind::Outage => vec![signal(Transactions, Ceases, None, true)],
            IncidentKind::LatencyCreep => vec![signal(Latency, Rises, None, true)],
            IncidentKind::RegionGone => {
                let everywhere =
                    Signal { measure: Transactions, change: Falls, labels: Labels::new(), essential: false };
                vec![signal(Transactions, Ceases, None, true), everywhere]
            }
        }
    }

    /// Whether an alert for this minute with these labels may come from the incident: some signal's labels do not
    /// contradict the alert's. `grace` is how many minutes after its end still count.
    pub fn explains(&self, minute: Minute, labels: &Labels, grace: i64) -> bool {
        let within = self.from <= minute && minute < self.to.plus(grace.max(0));
        within && self.signals().iter().any(|signal| signal.agrees_with(labels))
    }
}

impl Signal {
    /// Whether no label that both have differs.
    pub fn agrees_with(&self, labels: &Labels) -> bool {
        self.labels.iter().all(|(name, value)| labels.get(name).is_none_or(|other| other == value))
    }
}

/// For people: `denial surge 14:10–14:25: denied ×6 (kind=card)`.
impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}–{}: ", self.kind, Clock(self.from), Clock(self.to))?;
        let factor = (self.factor * 10.0).round() / 10.0;
        match self.kind {
            IncidentKind::DenialSurge => write!(f, "denied ×{factor}")?,
            IncidentKind::BackendFailure => write!(f, "backend_reversed appears, failed ×{factor}")?,
            IncidentKind::Outage => f.write_str("no events")?,
            IncidentKind::LatencyCreep => write!(f, "latency grows to ×{factor}")?,
            IncidentKind::RegionGone => f.write_str("no events")?,
        }
        for (at, (name, value)) in self.scope.iter().enumerate() {
            write!(f, "{}{name}={value}", if at == 0 { " (" } else { ", " })?;
        }
        if self.scope.is_empty() { Ok(()) } else { f.write_str(")") }
    }
}

/// A minute as the time of day, UTC.
struct Clock(Minute);

impl fmt::Display for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of_day = self.0.index().rem_euclid(1_440);
        write!(f, "{:02}:{:02}", of_day / 60, of_day % 60)
    }
}

/// Minutes stand in JSON as the RFC 3339 time of their start.
mod minute_as_time {
    use serde::{Deserializer, Serializer, de::Error};

    use super::{Deserialize, EventTime, Minute};

    pub(super) fn serialize<S: Serializer>(minute: &Minute, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&minute.start())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Minute, D::Error> {
        let text = String::deserialize(deserializer)?;
        match EventTime::parse(&text) {
            Some(time) if time.minute().start() == time => Ok(time.minute()),
            Some(_) => Err(D::Error::custom(format!("`{text}` is not the start of a minute"))),
            None => Err(D::Error::custom(format!("`{text}` is not a time; write it as RFC 3339"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surge() -> Incident {
        Incident {
            kind: IncidentKind::DenialSurge,
            from: Minute::from_index(850),
            to: Minute::from_index(865),
            scope: Labels::from([("kind".to_owned(), "card".to_owned())]),
            factor: 6.04,
        }
    }

    #[test]
    fn people_and_programs_can_read_an_incident() {
        assert_eq!(surge().to_string(), "denial surge 14:10–14:25: denied ×6 (kind=card)");
        let json = serde_json::to_string(&surge()).unwrap();
        assert!(json.contains(r#""kind":"denial_surge","from":"1970-01-01T14:10:00Z""#), "{json}");
        assert_eq!(serde_json::from_str::<Incident>(&json).unwrap(), surge());
        for broken in [json.replace("14:10:00", "14:10:01"), json.replace("1970-01-01T14:10:00Z", "noon")] {
            assert!(serde_json::from_str::<Incident>(&broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn alerts_are_explained_by_time_and_labels() {
        for (minute, labels, grace, explained) in [
            (850, vec![("status", "denied")], 0, true),
            (849, vec![("status", "denied")], 9, false),
            (864, vec![("status", "approved")], 0, true),
            (865, vec![("status", "denied")], 0, false),
            (865, vec![("status", "denied")], 1, true),
            (855, vec![("status", "failed")], 0, false),
            (855, vec![("status", "denied"), ("kind", "ach")], 0, false),
            (855, vec![("region", "eu")], 0, true),
            (855, vec![], 0, true),
        ] {
            let alert: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let is = surge().explains(Minute::from_index(minute), &alert, grace);
            assert_eq!(is, explained, "{minute} {labels:?} {grace}");
        }
    }

    #[test]
    fn every_kind_has_an_essential_signal() {
        for kind in IncidentKind::ALL {
            let signals = Incident { kind, ..surge() }.signals();
            assert!(signals.first().is_some_and(|first| first.essential), "{kind}");
            let json = serde_json::to_value(kind).unwrap();
            assert_eq!(json, kind.name());
        }
    }
}
