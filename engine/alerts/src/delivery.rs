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
    pub due_at: EventTime,
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
