//! The running alerts and their cooldowns: nothing but a fold of transitions. `apply` is the only way in which it
//! changes, live and in recovery alike, so the two cannot drift apart. A checkpoint holds the outcome of the fold.

use std::collections::BTreeMap;

use tidewatch_model::{Minute, limits};

use crate::{Alert, Kind, Labels, Notice, Reached, Running, Transition, cooldowns::Cooldowns};

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Book {
    pub rules: BTreeMap<String, RuleBook>,
}

/// What is remembered of one rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct RuleBook {
    pub alerts: BTreeMap<Labels, Alert>,
    pub cooldowns: Cooldowns,
    /// That the rule is over its limit has been reported, and it has not been below since.
    pub limit_reported: bool,
    /// The minute of the newest transition.
    pub changed: Option<Minute>,
}

impl Book {
    pub fn rule(&self, name: &str) -> Option<&RuleBook> {
        self.rules.get(name)
    }

    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.rules.values().flat_map(|rule| rule.alerts.values())
    }

    pub fn apply(&mut self, transition: &Transition) {
        let rule = self.rules.entry(transition.rule.clone()).or_default();
        if rule.changed.is_none_or(|changed| changed < transition.minute) {
            rule.cooldowns.expire(transition.minute);
            rule.changed = Some(transition.minute);
        }
        if let Notice::Send { quiet_until: Some(until) } = transition.notice {
            rule.cooldowns.start(transition.alert_id(), transition.severity, until);
        }
        if transition.kind == Kind::LimitReached {
            rule.limit_reported = true;
            return;
        }
        match &transition.to {
            Reached::Running(state) => {
                rule.alerts.insert(transition.labels.clone(), alert(transition, state.clone()));
            }
            Reached::Inactive | Reached::Resolved { .. } => {
                rule.alerts.remove(&transition.labels);
                if rule.alerts.len() < limits::ALERTS_PER_RULE_MAX {
                    rule.limit_reported = false;
                }
            }
        }
    }
}

fn alert(transition: &Transition, state: Running) -> Alert {
    Alert {
        rule: transition.rule.clone(),
        labels: transition.labels.clone(),
        severity: transition.severity,
        values: transition.values.clone(),
        summary: transition.summary.clone(),
        state,
    }
}
