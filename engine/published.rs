//! `Published`: what the pipeline shows to readers that do not need to ask it: the newest snapshot, what is firing,
//! what each rule last said. It is replaced as a whole, never changed.

use std::sync::{Arc, PoisonError, RwLock};

use tidewatch_alerts::{Alerts, Outcome, Phase};
use tidewatch_model::{EventTime, Minute};
use tidewatch_serve::report::{Alert, AlertState, RuleReport, Score};
use tidewatch_store::Snapshot;

use crate::core::Core;

#[derive(Clone, Debug)]
pub struct Published {
    pub snapshot: Snapshot,
    pub watermark: Option<EventTime>,
    pub sealed_through: Option<Minute>,
    pub alerts: Vec<Alert>,
    pub scores: Vec<Score>,
    pub rules: Vec<RuleReport>,
}

impl Published {
    pub fn of(core: &Core) -> Self {
        let snapshot = core.snapshot();
        Self {
            sealed_through: core.operator().sealed().newest(),
            watermark: core.operator().watermark(),
            alerts: alerts(core.live_alerts()),
            scores: scores(core),
            rules: rules(core),
            snapshot,
        }
    }
}

fn alerts(alerts: &Alerts) -> Vec<Alert> {
    let mut reported: Vec<Alert> = alerts
        .active()
        .map(|alert| {
            let reading = alerts.reading(alert);
            Alert {
                rule: alert.rule.clone(),
                severity: alert.severity,
                state: match alert.state.phase() {
                    Phase::Firing => AlertState::Firing,
                    Phase::Pending => AlertState::Pending,
                    _ => AlertState::Resolved,
                },
                labels: alert.labels.clone(),
                values: reading.map_or_else(|| alert.values.clone(), |reading| reading.values.clone()),
                summary: reading.map_or_else(|| alert.summary.clone(), |reading| reading.summary.clone()),
                since: alert.state.since(),
            }
        })
        .collect();
    reported.sort_by(|a, b| b.severity.cmp(&a.severity).then(a.since.cmp(&b.since)).then(a.rule.cmp(&b.rule)));
    reported
}

fn scores(core: &Core) -> Vec<Score> {
    let mut scores: Vec<Score> = core
        .newest_verdicts()
        .values()
        .filter_map(|verdict| match &verdict.outcome {
            Outcome::Rows(rows) => Some((verdict, rows)),
            Outcome::Failed { .. } => None,
        })
        .flat_map(|(verdict, rows)| {
            rows.iter().map(|row| Score {
                rule: verdict.rule.clone(),
                labels: row.labels.clone(),
                values: row.values.clone(),
                minute: verdict.minute,
            })
        })
        .collect();
    scores.sort_by(|a, b| a.rule.cmp(&b.rule).then_with(|| a.labels.cmp(&b.labels)));
    scores
}

fn rules(core: &Core) -> Vec<RuleReport> {
    let running = core.rules().rules().iter().map(|rule| {
        let newest = core.newest_verdicts().get(rule.name());
        let (rows, error) = match newest.map(|verdict| &verdict.outcome) {
            Some(Outcome::Rows(rows)) => (rows.as_slice(), None),
            Some(Outcome::Failed { reason }) => (&[][..], Some(reason.clone())),
            None => (&[][..], None),
        };
        RuleReport {
            name: rule.name().to_owned(),
            severity: rule.header().severity,
            file: rule.file().path.clone(),
            sql: rule.file().sql.clone(),
            error,
            judged_through: newest.map(|verdict| verdict.minute),
            rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
            summary: rows.first().map(|row| row.summary.clone()),
            warming_up: rows.iter().any(|row| row.warming_up),
        }
    });
    let broken = core.rules().broken().iter().map(|broken| RuleReport {
        name: broken.file.rsplit('/').next().unwrap_or(&broken.file).trim_end_matches(".sql").to_owned(),
        severity: tidewatch_model::Severity::Low,
        file: broken.file.clone(),
        sql: String::new(),
        error: Some(broken.to_string()),
        judged_through: None,
        rows: 0,
        summary: None,
        warming_up: false,
    });
    running.chain(broken).collect()
}

/// The one place where the newest published state stands.
#[derive(Debug)]
pub struct Board(RwLock<Arc<Published>>);

impl Board {
    pub fn new(published: Published) -> Self {
        Self(RwLock::new(Arc::new(published)))
    }

    pub fn show(&self, published: Published) {
        // A reader that panicked holds no half-made state: the value is replaced as a whole.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(published);
    }

    pub fn read(&self) -> Arc<Published> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}
