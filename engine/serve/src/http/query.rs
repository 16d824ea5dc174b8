//! `POST /api/v1/query`: SQL, read only.

use std::{sync::Arc, time::Duration};

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use tidewatch_model::limits;

use super::{Site, body, problem::Problem, table};
use crate::{engine::Question, excerpt::quoted};

const FIELDS: [&str; 2] = ["sql", "timeout_ms"];

pub(super) async fn post_query(
    State(site): State<Arc<Site>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    // Every character of the SQL may be escaped with six bytes.
    let fields = body::object(&headers, body, 6 * limits::SQL_BYTES_MAX + 1_024).await?;
    if let Some(stranger) = fields.keys().find(|name| !FIELDS.contains(&name.as_str())) {
        return Err(Problem::bad(format!(
            "there is no field {}{}",
            quoted(stranger),
            tidewatch_model::did_you_mean(stranger, FIELDS)
        )));
    }
    let Some(sql) = fields.get("sql").and_then(|sql| sql.as_str()) else {
        return Err(Problem::bad("`sql` is missing: send {\"sql\": \"SELECT …\"}"));
    };
    let timeout = match fields.get("timeout_ms") {
        None | Some(serde_json::Value::Null) => None,
        Some(value) => match value.as_u64() {
            Some(0) | None => return Err(Problem::bad("`timeout_ms` must be a whole number above 0")),
            Some(milliseconds) => Some(Duration::from_millis(milliseconds)),
        },
    };
    let question = Question { sql: sql.to_owned(), parameters: Vec::new(), timeout };
    table::respond(&headers, site.edge.engine().query(question).await?).await
}
