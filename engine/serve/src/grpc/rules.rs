//! Rules and alerts over gRPC: plain structs of the engine in messages.

use tidewatch_model::{Minute, limits};
use tonic::{Request, Response, Status};
use tracing::Instrument;

use super::{Service, status::unanswered};
use crate::{
    engine::{self, Premise},
    mask::mask,
    proto::tidewatch::v1::{
        Alert, EvaluateRequest, EvaluateResponse, GetStatusRequest, GetStatusResponse, ListRulesRequest,
        ListRulesResponse, Rule, Score, StatusScore, Verdict, alerts_server::Alerts, rules_server::Rules,
    },
    report,
    trace::request_span,
};

#[tonic::async_trait]
impl Rules for Service {
    async fn evaluate(&self, request: Request<EvaluateRequest>) -> Result<Response<EvaluateResponse>, Status> {
        let span = request_span(&self.edge, "Evaluate", request.metadata().as_ref());
        let premise = premise(request.into_inner())?;
        let evaluation = self.edge.engine().evaluate(premise).instrument(span).await;
        let evaluation = evaluation.map_err(|error| unanswered(&error))?;
        Ok(Response::new(EvaluateResponse {
            minute: micros(Some(evaluation.minute)),
            verdicts: evaluation.verdicts.into_iter().map(verdict).collect(),
            alert: evaluation.alert,
            severity: evaluation.severity.map(|severity| severity.name().to_owned()).unwrap_or_default(),
        }))
    }

    async fn list_rules(&self, request: Request<ListRulesRequest>) -> Result<Response<ListRulesResponse>, Status> {
        let span = request_span(&self.edge, "ListRules", request.metadata().as_ref());
        let rules = self.edge.engine().rules().instrument(span).await;
        Ok(Response::new(ListRulesResponse { rules: rules.into_iter().map(rule).collect() }))
    }
}

#[tonic::async_trait]
impl Alerts for Service {
    async fn get_status(&self, request: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        let span = request_span(&self.edge, "GetStatus", request.metadata().as_ref());
        let report = self.edge.engine().alerts().instrument(span).await;
        Ok(Response::new(GetStatusResponse {
            alerts: report.alerts.into_iter().map(alert).collect(),
            sealed_through: micros(report.sealed_through),
            scores: report.scores.into_iter().map(score).collect(),
            statuses: report.statuses.into_iter().map(status_score).collect(),
        }))
    }
}

fn premise(request: EvaluateRequest) -> Result<Premise, Status> {
    let fields = request.keys.len() + request.values.len();
    if fields > limits::EVALUATE_FIELDS_MAX {
        let max = limits::EVALUATE_FIELDS_MAX;
        return Err(Status::invalid_argument(format!("the request has {fields} fields; at most {max} are allowed")));
    }
    if let Some((name, value)) = request.values.iter().find(|(_, value)| !value.is_finite()) {
        return Err(Status::invalid_argument(format!("value `{}` is {value}; it must be a number", mask(name))));
    }
    if let Some((name, _)) = request.keys.iter().find(|(_, value)| value.len() > limits::TEXT_BYTES_MAX) {
        let max = limits::TEXT_BYTES_MAX;
        return Err(Status::invalid_argument(format!("key `{}` has more than {max} bytes", mask(name))));
    }
    let keys = request.keys.into_iter().map(|(name, value)| (name, mask(&value).into_owned())).collect();
    Ok(Premise { keys, values: request.values, dispatch: request.dispatch })
}

/// The start of a minute; 0 for none.
fn micros(minute: Option<Minute>) -> i64 {
    minute.map_or(0, |minute| minute.start().micros())
}

fn verdict(verdict: engine::Verdict) -> Verdict {
    Verdict {
        rule: verdict.rule,
        severity: verdict.severity.name().to_owned(),
        labels: verdict.labels,
        values: verdict.values,
        summary: verdict.summary,
        warming_up: verdict.warming_up,
    }
}

fn rule(rule: report::RuleReport) -> Rule {
    Rule {
        severity: rule.severity.name().to_owned(),
        name: rule.name,
        file: rule.file,
        sql: rule.sql,
        error: rule.error.unwrap_or_default(),
        judged_through: micros(rule.judged_through),
        rows: rule.rows,
    }
}

fn alert(alert: report::Alert) -> Alert {
    Alert {
        rule: alert.rule,
        severity: alert.severity.name().to_owned(),
        state: alert.state.name().to_owned(),
        labels: alert.labels,
        values: alert.values,
        summary: alert.summary,
        since: micros(Some(alert.since)),
    }
}

fn status_score(score: report::StatusScore) -> StatusScore {
    let report::StatusScore { status, minute, value, usual, score } = score;
    StatusScore { status, minute: micros(Some(minute)), value, usual, score }
}

fn score(score: report::Score) -> Score {
    Score { rule: score.rule, labels: score.labels, values: score.values, minute: micros(Some(score.minute)) }
}
