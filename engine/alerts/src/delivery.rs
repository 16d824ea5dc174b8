//! A delivery: one transition to one receiver, and the facts from which the outbox is rebuilt.

use serde::{Deserialize, Serialize};
use tidewatch_model::{EventTime, Span};

use crate::{Transition, TransitionKey};

/// A delivery's name. The key goes to the receiver with each attempt.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryId {
    pub key: TransitionKey,
    pub receiver: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delivery {
    pub id: DeliveryId,
    pub transition: Transition,
    /// The W3C trace context of what caused it, where there is one.
    pub traceparent: Option<String>,
    pub enqueued_at: EventTime,
    /// Failures so far.
    pub attempt: u32,
    /// When it failed last.
    #[serde(default)]
    pub failed_at: Option<EventTime>,
    pub due_at: EventTime,
}

impl Delivery {
    /// When the last fact was written that this shows. A later one is not before it.
    pub(crate) fn changed_at(&self) -> EventTime {
        self.failed_at.map_or(self.enqueued_at, |failed_at| failed_at.max(self.enqueued_at))
    }
}

/// Whether another attempt can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    Never,
    Backoff,
    /// The receiver said how long to wait.
    After(Span),
}

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct DeliveryError {
    pub reason: String,
    pub retry: Retry,
}

impl DeliveryError {
    pub fn retryable(&self) -> bool {
        self.retry != Retry::Never
    }
}

/// The facts of the outbox. Journalled in any order between two writers, they rebuild the same outbox up to
/// deliveries that are made twice, with the same key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutboxEvent {
    Enqueued { delivery: Box<Delivery> },
    Delivered { id: DeliveryId, at: EventTime },
    Failed { id: DeliveryId, at: EventTime, error: String, attempt: u32, due_at: EventTime },
    Dead { id: DeliveryId, at: EventTime, reason: String },
    Resent { id: DeliveryId, at: EventTime },
}
