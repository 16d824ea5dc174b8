//! What the newest verdict said of each running alert, for the people who look. A reading decides nothing, so it
//! is not journalled. A checkpoint holds it, so that a restart shows people what they saw before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tidewatch_model::{Minute, Severity};

use crate::{AlertId, Values, VerdictRow};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    pub minute: Minute,
    pub severity: Severity,
    #[serde(with = "crate::transition::values_as_text")]
    pub values: Values,
    pub summary: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Readings(BTreeMap<AlertId, Reading>);

impl Readings {
    pub fn note(&mut self, alert: AlertId, minute: Minute, row: &VerdictRow) {
        let (severity, values, summary) = (row.severity, row.values.clone(), row.summary.clone());
        self.put(alert, Reading { minute, severity, values, summary });
    }

    pub fn put(&mut self, alert: AlertId, reading: Reading) {
        self.0.insert(alert, reading);
    }

    pub fn forget(&mut self, alert: AlertId) {
        self.0.remove(&alert);
    }

    pub fn get(&self, alert: AlertId) -> Option<&Reading> {
        self.0.get(&alert)
    }
}
