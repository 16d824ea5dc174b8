//! `Damages`: which files were found damaged while they were read, since the start. Each is told of once.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::error::{Damage, FolderError};

#[derive(Debug, Default)]
pub struct Damages(Mutex<Told>);

#[derive(Debug, Default)]
struct Told {
    files: BTreeSet<PathBuf>,
    /// Those that nobody asked for yet.
    new: Vec<Damage>,
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

    /// What was found since the last call.
    pub fn take_new(&self) -> Vec<Damage> {
        std::mem::take(&mut self.told().new)
    }

    pub fn tell(&self, damage: &Damage) {
        let mut told = self.told();
        if told.files.insert(damage.file.clone()) {
            tracing::error!(%damage, "rows are left out");
            told.new.push(damage.clone());
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
