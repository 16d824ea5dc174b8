//! `Pins`: the manifest in force, for whoever copies the folder while checkpoints go on. While a manifest is pinned its
//! files stay, and whoever lets go of the log asks here what it is still needed for.

use std::{
    ops::Deref,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tidewatch_model::Lsn;

use crate::manifest::Manifest;

/// Clones speak of the same folder.
#[derive(Clone, Debug)]
pub struct Pins(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    in_force: Arc<Manifest>,
    /// What the pinned manifests contain of the log.
    pinned: Vec<Lsn>,
}

/// A manifest whose files, and the log after it, stay until this is dropped.
#[derive(Debug)]
pub struct Pin {
    manifest: Arc<Manifest>,
    pins: Pins,
}

impl Pins {
    pub(crate) fn new(in_force: Arc<Manifest>) -> Self {
        Self(Arc::new(Mutex::new(State { in_force, pinned: Vec::new() })))
    }

    pub fn pin(&self) -> Pin {
        let mut state = self.state();
        let manifest = Arc::clone(&state.in_force);
        state.pinned.push(manifest.applied);
        Pin { manifest, pins: self.clone() }
    }

    /// The first record that the manifest in force or a pinned one needs of the log.
    pub fn log_from(&self) -> Lsn {
        let state = self.state();
        let oldest = state.pinned.iter().copied().fold(state.in_force.applied, Lsn::min);
        oldest.next()
    }

    /// A manifest took the place of the one in force. Who pins from now on gets it.
    pub(crate) fn replaced(&self, by: &Arc<Manifest>) {
        self.state().in_force = Arc::clone(by);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No method panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Deref for Pin {
    type Target = Manifest;

    fn deref(&self) -> &Manifest {
        &self.manifest
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.state();
        if let Some(at) = state.pinned.iter().position(|lsn| *lsn == self.manifest.applied) {
            state.pinned.swap_remove(at);
        }
    }
}
