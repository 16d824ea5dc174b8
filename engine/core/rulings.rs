//! `Rulings`: each rule judges each sealed minute once, and the alerts move on. Verdicts that the journal holds are
//! taken from there.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use tidewatch_alerts::{Alerts, AlertsState, Judged, Outcome, Transition};
use tidewatch_model::{Minute, SessionId};
use tidewatch_query::Reading;
use tidewatch_rules::{RuleLimits, RuleSet, Verdict};
use tidewatch_views::Sealer;

use super::effects::MinuteRuling;
use crate::telemetry::Metrics;

#[derive(Debug)]
pub struct Rulings {
    rules: Arc<RuleSet>,
    limits: RuleLimits,
    runtime: tokio::runtime::Runtime,
    live: Alerts,
    sessions: BTreeMap<SessionId, Alerts>,
    known: HashMap<(Minute, Option<SessionId>), Vec<Verdict>>,
    newest: HashMap<String, Verdict>,
    metrics: Option<Arc<Metrics>>,
}

fn timeline(by: Sealer) -> Option<SessionId> {
    match by {
        Sealer::Live => None,
        Sealer::Session(session) => Some(session),
    }
}

impl Rulings {
    pub fn new(rules: RuleSet, limits: RuleLimits) -> Result<Self, std::io::Error> {
        Ok(Self {
            rules: Arc::new(rules),
            limits,
            runtime: tokio::runtime::Builder::new_current_thread().enable_time().build()?,
            live: Alerts::new(),
            sessions: BTreeMap::new(),
            known: HashMap::new(),
            newest: HashMap::new(),
            metrics: None,
        })
    }

    /// Measures every rule from now on.
    pub fn measure(&mut self, metrics: Arc<Metrics>) {
        self.metrics = Some(metrics);
    }

    pub fn rules(&self) -> &Arc<RuleSet> {
        &self.rules
    }

    pub fn live_alerts(&self) -> &Alerts {
        &self.live
    }

    pub fn newest(&self) -> &HashMap<String, Verdict> {
        &self.newest
    }

    pub fn save_sessions(&self) -> Vec<(SessionId, AlertsState<'_>)> {
        self.sessions.iter().map(|(session, alerts)| (*session, alerts.save())).collect()
    }

    pub fn restore(&mut self, live: AlertsState, sessions: Vec<(SessionId, AlertsState)>, newest: Vec<Verdict>) {
        self.live = Alerts::restore_state(live);
        self.sessions =
            sessions.into_iter().map(|(session, alerts)| (session, Alerts::restore_state(alerts))).collect();
        self.newest = newest.into_iter().map(|verdict| (verdict.rule.clone(), verdict)).collect();
    }

    /// Ends the alerts of live traffic whose rule is no longer there: nothing would ever resolve them. While a rule is
    /// broken none is ended, because it may be theirs and is coming back.
    pub fn retire_gone(&mut self, newest: Option<Minute>) -> Vec<Transition> {
        if !self.rules.broken().is_empty() {
            return Vec::new();
        }
        let active = self.live.active().map(|alert| alert.rule.clone());
        let gone: BTreeSet<String> = active.filter(|rule| self.rules.rule(rule).is_none()).collect();
        let mut transitions = Vec::new();
        for rule in gone {
            let judged = self.live.judged_through(&rule).map(Minute::next);
            let Some(minute) = judged.max(newest) else { continue };
            match self.live.retire(&rule, minute, true) {
                Ok(caused) => transitions.extend(caused),
                Err(error) => tracing::error!(rule, %error, "the alerts of a rule that is gone could not be ended"),
            }
        }
        transitions
    }

    pub fn know(&mut self, verdicts: HashMap<(Minute, Option<SessionId>), Vec<Verdict>>) {
        self.known = verdicts;
    }

    pub fn end_session(&mut self, session: SessionId) {
        self.sessions.remove(&session);
    }

    /// All rules' verdicts on a minute, and what became of their alerts.
    pub fn judge(
        &mut self,
        minute: Minute,
        by: Sealer,
        notify: bool,
        reading: &Reading,
    ) -> (MinuteRuling, Vec<Transition>) {
        let ruling = match self.known.remove(&(minute, timeline(by))) {
            Some(verdicts) => MinuteRuling { minute, by, verdicts, fresh: false },
            None => MinuteRuling { minute, by, verdicts: self.compute(minute, reading), fresh: true },
        };
        let alerts = match by {
            Sealer::Live => &mut self.live,
            Sealer::Session(session) => self.sessions.entry(session).or_default(),
        };
        let mut transitions = Vec::new();
        for verdict in &ruling.verdicts {
            self.newest.insert(verdict.rule.clone(), verdict.clone());
            // A rule that is gone leaves its journal and moves no alerts.
            let Some(rule) = self.rules.rule(&verdict.rule) else { continue };
            let judged = Judged { rule: rule.alerting(), minute, outcome: verdict.outcome.clone(), notify };
            match alerts.observe(judged) {
                Ok(caused) => transitions.extend(caused),
                // A minute that comes out of order (history before what was judged) moves no alerts either: its
                // verdict is in the journal.
                Err(error) => tracing::debug!(rule = rule.name(), %minute, %error, "the alerts did not take a verdict"),
            }
        }
        (ruling, transitions)
    }

    /// All rules' verdicts on a minute, of no consequence for the alerts.
    pub fn compute(&self, minute: Minute, reading: &Reading) -> Vec<Verdict> {
        let begin = |rule: &str| self.metrics.as_ref().map(|metrics| metrics.time_rule(rule));
        match self.runtime.block_on(self.rules.judge_timed(minute, reading, self.limits, begin)) {
            Ok(verdicts) => verdicts,
            Err(error) => {
                tracing::error!(%minute, %error, "no rule could judge a minute");
                let failed = |rule: &Arc<tidewatch_rules::Rule>| Verdict {
                    rule: rule.name().to_owned(),
                    minute,
                    outcome: Outcome::Failed { reason: error.to_string() },
                };
                self.rules.rules().iter().map(failed).collect()
            }
        }
    }
}
