//! What was given up, oldest first and found by name. At the limit the oldest go, and can no longer be resent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, limits};

use crate::{Delivery, DeliveryId};

/// A delivery that was given up. It can be resent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub delivery: Delivery,
    pub died_at: EventTime,
    pub reason: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct DeadLetters {
    /// By the order in which they died.
    letters: BTreeMap<u64, DeadLetter>,
    by_id: BTreeMap<DeliveryId, u64>,
    next: u64,
}

impl DeadLetters {
    pub fn get(&self, id: &DeliveryId) -> Option<&DeadLetter> {
        self.by_id.get(id).and_then(|at| self.letters.get(at))
    }

    /// Oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &DeadLetter> {
        self.letters.values()
    }

    /// Takes in one that is not there yet. Returns how many went for it at the limit.
    pub fn bury(&mut self, letter: DeadLetter) -> u64 {
        if self.by_id.contains_key(&letter.delivery.id) {
            return 0;
        }
        self.by_id.insert(letter.delivery.id.clone(), self.next);
        self.letters.insert(self.next, letter);
        self.next += 1;
        let mut forgotten = 0;
        while self.letters.len() > limits::DEAD_LETTERS_MAX
            && let Some((_, oldest)) = self.letters.pop_first()
        {
            self.by_id.remove(&oldest.delivery.id);
            forgotten += 1;
        }
        forgotten
    }

    pub fn remove(&mut self, id: &DeliveryId) -> Option<DeadLetter> {
        self.letters.remove(&self.by_id.remove(id)?)
    }
}
