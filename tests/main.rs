//! The integration tests: one binary, because linking it is slow. Each module tests one promise.

mod alerts;
mod durability;
mod faults;
mod full_disk;
mod hostile;
mod prometheus;
mod real_data;
mod streaming_equals_batch;
mod support;
mod tracing;
