//! The state machine of all alerts of one timeline: live traffic has one, each replay session its own, since
//! minutes must come in order.
//!
//! The caller journals the transitions that `observe` returns before it hands them to anybody.

mod state;

pub use state::AlertsState;

use std::collections::BTreeMap;

use tidewatch_model::{Minute, Span};

use crate::{
    Alert, AlertId, History, Judged, Labels, Outcome, Reached, Reading, RuleAlerting, Transition, VerdictRow,
    book::{Book, RuleBook},
    decide::Decision,
    readings::Readings,
};

#[derive(Clone, Debug, Default)]
pub struct Alerts {
    book: Book,
    history: History,
    /// The newest minute seen of each rule. Guards the order; decides nothing.
    judged: BTreeMap<String, Minute>,
    readings: Readings,
    untracked: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AlertsError {
    #[error(
        "rule `{rule}` was judged for {minute} after {judged_through}; a timeline's minutes come in order, \
         and a minute is judged once: skip it, or give the replay session alerts of its own"
    )]
    OutOfOrder { rule: String, minute: Minute, judged_through: Minute },
}

impl Alerts {
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in one verdict and returns what it changed, already applied.
    ///
    /// # Errors
    /// The minute is not after the rule's last; nothing has changed then.
    pub fn observe(&mut self, judged: Judged<'_>) -> Result<Vec<Transition>, AlertsError> {
        let Judged { rule, minute, outcome, notify } = judged;
        self.advance(&rule.name, minute)?;
        let Outcome::Rows(rows) = outcome else {
            return Ok(Vec::new());
        };
        let rows = by_labels(rule, rows);
        let unknown = RuleBook::default();
        let book = self.book.rule(&rule.name).unwrap_or(&unknown);
        let decided = Decision { rule, book, minute, notify }.decide(&rows);
        self.untracked = self.untracked.saturating_add(decided.untracked);
        for transition in &decided.transitions {
            self.apply(transition.clone());
        }
        self.note_readings(&rule.name, minute, &rows);
        Ok(decided.transitions)
    }

    /// Ends the alerts of a rule that is no longer there.
    ///
    /// # Errors
    /// The minute is not after the rule's last; nothing has changed then.
    pub fn retire(&mut self, rule: &str, minute: Minute, notify: bool) -> Result<Vec<Transition>, AlertsError> {
        self.advance(rule, minute)?;
        let Some(book) = self.book.rule(rule) else {
            return Ok(Vec::new());
        };
        let gone = RuleAlerting {
            name: rule.to_owned(),
            severity: tidewatch_model::Severity::Low,
            for_: Span::ZERO,
            keep_firing_for: Span::ZERO,
            cooldown: Span::ZERO,
            labels: Labels::new(),
            summary: String::new(),
        };
        let transitions = Decision { rule: &gone, book, minute, notify }.retire();
        for transition in &transitions {
            self.apply(transition.clone());
        }
        Ok(transitions)
    }

    /// Recovery: the alerts as the journalled transitions, in their order, left them. The newest transition of
    /// each alert is enough for its state; older ones only add to the history.
    pub fn restore(transitions: impl IntoIterator<Item = Transition>) -> Self {
        let mut alerts = Self::new();
        for transition in transitions {
            let judged = alerts.judged.entry(transition.rule.clone()).or_insert(transition.minute);
            *judged = transition.minute.max(*judged);
            alerts.apply(transition);
        }
        alerts
    }

    /// Every pending or firing alert, by rule and labels, as its last transition left it.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.book.alerts()
    }

    /// What the newest verdict said of a running alert. None from a recovery by transitions until the next verdict.
    pub fn reading(&self, alert: &Alert) -> Option<&Reading> {
        self.readings.get(AlertId::of(&alert.rule, &alert.labels))
    }

    /// The last transitions.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// Rows that were not tracked because their rule was at its limit, since the start.
    pub fn untracked(&self) -> u64 {
        self.untracked
    }

    /// The newest minute seen of a rule. After a recovery by transitions: the newest in which something changed.
    pub fn judged_through(&self, rule: &str) -> Option<Minute> {
        self.judged.get(rule).copied()
    }

    /// Whether both would answer every further verdict alike and remember the same transitions.
    pub fn same_state(&self, other: &Self) -> bool {
        self.book == other.book && self.history == other.history
    }

    /// Only what is tracked has a reading, so readings need no limit of their own.
    fn note_readings(&mut self, rule: &str, minute: Minute, rows: &BTreeMap<Labels, VerdictRow>) {
        let Some(book) = self.book.rule(rule) else { return };
        for (labels, row) in rows.iter().filter(|(labels, _)| book.alerts.contains_key(*labels)) {
            self.readings.note(AlertId::of(rule, labels), minute, row);
        }
    }

    fn advance(&mut self, rule: &str, minute: Minute) -> Result<(), AlertsError> {
        match self.judged.get_mut(rule) {
            Some(judged_through) if minute <= *judged_through => {
                Err(AlertsError::OutOfOrder { rule: rule.to_owned(), minute, judged_through: *judged_through })
            }
            Some(judged_through) => {
                *judged_through = minute;
                Ok(())
            }
            None => {
                self.judged.insert(rule.to_owned(), minute);
                Ok(())
            }
        }
    }

    fn apply(&mut self, transition: Transition) {
        self.book.apply(&transition);
        if !matches!(transition.to, Reached::Running(_)) {
            self.readings.forget(transition.alert_id());
        }
        self.history.push(transition);
    }
}

/// The rows by their full labels. Of rows that share them the most severe stays, the first among equals: they
/// are one alert, and it is as bad as its worst row.
fn by_labels(rule: &RuleAlerting, rows: Vec<VerdictRow>) -> BTreeMap<Labels, VerdictRow> {
    let mut by_labels: BTreeMap<Labels, VerdictRow> = BTreeMap::new();
    for row in rows {
        let mut labels = row.labels.clone();
        for (name, value) in &rule.labels {
            labels.entry(name.clone()).or_insert_with(|| value.clone());
        }
        match by_labels.get(&labels) {
            Some(kept) if kept.severity >= row.severity => {}
            _ => {
                by_labels.insert(labels, row);
            }
        }
    }
    by_labels
}
