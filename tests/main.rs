//! The integration tests: one binary, because linking it is slow. Each module tests one promise.

mod alerts;
mod backups;
mod decoders;
mod doctor;
mod durability;
mod faults;
mod flips;
mod full_disk;
mod hostile;
mod kills;
mod one_writer;
mod prometheus;
mod real_data;
mod simulation;
mod streaming_equals_batch;
mod support;
mod tables;
mod tracing;
mod upgrades;
