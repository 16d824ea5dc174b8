//! `Admission`: how much may be under way between the door and the views. Beyond it submitters wait, and are told to try
//! again after a while.
//!
//! It is counted in events, because what was durable and not yet in the views must be applied by the next start. Events of
//! many bytes count as several, and a record counts as a thousandth of everything at least: so memory and the pipeline's
//! queue are bounded as well.

use std::{sync::Arc, time::Duration};

use tidewatch_model::limits;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time,
};

/// So many bytes count as one event.
const BYTES_OF_AN_EVENT: usize = 512;

#[derive(Debug)]
pub struct Admission {
    permits: Arc<Semaphore>,
    events_max: u32,
    wait: Duration,
}

/// How much of an admission's room something takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight(u32);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// There was no room for so long.
    Full {
        waited: Duration,
    },
    Closed,
}

impl Admission {
    pub fn new(events_max: u32, wait: Duration) -> Self {
        Self { permits: Arc::new(Semaphore::new(events_max as usize)), events_max, wait }
    }

    /// Of a record with so many events, of so many bytes together. More than everything counts as everything.
    pub fn weight(&self, events: usize, bytes: usize) -> Weight {
        let least = self.events_max.div_ceil(limits::RECORDS_IN_FLIGHT_MAX as u32);
        let events = u32::try_from(events.max(bytes / BYTES_OF_AN_EVENT)).unwrap_or(u32::MAX);
        Weight(events.max(least).min(self.events_max))
    }

    /// Waits for room, first come, first served. What is returned is the room: whoever drops it gives it back.
    pub async fn admit(&self, Weight(weight): Weight) -> Result<OwnedSemaphorePermit, NotAdmitted> {
        let room = Arc::clone(&self.permits).acquire_many_owned(weight);
        match time::timeout(self.wait, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(NotAdmitted::Closed),
            Err(_) => Err(NotAdmitted::Full { waited: self.wait }),
        }
    }

    pub fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Waits until nothing is under way, for so long at most, and lets nothing in from then on. Returns whether everything
    /// arrived.
    pub async fn drain(&self, grace: Duration) -> bool {
        let drained = matches!(time::timeout(grace, self.permits.acquire_many(self.events_max)).await, Ok(Ok(_)));
        self.permits.close();
        drained
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(events_max: u32) -> Admission {
        Admission::new(events_max, Duration::ZERO)
    }

    #[test]
    fn weighs_events_bytes_and_records() {
        let hundred_thousand = admission(100_000);
        let weight = |events, bytes| hundred_thousand.weight(events, bytes).0;
        assert_eq!(weight(5_000, 1_000_000), 5_000);
        assert_eq!(weight(1, 51_200_000), 100_000, "large events count as many");
        assert_eq!(weight(1, 100), 98, "a thousand records are all that fit");
        assert_eq!(weight(0, 0), 98);
        assert_eq!(weight(usize::MAX, usize::MAX), 100_000, "the largest is let in alone");
        assert_eq!(admission(1).weight(5_000, 0).0, 1);
    }

    #[tokio::test]
    async fn lets_in_what_has_room_and_nothing_after_the_end() {
        let admission = admission(10);
        let first = admission.admit(Weight(6)).await.unwrap();
        let full = NotAdmitted::Full { waited: Duration::ZERO };
        assert_eq!(admission.admit(Weight(5)).await.unwrap_err(), full);
        drop(first);
        let second = admission.admit(Weight(5)).await.unwrap();
        assert!(!admission.drain(Duration::ZERO).await, "one is still under way");
        assert_eq!(admission.admit(Weight(1)).await.unwrap_err(), NotAdmitted::Closed);
        drop(second);
    }
}
