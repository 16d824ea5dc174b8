//! The engine put together: configuration, the core behind the log, the pipeline that drives it, the servers in
//! front of it, and the commands. The binary is one call into this.

mod admission;
pub mod app;
pub mod backups;
pub mod checkpoint;
pub mod cli;
pub mod clock;
mod condition;
pub mod config;
pub mod core;
mod disk;
pub mod doctor;
pub mod front;
mod id_secret;
pub mod owed;
pub mod parts;
pub mod pipeline;
pub mod planted;
pub mod published;
pub mod quarantine;
pub mod recovery;
pub mod simulation;
pub mod telemetry;
mod volume;
