//! Payment traffic that never happened, with incidents whose truth is known: for the demo, for
//! `tidewatch simulate` and for tests. Everything is a function of a seed, a profile and the time asked for;
//! this crate never reads a clock, never draws ambient randomness and never opens a file.

mod calm;
mod columns;
mod effect;
mod event;
mod export;
mod incident;
mod profile;
mod schedule;
mod seed;
mod traffic;

pub use export::{ExportFormat, Exporter};
pub use incident::{Change, Incident, IncidentKind, Labels, Measure, Signal};
pub use profile::Profile;
pub use schedule::Schedule;
pub use traffic::{ARRIVAL_DELAY_MAX, Traffic};

use arrow::error::ArrowError;
use tidewatch_model::{EventTime, limits};

/// What can be wrong with a wish for traffic. The first two are the caller's to correct.
#[derive(Debug, thiserror::Error)]
pub enum TrafficError {
    #[error("{0} events a minute cannot be simulated; give a rate above 0 and at most {max}", max = limits::SIMULATED_RATE_MAX)]
    Rate(f64),
    #[error(
        "the slice {from} to {to} holds about {events} events; at most {max} fit in one: ask for shorter slices",
        max = limits::SIMULATED_SLICE_EVENTS_MAX
    )]
    SliceTooLong { from: EventTime, to: EventTime, events: u64 },
    #[error("the simulated events could not be put into columns: {0}")]
    Columns(#[from] ArrowError),
}
