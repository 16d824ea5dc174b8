//! `Damages`: what was found damaged while it was read, since the start. Each file is reported once.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use crate::error::{Damage, FolderError};

#[derive(Debug, Default)]
pub struct Damages {
    found: Mutex<BTreeMap<PathBuf, Damage>>,
}

impl Damages {
    /// What was read, or `None` where it is damaged: that is told of and left out, and the rest is served.
    pub fn spare<T>(&self, read: Result<T, FolderError>) -> Result<Option<T>, FolderError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(FolderError::Damaged(damage)) => {
                self.report(damage);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    pub fn report(&self, damage: Damage) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if !found.contains_key(&damage.file) {
            tracing::error!(%damage, "rows are left out");
            found.insert(damage.file.clone(), damage);
        }
    }

    pub fn all(&self) -> Vec<Damage> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}
