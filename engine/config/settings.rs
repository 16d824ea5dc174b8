//! The validated configuration: plain types, every value within its bounds, nothing left to check.
//! It holds no component and starts nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
};

use tidewatch_model::{Severity, Span};

use super::{
    secret::{Secret, SecretUrl},
    size::Size,
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    pub data_dir: PathBuf,
    pub queries: Queries,
    /// True where the operator has said that addresses off loopback may be served without access control.
    pub insecure: bool,
    pub grpc_address: SocketAddr,
    pub http_address: SocketAddr,
    pub log: LogSettings,
    pub ingest: IngestSettings,
    pub store: StoreSettings,
    pub dedup_ids_max: usize,
    pub query: QuerySettings,
    pub rules: RulesSettings,
    pub retry: RetrySettings,
    /// In the order of the file; never empty, and every receiver that they name exists.
    pub routes: Vec<Route>,
    /// At least one of them is a log.
    pub receivers: Vec<Receiver>,
    pub telemetry: TelemetrySettings,
}

/// Where streams, views and rules come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Queries {
    /// Nothing was said: this folder where it exists, else the files that are part of the binary.
    DirOrShipped(PathBuf),
    /// The operator named this folder: it must exist.
    Dir(PathBuf),
}

/// What an acknowledged event survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A crash of the process and of the machine, and a power cut: the disk has confirmed.
    Fsync,
    /// A crash of the process; not one of the machine.
    Os,
    /// Nothing: for tests and demonstrations.
    Memory,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub durability: Durability,
    pub segment_bytes: u64,
    pub partitions: u16,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IngestSettings {
    pub max_in_flight_events: u32,
    pub admission_wait: Span,
    pub idle_after: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreSettings {
    pub head_bytes_max: Size,
    pub cache_bytes_max: Size,
    pub raw_bytes_max: Size,
    pub raw_retention: Span,
    pub ledger_retention: Span,
    pub disk_bytes_max: Size,
    pub checkpoint_interval: Span,
    pub checkpoint_events: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuerySettings {
    pub memory: Size,
    pub timeout: Span,
    pub rows_max: usize,
    pub concurrency: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RulesSettings {
    pub memory: Size,
    pub timeout: Span,
}

/// How often and for how long a delivery of an alert is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetrySettings {
    pub first: Span,
    pub longest: Span,
    pub attempts_max: u32,
    /// A delivery older than this that fails is put aside as dead.
    pub retry_for: Span,
}

/// An alert goes to the receivers of every route that matches it, to each once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub severities: Severities,
    /// Labels that the alert must have with exactly these values.
    pub labels: BTreeMap<String, String>,
    /// Names of receivers; never empty.
    pub receivers: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Severities {
    AtLeast(Severity),
    /// Never empty.
    Exactly(BTreeSet<Severity>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    pub name: String,
    pub kind: ReceiverKind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiverKind {
    /// One JSON line per transition on the engine's standard output.
    Log,
    Webhook(Webhook),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    pub url: SecretUrl,
    pub headers: Vec<(String, Secret)>,
    /// Of one attempt.
    pub timeout: Span,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelemetrySettings {
    pub log_format: LogFormat,
    /// A level, or directives such as `info,tidewatch_log=debug`; known to parse.
    pub log_level: String,
    /// Where spans are exported to; nowhere where absent.
    pub otlp_endpoint: Option<String>,
    pub service_name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text where standard error is a terminal, JSON otherwise.
    Auto,
    Text,
    Json,
}
