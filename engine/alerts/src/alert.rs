//! An alert and its states. A state's times live inside its variant, so no alert has a firing time before it
//! fired; an alert that is inactive or resolved is not among the running ones at all.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use tidewatch_model::{Minute, Severity};

use crate::{Labels, Values};

/// The states of an alert that is running.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Running {
    /// Its row is there, but not yet for as long as the rule's `for` asks.
    Pending { since: Minute },
    /// Its row is there.
    Firing {
        since: Minute,
        fired: Minute,
        /// The severities under which people were told of it. Empty while every notice was withheld.
        told: BTreeSet<Severity>,
    },
    /// Its row is gone, but `keep_firing_for` is not over. To the outside it is firing.
    Holding { since: Minute, fired: Minute, told: BTreeSet<Severity>, absent_since: Minute },
}

/// The state that a transition leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reached {
    /// It never fired and is forgotten.
    Inactive,
    Running(Running),
    /// It fired and is over.
    Resolved {
        since: Minute,
        fired: Minute,
        resolved: Minute,
    },
}

/// The four states as the outside knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    Inactive,
    Pending,
    Firing,
    Resolved,
}

/// A running alert, as its last transition left it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alert {
    pub rule: String,
    pub labels: Labels,
    pub severity: Severity,
    #[serde(with = "crate::transition::values_as_text")]
    pub values: Values,
    pub summary: String,
    pub state: Running,
}

impl Running {
    /// The first minute of the alert.
    pub fn since(&self) -> Minute {
        match self {
            Self::Pending { since } | Self::Firing { since, .. } | Self::Holding { since, .. } => *since,
        }
    }

    pub fn phase(&self) -> Phase {
        match self {
            Self::Pending { .. } => Phase::Pending,
            Self::Firing { .. } | Self::Holding { .. } => Phase::Firing,
        }
    }
}

impl Reached {
    pub fn phase(&self) -> Phase {
        match self {
            Self::Inactive => Phase::Inactive,
            Self::Running(running) => running.phase(),
            Self::Resolved { .. } => Phase::Resolved,
        }
    }
}

impl Phase {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inactive => "inactive",
            Self::Pending => "pending",
            Self::Firing => "firing",
            Self::Resolved => "resolved",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
