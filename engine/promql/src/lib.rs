//! A snapshot as Prometheus sees it: series of samples under names and labels. It reads; HTTP is elsewhere.

mod series;

pub use series::{Labels, Sample, SelectError, Series, select};
