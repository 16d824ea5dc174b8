//! The clocks that the binary hands to the engine: the machine's own, and the demo's, which runs
//! faster. The core only ever sees `model::Clock`. Latencies are not measured here but with
//! `telemetry::Ticks`, which never jumps.

use std::time::{SystemTime, UNIX_EPOCH};

use tidewatch_model::{Clock, EventTime, Span};

use crate::telemetry::Ticks;

/// The machine's clock, in UTC.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place where the engine's wall time comes from")]
    fn now(&self) -> EventTime {
        let micros = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_micros()).unwrap_or(i64::MAX),
            // A machine whose clock stands before 1970 is as wrong as one that stands at 1970.
            Err(_) => 0,
        };
        EventTime::from_micros(micros)
    }
}

/// A clock that starts at `start` and runs `speed` times as fast as the wall.
#[derive(Debug)]
pub struct FastClock<T> {
    start: EventTime,
    speed: u32,
    ticks: T,
    ticks_at_start: u64,
}

impl<T: Ticks> FastClock<T> {
    /// `ticks` says how much real time has passed; it never runs backwards, so neither does this clock.
    pub fn new(start: EventTime, speed: u32, ticks: T) -> Self {
        let ticks_at_start = ticks.nanos();
        Self { start, speed, ticks, ticks_at_start }
    }

    pub fn speed(&self) -> u32 {
        self.speed
    }
}

impl<T: Ticks + std::fmt::Debug> Clock for FastClock<T> {
    fn now(&self) -> EventTime {
        let real_nanos = self.ticks.nanos().saturating_sub(self.ticks_at_start);
        let micros = u128::from(real_nanos) * u128::from(self.speed) / 1_000;
        self.start.plus(Span::from_micros(i64::try_from(micros).unwrap_or(i64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::ManualTicks;

    #[test]
    fn a_fast_clock_runs_at_its_speed_from_its_start() {
        let start = EventTime::from_micros(1_000_000);
        for (speed, real_nanos, micros) in [
            (1, 0, 1_000_000),
            (1, 1_000, 1_000_001),
            (60, 1_000_000_000, 61_000_000),
            (60, 16, 1_000_000),
            (u32::MAX, u64::MAX, i64::MAX),
        ] {
            let ticks = ManualTicks::default();
            let clock = FastClock::new(start, speed, ticks.clone());
            ticks.advance(real_nanos);
            assert_eq!(clock.now(), EventTime::from_micros(micros), "{speed} × {real_nanos} ns");
        }
    }

    #[test]
    fn time_before_the_clock_was_made_does_not_count() {
        let ticks = ManualTicks::default();
        ticks.advance(5_000_000_000);
        let clock = FastClock::new(EventTime::from_micros(7), 1_000, ticks);
        assert_eq!(clock.now(), EventTime::from_micros(7));
    }

    #[test]
    fn the_system_clock_stands_after_this_was_written() {
        assert!(SystemClock.now() > EventTime::parse("2025-01-01 00:00").unwrap());
    }
}
