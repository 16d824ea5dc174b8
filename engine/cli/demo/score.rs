//! Whether the alerts and the truth agree: which incidents were caught, and which alerts nothing explains.

use tidewatch_alerts::{Kind, Labels, Transition};
use tidewatch_model::{Minute, Severity};
use tidewatch_traffic::{Incident, Measure};

/// Minutes after an incident's end in which an alert may still be its doing: the slowest rule's `for` and a margin.
const GRACE_MINUTES: i64 = 10;

#[derive(Debug)]
struct Heard {
    rule: String,
    labels: Labels,
    severity: Severity,
    minute: Minute,
    summary: String,
}

/// What was heard of the alerts that somebody would be woken by (critical and high).
#[derive(Debug)]
pub struct Scoreboard {
    start: Minute,
    minutes: u64,
    sealed_through: Option<Minute>,
    heard: Vec<Heard>,
}

pub struct Result {
    /// Incidents that were over (and their grace, too), with the first rule that caught each.
    pub incidents: Vec<(Incident, Option<String>)>,
    pub unfinished: Vec<Incident>,
    pub false_alerts: Vec<String>,
    pub false_allowed: usize,
}

impl Scoreboard {
    pub fn new(start: Minute) -> Self {
        Self { start, minutes: 0, sealed_through: None, heard: Vec::new() }
    }

    pub fn minutes(&self) -> u64 {
        self.minutes
    }

    pub fn sealed(&mut self, minute: Minute) {
        self.minutes += 1;
        self.sealed_through = Some(self.sealed_through.map_or(minute, |through| through.max(minute)));
    }

    pub fn heard(&mut self, transition: &Transition) {
        let begins = matches!(transition.kind, Kind::Fired | Kind::Raised | Kind::Announced);
        if begins && transition.severity >= Severity::High {
            self.heard.push(Heard {
                rule: transition.rule.clone(),
                labels: transition.labels.clone(),
                severity: transition.severity,
                minute: transition.minute,
                summary: transition.summary.clone(),
            });
        }
    }

    pub fn result(&self, incidents: &[Incident]) -> Result {
        let through = self.sealed_through.unwrap_or(self.start);
        let (over, unfinished): (Vec<&Incident>, Vec<&Incident>) =
            incidents.iter().partition(|incident| incident.to.plus(GRACE_MINUTES) <= through);
        let judged = over.into_iter().map(|incident| {
            let caught = self.heard.iter().find(|heard| catches(incident, heard));
            (incident.clone(), caught.map(|heard| format!("{} at {}", heard.rule, heard.minute)))
        });
        let explained = |heard: &&Heard| {
            incidents.iter().any(|incident| incident.explains(heard.minute, &heard.labels, GRACE_MINUTES))
        };
        let false_alerts = self.heard.iter().filter(|heard| !explained(heard));
        let days = (through.index() - self.start.index()) as f64 / 1_440.0;
        Result {
            incidents: judged.collect(),
            unfinished: unfinished.into_iter().cloned().collect(),
            false_alerts: false_alerts
                .map(|heard| format!("{} [{}] {}: {}", heard.minute, heard.severity, heard.rule, heard.summary))
                .collect(),
            false_allowed: (days.floor() as usize).max(1),
        }
    }
}

/// Whether an alert shows what the incident is, not a side effect of it.
fn catches(incident: &Incident, heard: &Heard) -> bool {
    let measure = if heard.rule.contains("latency") { Measure::Latency } else { Measure::Transactions };
    let within = incident.from <= heard.minute && heard.minute < incident.to.plus(GRACE_MINUTES);
    let agrees = |signal: &tidewatch_traffic::Signal| {
        signal.essential && signal.measure == measure && signal.agrees_with(&heard.labels)
    };
    within && incident.signals().iter().any(agrees)
}

impl Result {
    pub fn caught(&self) -> usize {
        self.incidents.iter().filter(|(_, caught)| caught.is_some()).count()
    }

    pub fn passes(&self) -> bool {
        self.caught() == self.incidents.len()
            && !self.incidents.is_empty()
            && self.false_alerts.len() <= self.false_allowed
    }
}
