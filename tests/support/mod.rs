//! What the integration tests stand on: the real binary as a process with ports and a folder of its own, the
//! shared data, and waiting for a condition. It holds no expectation of its own.

mod engine;
mod folder;
mod http;
mod receiver;
mod require;
mod wait;

pub use engine::{Engine, Setup, output, tidewatch};
pub use folder::Folder;
pub use http::{get, get_json, post_json, url_encoded};
pub use receiver::{Delivery, WebhookReceiver};
pub use require::{program, shared, small_disk};
pub use wait::{soon, until};

use tidewatch_model::{Clock, EventTime};

/// What the wall clock says: live events must be near it.
pub fn now() -> EventTime {
    tidewatch::clock::SystemClock.now()
}

/// A view and a rule as query files. Each region that is seen in a minute raises an alert of its own.
pub const REGIONS: [(&str, &str); 2] = [
    (
        "views/regions.sql",
        "CREATE MATERIALIZED VIEW regions WITH (retention = '90 days') AS
         SELECT date_trunc('minute', occurred_at) AS minute, region, sum(count) AS transactions
         FROM transactions GROUP BY ALL",
    ),
    (
        "rules/region-seen.sql",
        "/*\nname = \"region-seen\"\nseverity = \"critical\"\nlookback = \"1 minute\"\nwarmup = \"0m\"\ncooldown = \"0m\"\n\
         summary = \"{{ region }}: {{ value }}\"\n*/\n\
         SELECT minute, region, transactions AS value FROM regions WHERE transactions > 0",
    ),
];

/// A whole number from the environment, where it is set.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a whole number, not `{text}`")))
}

/// The seed of a randomised test: `TIDEWATCH_SEED`, else drawn from the clock; printed, so that a failure can be replayed.
pub fn seed(test: &str) -> u64 {
    let given = std::env::var("TIDEWATCH_SEED").ok().and_then(|text| text.parse().ok());
    let seed = given.unwrap_or_else(|| now().micros().unsigned_abs());
    println!("{test}: seed {seed}; TIDEWATCH_SEED={seed} repeats it");
    seed
}
