//! What the newest verdict said of each running alert, for the people who look. A reading decides nothing, so it
//! is not journalled: after a recovery each alert has one again from its next verdict on.

use std::collections::BTreeMap;

use tidewatch_model::{Minute, Severity};

use crate::{AlertId, Values, VerdictRow};

#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    pub minute: Minute,
    pub severity: Severity,
    pub values: Values,
    pub summary: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Readings(BTreeMap<AlertId, Reading>);

impl Readings {
    pub fn note(&mut self, alert: AlertId, minute: Minute, row: &VerdictRow) {
        let (severity, values, summary) = (row.severity, row.values.clone(), row.summary.clone());
        self.0.insert(alert, Reading { minute, severity, values, summary });
    }

    pub fn forget(&mut self, alert: AlertId) {
        self.0.remove(&alert);
    }

    pub fn get(&self, alert: AlertId) -> Option<&Reading> {
        self.0.get(&alert)
    }
}
