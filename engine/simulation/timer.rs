//! Simulated time: it passes only when it is told to, and the clock on the wall may jump while it does.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
};

use tidewatch_model::{Clock, EventTime, ManualClock, Span};
use tidewatch_sinks::Timer;

use crate::telemetry::{ManualTicks, Ticks};

/// A shared handle: clones show the same time.
#[derive(Clone, Debug)]
pub struct SimTime {
    wall: Arc<ManualClock>,
    ticks: ManualTicks,
    waiting: Arc<Mutex<Vec<Waker>>>,
}

impl SimTime {
    pub fn at(start: EventTime) -> Self {
        Self { wall: Arc::new(ManualClock::at(start)), ticks: ManualTicks::default(), waiting: Arc::default() }
    }

    pub fn wall(&self) -> Arc<dyn Clock> {
        Arc::<ManualClock>::clone(&self.wall)
    }

    pub fn ticks(&self) -> Arc<dyn Ticks> {
        Arc::new(self.ticks.clone())
    }

    pub fn now(&self) -> EventTime {
        self.wall.now()
    }

    pub fn pass(&self, span: Span) {
        self.ticks.advance(u64::try_from(span.micros()).unwrap_or(0).saturating_mul(1_000));
        self.wall.advance(span);
        let waiting = std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Sets the clock on the wall, as people and time servers do. No time passes.
    pub fn jump(&self, to: EventTime) {
        self.wall.set(to);
    }
}

impl Timer for SimTime {
    fn wait(&self, span: Span) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let (ticks, waiting) = (self.ticks.clone(), Arc::clone(&self.waiting));
        let end = ticks.nanos().saturating_add(u64::try_from(span.micros()).unwrap_or(0).saturating_mul(1_000));
        Box::pin(poll_fn(move |context| {
            if ticks.nanos() >= end {
                return Poll::Ready(());
            }
            waiting.lock().unwrap_or_else(PoisonError::into_inner).push(context.waker().clone());
            Poll::Pending
        }))
    }
}
