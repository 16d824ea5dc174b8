//! Every key of the configuration: its name, its form, its bounds, its default. The file, the
//! environment, the flags, the messages and the check of `deploy/tidewatch.toml` all follow this
//! one table; what a value means to the engine is the business of `settings`.

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

/// What a key's value looks like. Bounds include both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Path,
    Address,
    Flag,
    Choice(&'static [&'static str]),
    Size {
        min: u64,
        max: u64,
    },
    /// In milliseconds.
    Span {
        min: i64,
        max: i64,
    },
    Count {
        min: u64,
        max: u64,
    },
    Text,
    Url,
    /// A list of tables. In a variable it is written as a TOML array of inline tables.
    Tables,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Key {
    /// The key with its table: `log.durability`.
    pub path: &'static str,
    pub form: Form,
    /// As it would be written in the file; `None` where absence has a meaning of its own.
    pub default: Option<&'static str>,
}

impl Key {
    const fn new(path: &'static str, form: Form, default: Option<&'static str>) -> Self {
        Self { path, form, default }
    }

    /// The variable that sets this key: `TIDEWATCH_LOG_DURABILITY`.
    pub fn variable(&self) -> String {
        format!("{VARIABLE_PREFIX}{}", self.path.replace('.', "_").to_ascii_uppercase())
    }
}

pub const VARIABLE_PREFIX: &str = "TIDEWATCH_";

/// Names the configuration file itself, so that it is no key of it.
pub const CONFIG_VARIABLE: &str = "TIDEWATCH_CONFIG";

/// Variables of the same prefix that belong to the clients and to the tests, not to the server's settings.
pub const FOREIGN_VARIABLES: [&str; 6] = [
    "TIDEWATCH_SERVER",
    "TIDEWATCH_REQUIRE",
    "TIDEWATCH_CASES",
    "TIDEWATCH_SEED",
    "TIDEWATCH_ROUNDS",
    "TIDEWATCH_TEST_DISK",
];

const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;

pub const DATA_DIR: Key = Key::new("data_dir", Form::Path, Some("tidewatch-data"));
pub const QUERIES_DIR: Key = Key::new("queries_dir", Form::Path, Some("queries"));
pub const INSECURE: Key = Key::new("insecure", Form::Flag, Some("false"));

pub const GRPC_ADDRESS: Key = Key::new("grpc.address", Form::Address, Some("127.0.0.1:4700"));
pub const HTTP_ADDRESS: Key = Key::new("http.address", Form::Address, Some("127.0.0.1:4701"));

pub const LOG_DURABILITY: Key = Key::new("log.durability", Form::Choice(&["fsync", "os", "memory"]), Some("fsync"));
pub const LOG_SEGMENT_BYTES: Key = Key::new("log.segment_bytes", Form::Size { min: MIB, max: 4 * GIB }, Some("128MiB"));
pub const LOG_PARTITIONS: Key = Key::new("log.partitions", Form::Count { min: 1, max: 256 }, Some("1"));

pub const INGEST_MAX_IN_FLIGHT_EVENTS: Key =
    Key::new("ingest.max_in_flight_events", Form::Count { min: 1_000, max: 10_000_000 }, Some("100000"));
pub const INGEST_ADMISSION_WAIT: Key =
    Key::new("ingest.admission_wait", Form::Span { min: 0, max: 60 * SECOND }, Some("2 seconds"));
pub const INGEST_IDLE_AFTER: Key =
    Key::new("ingest.idle_after", Form::Span { min: SECOND, max: HOUR }, Some("10 seconds"));

pub const STORE_HEAD_BYTES_MAX: Key =
    Key::new("store.head_bytes_max", Form::Size { min: 16 * MIB, max: TIB }, Some("1GiB"));
pub const STORE_CACHE_BYTES_MAX: Key =
    Key::new("store.cache_bytes_max", Form::Size { min: 0, max: TIB }, Some("256MiB"));
pub const STORE_RAW_BYTES_MAX: Key = Key::new("store.raw_bytes_max", Form::Size { min: 0, max: TIB }, Some("256MiB"));
pub const STORE_RAW_RETENTION: Key =
    Key::new("store.raw_retention", Form::Span { min: HOUR, max: 3_660 * 24 * HOUR }, Some("7 days"));
pub const STORE_LEDGER_RETENTION: Key =
    Key::new("store.ledger_retention", Form::Span { min: HOUR, max: 3_660 * 24 * HOUR }, Some("90 days"));
pub const STORE_DISK_BYTES_MAX: Key =
    Key::new("store.disk_bytes_max", Form::Size { min: 16 * MIB, max: 1_024 * TIB }, Some("1TiB"));
pub const STORE_CHECKPOINT_INTERVAL: Key =
    Key::new("store.checkpoint_interval", Form::Span { min: 100, max: HOUR }, Some("10 seconds"));
pub const STORE_CHECKPOINT_EVENTS: Key =
    Key::new("store.checkpoint_events", Form::Count { min: 1_000, max: 1_000_000_000 }, Some("500000"));

pub const DEDUP_IDS_MAX: Key =
    Key::new("dedup.ids_max", Form::Count { min: 1_000, max: 1_000_000_000 }, Some("10000000"));

