//! Rule files, what they may say, and their verdicts minute by minute. It delivers nothing, keeps no
//! state between minutes, and reads no disk: files come as text, tables as a `Reading`.

mod check;
mod file;
mod locality;
mod overlay;
mod premise;
mod rows;
mod rule;
mod set;
mod summary;

pub use file::{Header, RuleError, RuleFile};
pub use premise::{Evaluation, Premise, PremiseError};
pub use rule::{Rule, RuleLimits};
pub use set::{RuleSet, Verdict};
pub use summary::spoken;
pub use tidewatch_alerts::{Outcome, RuleAlerting, VerdictRow};

#[cfg(test)]
mod tests;
