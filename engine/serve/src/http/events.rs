//! `POST /api/v1/events`: JSON events in.

use std::sync::Arc;

use axum::{
    Json,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use tidewatch_model::limits;

use super::{Site, body, problem::Problem};
use crate::{
    door::Arrival,
    engine::{Rejected, Submission},
    json::{Form, Parsed},
};

/// Bodies above this are converted on a thread of their own, so that others are still served meanwhile.
const INLINE_BYTES_MAX: usize = 64 << 10;

#[derive(Serialize)]
struct Answer {
    accepted: u64,
    rejected: usize,
    /// 0 where nothing was kept.
    lsn: u64,
    rejections: Vec<Refused>,
}

#[derive(Serialize)]
struct Refused {
    index: u32,
    line: u32,
    field: Option<String>,
    reason: String,
}

pub(super) async fn post_events(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    body::plain(&headers)?;
    let form = form(&headers)?;
    let bytes = body::read(body, limits::REQUEST_BYTES_MAX).await?;
    let arrival = Arrival { at: site.edge.now(), session: None };
    let parsed = parse(Arc::clone(&site), bytes, form, arrival).await?;
    let (any_json, lines, batch) = (parsed.any_json, parsed.lines, parsed.batch);
    let mut answer = Answer {
        accepted: 0,
        rejected: batch.rejected.len(),
        lsn: 0,
        rejections: batch.rejected.iter().take(limits::REJECTIONS_ANSWERED_MAX).map(|r| refused(r, &lines)).collect(),
    };
    if batch.rows.num_rows() > 0 || !batch.rejected.is_empty() {
        let submission = Submission {
            session: None,
            producer: None,
            rows: batch.rows,
            offsets: batch.offsets,
            rejected: batch.rejected,
            arrived_at: arrival.at,
        };
        let receipt = site.edge.engine().submit(submission).await?.await?;
        (answer.accepted, answer.lsn) = (receipt.accepted, receipt.lsn.0);
    }
    let status = if any_json || answer.rejected == 0 { StatusCode::OK } else { StatusCode::BAD_REQUEST };
    Ok((status, Json(answer)).into_response())
}

async fn parse(site: Arc<Site>, bytes: Bytes, form: Form, arrival: Arrival) -> Result<Parsed, Problem> {
    if bytes.len() <= INLINE_BYTES_MAX {
        return site.edge.converted(|| site.door.json(&bytes, form, &arrival)).map_err(Problem::too_large);
    }
    let converted =
        tokio::task::spawn_blocking(move || site.edge.converted(|| site.door.json(&bytes, form, &arrival))).await;
    let converted = converted.map_err(|_| Problem::internal("the conversion of the events failed"))?;
    converted.map_err(Problem::too_large)
}

fn refused(rejected: &Rejected, lines: &[u32]) -> Refused {
    let line = usize::try_from(rejected.index).ok().and_then(|index| lines.get(index));
    Refused {
        index: rejected.index,
        line: line.copied().unwrap_or(1),
        field: rejected.field.clone(),
        reason: rejected.reason.clone(),
    }
}

/// JSON lines where the content type says so. Forms' types are let through: curl sends one by default.
fn form(headers: &HeaderMap) -> Result<Form, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match kind.as_str() {
        "application/x-ndjson"
        | "application/ndjson"
        | "application/jsonl"
        | "application/x-jsonlines"
        | "application/json-lines" => Ok(Form::Lines),
        ""
        | "application/json"
        | "text/json"
        | "text/plain"
        | "application/x-www-form-urlencoded"
        | "application/octet-stream" => Ok(Form::Any),
        _ => {
            let message = "send events as application/json or, one on each line, as application/x-ndjson";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", message))
        }
    }
}
