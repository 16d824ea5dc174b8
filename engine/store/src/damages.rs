//! `Damages`: which files were found damaged while they were read, since the start. Each is told of once.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::error::{Damage, FolderError};

#[derive(Debug, Default)]
pub struct Damages {
    told: Mutex<BTreeSet<PathBuf>>,
}

impl Damages {
    /// What was read, or `None` where it is damaged: that is told of and left out, and the rest is served.
    pub fn spare<T>(&self, read: Result<T, FolderError>) -> Result<Option<T>, FolderError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(FolderError::Damaged(damage)) => {
                self.tell(&damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn tell(&self, damage: &Damage) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(damage.file.clone()) {
            tracing::error!(%damage, "rows are left out");
        }
    }
}
