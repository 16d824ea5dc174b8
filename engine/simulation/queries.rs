//! What the simulated engine computes: a stream, views that show each event, and rules that find something.

use std::sync::Arc;

use anyhow::anyhow;
use tidewatch_views::{compile_stream, compile_view};

use crate::core::Plan;

const STREAM: &str = "\
CREATE TABLE transactions (
    event_id     TEXT,
    occurred_at  TIMESTAMP NOT NULL,
    status       TEXT NOT NULL,
    account_id   TEXT,
    amount_minor BIGINT
) WITH (event_time = 'occurred_at', id = 'event_id', lateness = '20 seconds', dedup_span = '1 day', live_for = '24 hours')";

/// Each event has an account of its own, so this view shows how often each was counted.
pub const BY_EVENT: &str = "by_event";
pub const BY_STATUS: &str = "by_status";

const VIEWS: [(&str, &str); 2] = [
    (
        "views/by_event.sql",
        "CREATE MATERIALIZED VIEW by_event WITH (retention = '90 days') AS
         SELECT date_trunc('minute', occurred_at) AS minute, account_id, count(*) AS transactions,
                sum(amount_minor) AS amount
         FROM transactions GROUP BY ALL",
    ),
    (
        "views/by_status.sql",
        "CREATE MATERIALIZED VIEW by_status WITH (
             retention = '90 days', fill = 'zero',
             retention_5m = '90 days', retention_1h = '1 year', retention_1d = '10 years'
         ) AS
         SELECT date_trunc('minute', occurred_at) AS minute, status, count(*) AS transactions,
                sum(amount_minor) AS amount
         FROM transactions GROUP BY ALL",
    ),
];

pub const RULES: [(&str, &str); 2] = [
    (
        "failures",
        "/*
name = \"failures\"
severity = \"critical\"
lookback = \"10 minutes\"
warmup = \"0m\"
keep_firing_for = \"2m\"
cooldown = \"3m\"
summary = \"{{ transactions }} failures\"
*/
SELECT minute, status, transactions FROM by_status WHERE status = 'failed' AND transactions >= 4",
    ),
    (
        "rise",
        "/*
name = \"rise\"
severity = \"high\"
lookback = \"10 minutes\"
warmup = \"0m\"
summary = \"{{ transactions }} where {{ usual }} are usual\"
*/
WITH usual AS (
    SELECT minute, status, transactions, trailing_mean(transactions, '5 minutes') AS usual FROM by_status
)
SELECT minute, status, transactions, usual FROM usual WHERE transactions > 3 + 2 * usual",
    ),
];

pub fn plan() -> anyhow::Result<Plan> {
    let stream = compile_stream("streams/transactions.sql", STREAM).map_err(|refusal| anyhow!("{refusal}"))?;
    let mut views = Vec::new();
    for (name, text) in VIEWS {
        views.push(Arc::new(compile_view(&stream, name, text).map_err(|refusal| anyhow!("{refusal}"))?));
    }
    let rules = RULES.iter().map(|(name, text)| (format!("rules/{name}.sql"), (*text).to_owned())).collect();
    Ok(Plan { stream, views, rules })
}
