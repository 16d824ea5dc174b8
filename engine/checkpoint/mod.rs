//! `Checkpoint`: the state that the log's records led to, written beside the log, so that a restart reads no more of the
//! log than came since. The manifest makes a checkpoint visible as a whole; what the files hold is drawn in `FORMAT.md`.
//!
//! It decides nothing: the core says what is new, and this puts it into files and back.

mod checkpointer;
mod parts;
mod reading;
pub mod state_file;
mod writing;

pub use checkpointer::{Checkpointer, Worker};
pub use reading::{Restored, restore};
pub use state_file::StateFileError;
pub use writing::{Checkpoints, Rest};

use serde::{Deserialize, Serialize};
use tidewatch_model::SessionId;
use tidewatch_store::{FolderError, Misfit};
use tidewatch_views::DomainId;

use crate::core::CoreError;

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("{file} is whole and not understood: {source}")]
    StateFile { file: String, source: StateFileError },
    #[error(transparent)]
    Misfit(#[from] Misfit),
    #[error(transparent)]
    Core(#[from] CoreError),
}

impl CheckpointError {
    /// Whether the same can succeed later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Folder(error) if error.is_retryable())
    }
}

/// What a frame belongs to.
#[derive(Debug, Serialize, Deserialize)]
struct FrameDescription {
    session: Option<SessionId>,
    view: String,
    fingerprint: u64,
    /// The frame holds no open rows, but what was seen before this hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seen_before: Option<i64>,
}

/// Whose ids a blob holds, as the manifest has it: `live`, or a session and which of its openings.
fn owner(domain: DomainId) -> String {
    domain.session.map_or_else(|| "live".to_owned(), |session| format!("{:016x}-{}", session.0, domain.opening))
}

/// `None` for a text that `owner` did not make.
fn domain_of(owner: &str) -> Option<DomainId> {
    if owner == "live" {
        return Some(DomainId { session: None, opening: 0 });
    }
    let (session, opening) = owner.split_once('-')?;
    let session = SessionId(u64::from_str_radix(session, 16).ok()?);
    Some(DomainId { session: Some(session), opening: opening.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_as_it_was_written() {
        for domain in [
            DomainId { session: None, opening: 0 },
            DomainId { session: Some(SessionId(0)), opening: 1 },
            DomainId { session: Some(SessionId(u64::MAX)), opening: u64::MAX },
        ] {
            assert_eq!(domain_of(&owner(domain)), Some(domain));
        }
        for stranger in ["", "0", "lives", "zz-1", "00-x"] {
            assert_eq!(domain_of(stranger), None, "{stranger}");
        }
    }
}
