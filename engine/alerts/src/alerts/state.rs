//! `AlertsState`: the alerts of one timeline as a checkpoint holds them, drawn in FORMAT.md. It borrows from the alerts
//! when it is written and owns what it holds when it was read.
//!
//! What can be computed from the rest (the cooldowns by their end, an alert's name) is not in it, so no two parts of
//! it can contradict each other; a state that says less or other than `save` would is read as what it says.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use tidewatch_model::{Minute, Severity};

use super::Alerts;
use crate::{
    Alert, AlertId, History, Reading, Transition,
    book::{Book, RuleBook},
    readings::Readings,
};

/// The state of all alerts of one timeline.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlertsState<'a> {
    rules: Vec<RuleState<'a>>,
    alerts: Vec<AlertState<'a>>,
    judged: BTreeMap<Cow<'a, str>, Minute>,
    history: Vec<Cow<'a, Transition>>,
    history_dropped: u64,
    untracked: u64,
}

/// What is remembered of a rule, its running alerts apart.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct RuleState<'a> {
    rule: Cow<'a, str>,
    changed: Option<Minute>,
    limit_reported: bool,
    cooldowns: Vec<CooldownState>,
}

/// A cooldown outlives its alert, so it names it by its hash.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct CooldownState {
    alert: AlertId,
    severity: Severity,
    until: Minute,
}

/// A running alert and what the newest verdict said of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct AlertState<'a> {
    alert: Cow<'a, Alert>,
    reading: Option<Cow<'a, Reading>>,
}

impl Alerts {
    /// Everything that the alerts remember, for a checkpoint.
    pub fn save(&self) -> AlertsState<'_> {
        let rules = self.book.rules.iter().map(|(rule, book)| RuleState::of(rule, book));
        let alerts = self
            .active()
            .map(|alert| AlertState { alert: Cow::Borrowed(alert), reading: self.reading(alert).map(Cow::Borrowed) });
        AlertsState {
            rules: rules.collect(),
            alerts: alerts.collect(),
            judged: self.judged.iter().map(|(rule, minute)| (Cow::Borrowed(rule.as_str()), *minute)).collect(),
            history: self.history.iter().map(Cow::Borrowed).collect(),
            history_dropped: self.history.dropped(),
            untracked: self.untracked,
        }
    }

    /// The alerts that were saved: they answer every further verdict as those would have.
    pub fn restore_state(state: AlertsState<'_>) -> Self {
        let (mut book, mut readings) = (Book::default(), Readings::default());
        for saved in state.rules {
            let rule = book.rules.entry(saved.rule.into_owned()).or_default();
            rule.changed = saved.changed;
            rule.limit_reported = saved.limit_reported;
            for CooldownState { alert, severity, until } in saved.cooldowns {
                rule.cooldowns.start(alert, severity, until);
            }
        }
        for AlertState { alert, reading } in state.alerts {
            let alert = alert.into_owned();
            if let Some(reading) = reading {
                readings.put(AlertId::of(&alert.rule, &alert.labels), reading.into_owned());
            }
            let rule = book.rules.entry(alert.rule.clone()).or_default();
            rule.alerts.insert(alert.labels.clone(), alert);
        }
        Self {
            book,
            readings,
            history: History::restore(state.history.into_iter().map(Cow::into_owned), state.history_dropped),
            judged: state.judged.into_iter().map(|(rule, minute)| (rule.into_owned(), minute)).collect(),
            untracked: state.untracked,
        }
    }
}

impl<'a> RuleState<'a> {
    fn of(rule: &'a str, book: &RuleBook) -> Self {
        let cooldown = |(alert, severity, until)| CooldownState { alert, severity, until };
        Self {
            rule: Cow::Borrowed(rule),
            changed: book.changed,
            limit_reported: book.limit_reported,
            cooldowns: book.cooldowns.iter().map(cooldown).collect(),
        }
    }
}
