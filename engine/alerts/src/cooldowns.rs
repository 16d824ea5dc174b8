//! Which (alert, severity) of a rule people were told of lately. Bounded: at the limit the one that would end
//! soonest goes, so the worst that can happen is a notice too many, never one too few.

use std::collections::{BTreeMap, BTreeSet};

use tidewatch_model::{Minute, Severity, limits};

use crate::AlertId;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cooldowns {
    until: BTreeMap<(AlertId, Severity), Minute>,
    by_end: BTreeSet<(Minute, AlertId, Severity)>,
}

impl Cooldowns {
    pub fn active(&self, alert: AlertId, severity: Severity, minute: Minute) -> bool {
        self.until.get(&(alert, severity)).is_some_and(|until| minute < *until)
    }

    pub fn start(&mut self, alert: AlertId, severity: Severity, until: Minute) {
        if let Some(before) = self.until.insert((alert, severity), until) {
            self.by_end.remove(&(before, alert, severity));
        }
        self.by_end.insert((until, alert, severity));
        while self.by_end.len() > limits::ALERT_COOLDOWNS_PER_RULE_MAX {
            self.drop_first();
        }
    }

    /// Each with the first minute in which it is over. Starting them anew gives the same cooldowns.
    pub fn iter(&self) -> impl Iterator<Item = (AlertId, Severity, Minute)> {
        self.until.iter().map(|((alert, severity), until)| (*alert, *severity, *until))
    }

    /// Forgets what is over at `minute`.
    pub fn expire(&mut self, minute: Minute) {
        while self.by_end.first().is_some_and(|(until, _, _)| *until <= minute) {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, alert, severity)) = self.by_end.pop_first() {
            self.until.remove(&(alert, severity));
        }
        debug_assert_eq!(self.until.len(), self.by_end.len(), "both hold the same cooldowns");
    }
}
