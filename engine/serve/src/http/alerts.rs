//! What if, what is firing, and the rules.

use std::{collections::BTreeMap, sync::Arc};

use axum::{Json, body::Body, extract::State, http::HeaderMap};
use serde::Serialize;
use serde_json::{Map, Value};
use tidewatch_model::{Minute, Severity, limits};

use super::{Site, body, problem::Problem};
use crate::{
    engine::{Premise, Verdict},
    excerpt::{excerpt, quoted},
    json::kind_of,
    mask::mask,
    report::{AlertReport, RuleReport, minute},
};

const BODY_BYTES_MAX: usize = 1 << 20;

#[derive(Serialize)]
pub(super) struct Answer {
    alert: bool,
    severity: Option<Severity>,
    /// The start of the minute that was judged.
    #[serde(serialize_with = "minute")]
    minute: Minute,
    dispatched: bool,
    verdicts: Vec<Judged>,
}

#[derive(Serialize)]
struct Judged {
    rule: String,
    severity: Severity,
    labels: BTreeMap<String, String>,
    values: BTreeMap<String, f64>,
    summary: String,
    warming_up: bool,
}

#[derive(Serialize)]
pub(super) struct Rules {
    rules: Vec<RuleReport>,
}

/// Text fields are keys, number fields are values.
pub(super) async fn post_evaluate(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Answer>, Problem> {
    let premise = premise(&body::object(&headers, body, BODY_BYTES_MAX).await?)?;
    let dispatched = premise.dispatch;
    let evaluation = site.edge.engine().evaluate(premise).await?;
    Ok(Json(Answer {
        alert: evaluation.alert,
        severity: evaluation.severity,
        minute: evaluation.minute,
        dispatched,
        verdicts: evaluation.verdicts.into_iter().map(judged).collect(),
    }))
}

pub(super) async fn get_alerts(State(site): State<Arc<Site>>) -> Json<AlertReport> {
    Json(site.edge.engine().alerts().await)
}

pub(super) async fn get_rules(State(site): State<Arc<Site>>) -> Json<Rules> {
    Json(Rules { rules: site.edge.engine().rules().await })
}

fn premise(fields: &Map<String, Value>) -> Result<Premise, Problem> {
    if fields.len() > limits::EVALUATE_FIELDS_MAX {
        let (count, max) = (fields.len(), limits::EVALUATE_FIELDS_MAX);
        return Err(Problem::bad(format!("the body has {count} fields; at most {max} are allowed")));
    }
    let mut premise = Premise::default();
    for (name, value) in fields {
        match value {
            Value::Bool(dispatch) if name == "dispatch" => premise.dispatch = *dispatch,
            _ if name == "dispatch" => return Err(Problem::bad("`dispatch` must be true or false")),
            Value::String(text) if text.len() > limits::TEXT_BYTES_MAX => {
                let max = limits::TEXT_BYTES_MAX;
                return Err(Problem::bad(format!("{} has more than {max} bytes", quoted(name))));
            }
            Value::String(text) => {
                premise.keys.insert(excerpt(name), mask(text).into_owned());
            }
            Value::Number(number) => {
                let number = number.as_f64().ok_or_else(|| Problem::bad(format!("{} is no number", quoted(name))))?;
                premise.values.insert(excerpt(name), number);
            }
            other => {
                let message = "must be text (a key) or a number (a value), not";
                return Err(Problem::bad(format!("{} {message} {}", quoted(name), kind_of(other))));
            }
        }
    }
    if premise.values.is_empty() {
        return Err(Problem::bad(
            "there is no number to judge: send for example {\"status\": \"failed\", \"count\": 100}",
        ));
    }
    Ok(premise)
}

fn judged(verdict: Verdict) -> Judged {
    Judged {
        rule: verdict.rule,
        severity: verdict.severity,
        labels: verdict.labels,
        values: verdict.values,
        summary: verdict.summary,
        warming_up: verdict.warming_up,
    }
}
