//! All rules of an engine: those that run and those that are broken, each of which says why. One
//! broken file never stops the others.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use tidewatch_alerts::Outcome;
use tidewatch_model::Minute;
use tidewatch_query::{Catalog, QueryError, Reading, Workspace};

use crate::{Rule, RuleError, RuleFile, RuleLimits};

/// A rule's verdict on one minute, as it is journalled: the same inputs give the same bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    pub rule: String,
    pub minute: Minute,
    pub outcome: Outcome,
}

#[derive(Clone, Debug, Default)]
pub struct RuleSet {
    rules: Vec<Arc<Rule>>,
    broken: Vec<RuleError>,
}

impl RuleSet {
    /// `files` are paths (for messages) and texts. Rules are ordered by name; disabled ones are left out.
    pub fn load(files: Vec<(String, String)>, catalog: &Catalog) -> Self {
        let mut set = Self::default();
        let mut names: BTreeMap<String, String> = BTreeMap::new();
        for (path, text) in files {
            let file = match RuleFile::parse(&path, &text) {
                Ok(file) => file,
                Err(error) => {
                    set.broken.push(error);
                    continue;
                }
            };
            let name = file.header.name.clone();
            if let Some(other) = names.get(&name) {
                let message = format!("the rule `{name}` stands in {other} already; give this one another name");
                let line = text.lines().position(|line| line.trim_start().starts_with("name")).map(|at| at + 1);
                set.broken.push(RuleError { file: path, line, message });
                continue;
            }
            names.insert(name, path);
            if !file.header.enabled {
                continue;
            }
            match Rule::prepare(file, catalog) {
                Ok(rule) => set.rules.push(Arc::new(rule)),
                Err(error) => set.broken.push(error),
            }
        }
        set.rules.sort_by(|left, right| left.name().cmp(right.name()));
        set
    }

    pub fn rules(&self) -> &[Arc<Rule>] {
        &self.rules
    }

    pub fn broken(&self) -> &[RuleError] {
        &self.broken
    }

    pub fn rule(&self, name: &str) -> Option<&Arc<Rule>> {
        self.rules.iter().find(|rule| rule.name() == name)
    }

    /// Every rule's verdict on one minute, in the order of names. The reading's baselines are shared by the
    /// rules, so give each minute a reading of its own. The future belongs on a runtime with a timer.
    pub async fn judge(
        &self,
        minute: Minute,
        tables: &Reading,
        limits: RuleLimits,
    ) -> Result<Vec<Verdict>, QueryError> {
        self.judge_timed(minute, tables, limits, |_| ()).await
    }

    /// As `judge`; what `begin` answers for a rule's name is dropped when that rule has judged.
    pub async fn judge_timed<T>(
        &self,
        minute: Minute,
        tables: &Reading,
        limits: RuleLimits,
        begin: impl Fn(&str) -> T,
    ) -> Result<Vec<Verdict>, QueryError> {
        // Rules run one after the other, so they can share the room for their memory.
        let workspace = Workspace::new(limits.memory_bytes)?;
        let mut verdicts = Vec::with_capacity(self.rules.len());
        for rule in &self.rules {
            let timer = begin(rule.name());
            let outcome = rule.judge(minute, tables, &workspace, limits.time).await;
            drop(timer);
            if let Outcome::Failed { reason } = &outcome {
                tracing::warn!(rule = rule.name(), %minute, reason, "a rule failed to judge a minute");
            }
            verdicts.push(Verdict { rule: rule.name().to_owned(), minute, outcome });
        }
        Ok(verdicts)
    }
}
