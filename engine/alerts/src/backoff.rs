//! When a failed delivery is tried again: exponential back-off with jitter that follows from the delivery's name,
//! so that a simulation repeats itself and a thousand deliveries to one receiver still spread.

use tidewatch_model::{EventTime, Span, hash64, limits};

use crate::{Delivery, Retry};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first failure; it doubles with each further one.
    pub first: Span,
    /// The longest wait.
    pub longest: Span,
    /// After so many failures a delivery is dead.
    pub max_attempts: u32,
    /// A delivery that failed and is older than this is dead.
    pub max_age: Span,
}

impl Default for RetryPolicy {
    /// A receiver may be down for a night and still hear of everything.
    fn default() -> Self {
        Self {
            first: Span::from_seconds(1),
            longest: Span::from_minutes(5),
            max_attempts: 400,
            max_age: Span::from_minutes(24 * 60),
        }
    }
}

impl RetryPolicy {
    /// When attempt `failures + 1` is due: between half and all of the exponential wait, and not before the
    /// receiver asked to be called again. But it cannot ask for longer than the delivery may live, lest one answer with
    /// a long `Retry-After` give it up: the last attempt is made when its time is over.
    pub(crate) fn next(&self, delivery: &Delivery, failures: u32, now: EventTime, retry: Retry) -> EventTime {
        let id = &delivery.id;
        let doublings = failures.saturating_sub(1).min(40);
        let whole = self.first.micros().max(1).saturating_mul(1_i64 << doublings).min(self.longest.micros().max(1));
        let mut seed = id.key.number().to_le_bytes().to_vec();
        seed.extend_from_slice(&failures.to_le_bytes());
        seed.extend_from_slice(id.receiver.as_bytes());
        let half = whole / 2;
        let jitter = i64::try_from(hash64(&seed) % (whole - half + 1).unsigned_abs()).unwrap_or(0);
        let left = delivery.enqueued_at.plus(self.max_age).since(now).micros();
        let wait = match retry {
            Retry::After(asked) => asked.micros().min(left).max(half + jitter),
            Retry::Backoff | Retry::Never => half + jitter,
        };
        now.plus(Span::from_micros(wait))
    }
}

/// The reason of a failure, cut at a character's border.
pub(crate) fn cut(reason: &str) -> String {
    match reason.char_indices().find(|(at, c)| at + c.len_utf8() > limits::DELIVERY_REASON_BYTES_MAX) {
        Some((at, _)) => reason[..at].to_owned(),
        None => reason.to_owned(),
    }
}
