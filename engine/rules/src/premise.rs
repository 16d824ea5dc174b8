//! "What would the rules say if …": the minute after the newest sealed one, made up from the newest
//! sealed one with the given keys' measures replaced. Nothing is written and nobody is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use tidewatch_model::{Minute, ViewMeta};
use tidewatch_query::{Baselines, MinuteTable, QueryError, Reading, Scope};

use crate::{RuleLimits, RuleSet, Verdict, overlay::Overlay};

/// Keys and the values that their measures are supposed to have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Premise {
    pub keys: BTreeMap<String, String>,
    pub values: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub minute: Minute,
    pub verdicts: Vec<Verdict>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PremiseError {
    /// The premise names what no view has.
    #[error("{0}")]
    Unknown(String),
    #[error("no minute is sealed yet, so there is none after it to evaluate; send events first")]
    NoHistory,
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl RuleSet {
    /// All rules' verdicts on the supposed minute.
    pub async fn evaluate(
        &self,
        premise: &Premise,
        tables: &Reading,
        limits: RuleLimits,
    ) -> Result<Evaluation, PremiseError> {
        let newest = tables.views().filter_map(|view| view.sealed_through()).max().ok_or(PremiseError::NoHistory)?;
        let minute = newest.next();
        let values = known_values(premise, tables)?;
        let mut touched = 0;
        let mut views: Vec<Arc<dyn MinuteTable>> = Vec::new();
        // Rules read no roll-ups.
        for view in tables.views().filter(|view| !view.meta().window.is_roll_up()) {
            let meta = view.meta();
            let concerned = premise.keys.keys().all(|key| has_key(meta, key))
                && values.keys().any(|value| has_measure(meta, value));
            touched += usize::from(concerned);
            let supposed = concerned.then_some((&premise.keys, &values));
            let overlay = Overlay::new(Arc::clone(view), minute, supposed)
                .map_err(|error| PremiseError::Query(QueryError::Internal(error.to_string())))?;
            views.push(Arc::new(overlay));
        }
        if touched == 0 {
            return Err(PremiseError::Unknown(format!(
                "no view has all of {} as keys together with one of the measures {}",
                names(premise.keys.keys()),
                names(values.keys())
            )));
        }
        let named = tables.named_tables().cloned();
        let supposed = Reading::new(views, named, Scope::sealed(minute, minute), Baselines::shared());
        Ok(Evaluation { minute, verdicts: self.judge(minute, &supposed, limits).await? })
    }
}

/// The values by the measures' own names; `count` is another name of `transactions`.
fn known_values(premise: &Premise, tables: &Reading) -> Result<BTreeMap<String, f64>, PremiseError> {
    let keys: BTreeSet<&str> =
        tables.views().flat_map(|view| view.meta().keys.iter().map(|key| key.name().as_str())).collect();
    if let Some(unknown) = premise.keys.keys().find(|key| !keys.contains(key.as_str())) {
        let message = format!("there is no key `{unknown}`; the views' keys are {}", names(&keys));
        return Err(PremiseError::Unknown(message));
    }
    let measures: BTreeSet<&str> = tables
        .views()
        .flat_map(|view| view.meta().measures.iter().map(|measure| measure.field.name().as_str()))
        .collect();
    let mut values = BTreeMap::new();
    for (name, value) in &premise.values {
        let own = if name == "count" && !measures.contains("count") { "transactions" } else { name.as_str() };
        if !measures.contains(own) {
            let message = format!("there is no measure `{name}`; the views' measures are {}", names(&measures));
            return Err(PremiseError::Unknown(message));
        }
        if values.insert(own.to_owned(), *value).is_some() {
            let message = format!("`count` and `{own}` name the same measure; give one of them");
            return Err(PremiseError::Unknown(message));
        }
    }
    if values.is_empty() {
        let message = format!("give at least one measure and its value; the views' measures are {}", names(&measures));
        return Err(PremiseError::Unknown(message));
    }
    Ok(values)
}

fn has_key(meta: &ViewMeta, name: &str) -> bool {
    meta.keys.iter().any(|key| key.name() == name)
}

fn has_measure(meta: &ViewMeta, name: &str) -> bool {
    meta.measures.iter().any(|measure| measure.field.name() == name)
}

fn names<S: AsRef<str>>(all: impl IntoIterator<Item = S>) -> String {
    let all: Vec<String> = all.into_iter().map(|name| format!("`{}`", name.as_ref())).collect();
    if all.is_empty() { "nothing".to_owned() } else { all.join(", ") }
}