pub const QUERY_MEMORY_BYTES: Key = Key::new("query.memory_bytes", Form::Size { min: MIB, max: TIB }, Some("512MiB"));
pub const QUERY_TIMEOUT: Key = Key::new("query.timeout", Form::Span { min: 100, max: 24 * HOUR }, Some("30 seconds"));
pub const QUERY_ROWS_MAX: Key = Key::new("query.rows_max", Form::Count { min: 1, max: 1_000_000_000 }, Some("1000000"));
pub const QUERY_CONCURRENCY: Key = Key::new("query.concurrency", Form::Count { min: 1, max: 256 }, Some("4"));

pub const RULES_MEMORY_BYTES: Key =
    Key::new("rules.memory_bytes", Form::Size { min: 64 * KIB, max: TIB }, Some("128MiB"));
pub const RULES_TIMEOUT: Key = Key::new("rules.timeout", Form::Span { min: 10, max: 60 * SECOND }, Some("5 seconds"));

pub const ALERTS_RETRY_FIRST: Key =
    Key::new("alerts.retry_first", Form::Span { min: 100, max: HOUR }, Some("1 second"));
pub const ALERTS_RETRY_LONGEST: Key =
    Key::new("alerts.retry_longest", Form::Span { min: 100, max: 24 * HOUR }, Some("5 minutes"));
pub const ALERTS_RETRY_ATTEMPTS_MAX: Key =
    Key::new("alerts.retry_attempts_max", Form::Count { min: 1, max: 100_000 }, Some("400"));
pub const ALERTS_RETRY_FOR: Key =
    Key::new("alerts.retry_for", Form::Span { min: SECOND, max: 30 * 24 * HOUR }, Some("24 hours"));
pub const ALERTS_ROUTES: Key = Key::new("alerts.routes", Form::Tables, None);
pub const RECEIVERS: Key = Key::new("receivers", Form::Tables, None);

pub const TELEMETRY_LOG_FORMAT: Key =
    Key::new("telemetry.log_format", Form::Choice(&["auto", "text", "json"]), Some("auto"));
pub const TELEMETRY_LOG_LEVEL: Key = Key::new("telemetry.log_level", Form::Text, Some("info"));
pub const TELEMETRY_OTLP_ENDPOINT: Key = Key::new("telemetry.otlp_endpoint", Form::Url, None);
pub const TELEMETRY_SERVICE_NAME: Key = Key::new("telemetry.service_name", Form::Text, Some("tidewatch"));

/// Every key, in the order of the documented file.
pub const KEYS: [&Key; 36] = [
    &DATA_DIR,
    &QUERIES_DIR,
    &INSECURE,
    &GRPC_ADDRESS,
    &HTTP_ADDRESS,
    &LOG_DURABILITY,
    &LOG_SEGMENT_BYTES,
    &LOG_PARTITIONS,
    &INGEST_MAX_IN_FLIGHT_EVENTS,
    &INGEST_ADMISSION_WAIT,
    &INGEST_IDLE_AFTER,
    &STORE_HEAD_BYTES_MAX,
    &STORE_CACHE_BYTES_MAX,
    &STORE_RAW_BYTES_MAX,
    &STORE_RAW_RETENTION,
    &STORE_LEDGER_RETENTION,
    &STORE_DISK_BYTES_MAX,
    &STORE_CHECKPOINT_INTERVAL,
    &STORE_CHECKPOINT_EVENTS,
    &DEDUP_IDS_MAX,
    &QUERY_MEMORY_BYTES,
    &QUERY_TIMEOUT,
    &QUERY_ROWS_MAX,
    &QUERY_CONCURRENCY,
    &RULES_MEMORY_BYTES,
    &RULES_TIMEOUT,
    &ALERTS_RETRY_FIRST,
    &ALERTS_RETRY_LONGEST,
    &ALERTS_RETRY_ATTEMPTS_MAX,
    &ALERTS_RETRY_FOR,
    &ALERTS_ROUTES,
    &RECEIVERS,
    &TELEMETRY_LOG_FORMAT,
    &TELEMETRY_LOG_LEVEL,
    &TELEMETRY_OTLP_ENDPOINT,
    &TELEMETRY_SERVICE_NAME,
];

/// The keys of one `[[receivers]]`.
pub const RECEIVER_KEYS: [&str; 5] = ["name", "type", "url", "headers", "timeout"];

/// The keys of one `[[alerts.routes]]`.
pub const ROUTE_KEYS: [&str; 4] = ["severity", "severity_at_least", "labels", "receivers"];

pub fn find(path: &str) -> Option<&'static Key> {
    KEYS.iter().copied().find(|key| key.path == path)
}

/// True for `log`, which holds keys, and not for `log.durability`, which is one.
pub fn is_table(path: &str) -> bool {
    KEYS.iter().any(|key| key.path.strip_prefix(path).is_some_and(|rest| rest.starts_with('.')))
}

/// The names of all tables that hold keys, each once.
pub fn tables() -> impl Iterator<Item = &'static str> {
    let table = |key: &&'static Key| key.path.rsplit_once('.').map(|(table, _)| table);
    KEYS.iter().enumerate().filter_map(move |(at, key)| {
        let name = table(key)?;
        let seen = KEYS.iter().take(at).filter_map(table).any(|earlier| earlier == name);
        (!seen).then_some(name)
    })
}
