//! The last transitions, for the table `alerts`. At the limit the oldest go, and are counted.

use std::collections::VecDeque;

use tidewatch_model::limits;

use crate::Transition;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct History {
    kept: VecDeque<Transition>,
    dropped: u64,
}

impl History {
    /// As a checkpoint has it: `dropped` went before the first of these.
    pub(crate) fn restore(transitions: impl IntoIterator<Item = Transition>, dropped: u64) -> Self {
        let mut history = Self { kept: VecDeque::new(), dropped };
        transitions.into_iter().for_each(|transition| history.push(transition));
        history
    }

    pub(crate) fn push(&mut self, transition: Transition) {
        if self.kept.len() >= limits::ALERT_HISTORY_MAX {
            self.kept.pop_front();
            self.dropped = self.dropped.saturating_add(1);
        }
        self.kept.push_back(transition);
    }

    /// Oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Transition> {
        self.kept.iter()
    }

    pub fn len(&self) -> usize {
        self.kept.len()
    }

    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// How many went at the limit.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}
