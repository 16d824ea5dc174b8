//! What a receiver is sent, version 1. Fields are only ever added within a version; a receiver ignores those it does
//! not know. The webhook posts it as one JSON document, the log writes it as one line.
//!
//! | field | meaning |
//! |---|---|
//! | `version` | 1 |
//! | `key` | names this transition for good; the same in each attempt: drop what was seen |
//! | `rule`, `severity`, `labels`, `summary` | whose alert, how bad, told apart by, in a sentence |
//! | `event` | `fired`, `raised`, `lowered`, `announced` (its first notice was held back), `resolved`, `limit_reached` |
//! | `state`, `previous_state` | `inactive`, `pending`, `firing`, `resolved` |
//! | `values` | the numbers of the rule's row; null where one is not finite |
//! | `minute`, `first_minute` | start of the judged minute and of the alert's first, RFC 3339 in UTC |
//! | `generator_url` | where to look, if configured |

use std::collections::BTreeMap;

use serde::Serialize;
use tidewatch_alerts::{Labels, Transition};

pub const BODY_VERSION: u32 = 1;

#[derive(Debug, Serialize)]
pub struct Body<'a> {
    version: u32,
    key: String,
    rule: &'a str,
    severity: &'static str,
    event: &'static str,
    state: &'static str,
    previous_state: &'static str,
    labels: &'a Labels,
    values: BTreeMap<&'a str, Option<f64>>,
    summary: &'a str,
    minute: String,
    first_minute: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    generator_url: Option<&'a str>,
}

impl<'a> Body<'a> {
    pub fn new(transition: &'a Transition, generator_url: Option<&'a str>) -> Self {
        let finite = |value: f64| value.is_finite().then_some(value);
        Self {
            version: BODY_VERSION,
            key: transition.key.to_string(),
            rule: &transition.rule,
            severity: transition.severity.name(),
            event: transition.kind.name(),
            state: transition.to.phase().name(),
            previous_state: transition.from.name(),
            labels: &transition.labels,
            values: transition.values.iter().map(|(name, value)| (name.as_str(), finite(*value))).collect(),
            summary: &transition.summary,
            minute: transition.minute.start().to_string(),
            first_minute: transition.first_minute.start().to_string(),
            generator_url,
        }
    }
}
