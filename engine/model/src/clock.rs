//! The clock seam. The core never asks the operating system for the time; whoever starts the
//! engine hands it a clock, so that tests, the demo's fast time and simulations are ordinary cases.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::{EventTime, Span};

/// Says what time it is. Implementations may run faster than the wall, stand still, or be set by hand.
pub trait Clock: Send + Sync + std::fmt::Debug {
    fn now(&self) -> EventTime;
}

/// A clock that moves only when told to.
#[derive(Debug)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(time: EventTime) -> Self {
        Self(AtomicI64::new(time.micros()))
    }

    pub fn set(&self, time: EventTime) {
        self.0.store(time.micros(), Ordering::SeqCst);
    }

    pub fn advance(&self, span: Span) {
        self.0.fetch_add(span.micros(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> EventTime {
        EventTime::from_micros(self.0.load(Ordering::SeqCst))
    }
}
