//! Backups: a data folder's consistent copy in an object store, made while the engine runs or when it stands, and the way
//! back. What an object is called and what a descriptor holds is drawn in `FORMAT.md`.
//!
//! It opens no log for writing, makes no checkpoint and holds no lock: its caller does, and says which manifest and which
//! record the copy is of.

mod copy;
mod descriptor;
mod error;
mod restore;
mod source;
mod target;

#[cfg(test)]
mod tests;

pub use copy::{Making, Progress, back_up};
pub use descriptor::{BACKUP_VERSION, Descriptor, Formats, Object};
pub use error::BackupError;
pub use restore::restore;
pub use source::{ID_KEY, LOG, OpenError, STORE, Source};
pub use target::Target;
