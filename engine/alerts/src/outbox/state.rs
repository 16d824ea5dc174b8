//! `OutboxState`: the outbox as a checkpoint holds it, drawn in FORMAT.md. It borrows from the outbox when it is written
//! and owns what it holds when it was read. The retry policy is configuration and not in it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Outbox, OutboxCounts};
use crate::{DeadLetter, Delivery, DeliveryId, RetryPolicy};

/// The state of an outbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutboxState<'a> {
    /// In the order in which they came.
    waiting: Vec<Cow<'a, Delivery>>,
    /// Oldest first.
    dead: Vec<Cow<'a, DeadLetter>>,
    /// Oldest first.
    done: Vec<Cow<'a, DeliveryId>>,
    counts: OutboxCounts,
}

impl Outbox {
    /// Everything that the outbox remembers, for a checkpoint.
    pub fn save(&self) -> OutboxState<'_> {
        OutboxState {
            waiting: self.waiting.values().map(Cow::Borrowed).collect(),
            dead: self.dead.iter().map(Cow::Borrowed).collect(),
            done: self.done.iter().map(Cow::Borrowed).collect(),
            counts: self.counts,
        }
    }

    /// The outbox that was saved. What was in flight then is due again, with the same key.
    ///
    /// A delivery is waiting, dead or done. Should a state name it more than once, the first of these is taken, which
    /// can only mean a delivery too many.
    pub fn restore(policy: RetryPolicy, state: OutboxState<'_>) -> Self {
        let mut outbox = Self::new(policy);
        for delivery in state.waiting {
            if !outbox.by_id.contains_key(&delivery.id) {
                outbox.insert(delivery.into_owned());
            }
        }
        for letter in state.dead {
            if !outbox.by_id.contains_key(&letter.delivery.id) {
                outbox.dead.bury(letter.into_owned());
            }
        }
        for id in state.done {
            if !outbox.by_id.contains_key(&id) {
                outbox.done.remember(id.into_owned());
            }
        }
        outbox.counts = state.counts;
        outbox
    }
}
