//! What one execution of a plan reads: which tables, which minutes, whether open ones too.
//! Plans hold no data; the reading travels in the execution's context, so that one plan serves
//! every minute and several readings may run it at once.

use std::{collections::BTreeMap, sync::Arc};

use datafusion::{
    common::{DataFusionError, Result},
    execution::TaskContext,
};
use tidewatch_model::Minute;
use tidewatch_store::TableSnapshot;

use crate::{Baselines, MinuteTable};

/// The minutes that a reading lets a scan return. Statistics may look further back than `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scope {
    pub from: Minute,
    pub to: Minute,
    /// Whether minutes that are not sealed yet are seen.
    pub open: bool,
}

impl Scope {
    pub const EVERYTHING: Self =
        Self { from: Minute::from_index(i64::MIN), to: Minute::from_index(i64::MAX), open: true };

    pub const fn sealed(from: Minute, to: Minute) -> Self {
        Self { from, to, open: false }
    }
}

#[derive(Clone, Debug)]
pub struct Reading {
    views: BTreeMap<String, Arc<dyn MinuteTable>>,
    named: BTreeMap<String, TableSnapshot>,
    scope: Scope,
    baselines: Arc<Baselines>,
}

impl Reading {
    pub fn new(
        views: impl IntoIterator<Item = Arc<dyn MinuteTable>>,
        named: impl IntoIterator<Item = TableSnapshot>,
        scope: Scope,
        baselines: Arc<Baselines>,
    ) -> Self {
        Self {
            views: views.into_iter().map(|view| (view.meta().name.clone(), view)).collect(),
            named: named.into_iter().map(|table| (table.shape().name.clone(), table)).collect(),
            scope,
            baselines,
        }
    }

    /// The same tables, other minutes.
    #[must_use]
    pub fn with_scope(&self, scope: Scope) -> Self {
        Self { scope, ..self.clone() }
    }

    pub fn views(&self) -> impl Iterator<Item = &Arc<dyn MinuteTable>> {
        self.views.values()
    }

    pub fn view(&self, name: &str) -> Option<&Arc<dyn MinuteTable>> {
        self.views.get(name)
    }

    pub fn named(&self, name: &str) -> Option<&TableSnapshot> {
        self.named.get(name)
    }

    pub fn named_tables(&self) -> impl Iterator<Item = &TableSnapshot> {
        self.named.values()
    }

    pub fn scope(&self) -> Scope {
        self.scope
    }

    pub fn baselines(&self) -> &Arc<Baselines> {
        &self.baselines
    }

    /// The reading that an execution was started with.
    pub(crate) fn of(context: &TaskContext) -> Result<Arc<Self>> {
        context
            .session_config()
            .get_extension::<Self>()
            .ok_or_else(|| DataFusionError::Internal("a plan ran without a reading".to_owned()))
    }
}
