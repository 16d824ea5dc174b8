//! Gives meaning to raw settings: raw in, `Config` or every problem out. It looks neither at the
//! disk nor at the network; whether an address is free or a folder writable shows at the start.

use std::net::SocketAddr;

use super::{
    environment::Environment,
    error::{ConfigError, Problem},
    keys::{self, Key},
    raw::Raw,
    read::Reader,
    receivers,
    settings::{
        Config, Durability, IngestSettings, LogFormat, LogSettings, Queries, QuerySettings, RetrySettings,
        RulesSettings, StoreSettings, TelemetrySettings,
    },
};

/// `earlier` are the problems of reading the sources; they are reported together with those found here.
pub fn validate(raw: &Raw, environment: &Environment, earlier: Vec<Problem>) -> Result<Config, ConfigError> {
    let mut reader = Reader::new(raw, earlier);
    let reader = &mut reader;
    let insecure = reader.flag(&keys::INSECURE);
    let (receivers, names) = receivers::receivers(reader, environment);
    let config = Config {
        data_dir: reader.path(&keys::DATA_DIR),
        queries: queries(reader),
        insecure,
        grpc_address: address(reader, &keys::GRPC_ADDRESS, insecure),
        http_address: address(reader, &keys::HTTP_ADDRESS, insecure),
        log: LogSettings {
            durability: durability(reader),
            segment_bytes: reader.size(&keys::LOG_SEGMENT_BYTES).bytes(),
            partitions: u16::try_from(reader.count(&keys::LOG_PARTITIONS)).unwrap_or(u16::MAX),
        },
        ingest: IngestSettings {
            max_in_flight_events: u32::try_from(reader.count(&keys::INGEST_MAX_IN_FLIGHT_EVENTS)).unwrap_or(u32::MAX),
            admission_wait: reader.span(&keys::INGEST_ADMISSION_WAIT),
            idle_after: reader.span(&keys::INGEST_IDLE_AFTER),
        },
        store: StoreSettings {
            head_bytes_max: reader.size(&keys::STORE_HEAD_BYTES_MAX),
            cache_bytes_max: reader.size(&keys::STORE_CACHE_BYTES_MAX),
            raw_bytes_max: reader.size(&keys::STORE_RAW_BYTES_MAX),
            raw_retention: reader.span(&keys::STORE_RAW_RETENTION),
            ledger_retention: reader.span(&keys::STORE_LEDGER_RETENTION),
            disk_bytes_max: reader.size(&keys::STORE_DISK_BYTES_MAX),
            checkpoint_interval: reader.span(&keys::STORE_CHECKPOINT_INTERVAL),
            checkpoint_events: reader.count(&keys::STORE_CHECKPOINT_EVENTS),
        },
        dedup_ids_max: count(reader, &keys::DEDUP_IDS_MAX),
        query: QuerySettings {
            memory: reader.size(&keys::QUERY_MEMORY_BYTES),
            timeout: reader.span(&keys::QUERY_TIMEOUT),
            rows_max: count(reader, &keys::QUERY_ROWS_MAX),
            concurrency: count(reader, &keys::QUERY_CONCURRENCY),
        },
        rules: RulesSettings {
            memory: reader.size(&keys::RULES_MEMORY_BYTES),
            timeout: reader.span(&keys::RULES_TIMEOUT),
        },
        retry: retry(reader),
        routes: receivers::routes(reader, &receivers, &names),
        receivers,
        telemetry: telemetry(reader),
    };
    one_address_each(reader, &config);
    match std::mem::take(&mut reader.problems) {
        problems if problems.is_empty() => Ok(config),
        problems => Err(ConfigError { problems }),
    }
}

fn queries(reader: &mut Reader<'_>) -> Queries {
    let dir = reader.path(&keys::QUERIES_DIR);
    // Writing the default down, as the documented file does, asks for nothing new.
    if keys::QUERIES_DIR.default.is_some_and(|default| dir == std::path::Path::new(default)) {
        Queries::DirOrShipped(dir)
    } else {
        Queries::Dir(dir)
    }
}

fn durability(reader: &mut Reader<'_>) -> Durability {
    match reader.choice(&keys::LOG_DURABILITY).as_str() {
        "os" => Durability::Os,
        "memory" => Durability::Memory,
        _ => Durability::Fsync,
    }
}

fn count(reader: &mut Reader<'_>, key: &Key) -> usize {
    // Every bound lies below 2^32, and the engine runs on 64 bits.
    usize::try_from(reader.count(key)).unwrap_or(usize::MAX)
}

fn address(reader: &mut Reader<'_>, key: &Key, insecure: bool) -> SocketAddr {
    let Some(address) = reader.address(key) else { return SocketAddr::from(([127, 0, 0, 1], 0)) };
    if !insecure && !address.ip().is_loopback() {
        let message = format!(
            "`{}` is {address}, which other machines can reach, and without access control anyone on them could send \
             events and read every transaction; use an address such as 127.0.0.1:{}, or set `insecure = true` to say \
             that the network around it is protected",
            key.path,
            address.port()
        );
        reader.problem(reader.origin(key), message);
    }
    address
}

fn one_address_each(reader: &mut Reader<'_>, config: &Config) {
    // Port 0 asks for any free port, which is another one each time.
    if config.grpc_address == config.http_address && config.grpc_address.port() != 0 {
        let message =
            format!("`http.address` and `grpc.address` are both {}; give each its own port", config.http_address);
        reader.problem(reader.origin(&keys::HTTP_ADDRESS), message);
    }
}

fn retry(reader: &mut Reader<'_>) -> RetrySettings {
    let retry = RetrySettings {
        first: reader.span(&keys::ALERTS_RETRY_FIRST),
        longest: reader.span(&keys::ALERTS_RETRY_LONGEST),
        attempts_max: u32::try_from(reader.count(&keys::ALERTS_RETRY_ATTEMPTS_MAX)).unwrap_or(u32::MAX),
        retry_for: reader.span(&keys::ALERTS_RETRY_FOR),
    };
    if retry.longest < retry.first {
        let (longest, first) = (retry.longest, retry.first);
        let message = format!("`alerts.retry_longest` is {longest}, less than `alerts.retry_first`, which is {first}");
        reader.problem(reader.origin(&keys::ALERTS_RETRY_LONGEST), message);
    }
    retry
}

fn telemetry(reader: &mut Reader<'_>) -> TelemetrySettings {
    let log_format = match reader.choice(&keys::TELEMETRY_LOG_FORMAT).as_str() {
        "text" => LogFormat::Text,
        "json" => LogFormat::Json,
        _ => LogFormat::Auto,
    };
    let log_level = reader.text(&keys::TELEMETRY_LOG_LEVEL);
    if let Err(error) = tracing_subscriber::EnvFilter::builder().parse(&log_level) {
        let message = format!(
            "`telemetry.log_level` is `{log_level}`, which is not understood ({error}); write error, warn, info, debug \
             or trace, or directives such as info,tidewatch_log=debug"
        );
        reader.problem(reader.origin(&keys::TELEMETRY_LOG_LEVEL), message);
    }
    let otlp_endpoint = reader.optional_text(&keys::TELEMETRY_OTLP_ENDPOINT);
    let usable =
        |endpoint: &String| reqwest::Url::parse(endpoint).is_ok_and(|url| url.scheme() == "http" && url.has_host());
    if !otlp_endpoint.iter().all(usable) {
        let message = "`telemetry.otlp_endpoint` must be an http:// address with a port, such as \
                       http://127.0.0.1:4317; to reach a collector over TLS, run one beside the engine that forwards";
        reader.problem(reader.origin(&keys::TELEMETRY_OTLP_ENDPOINT), message.to_owned());
    }
    TelemetrySettings { log_format, log_level, otlp_endpoint, service_name: reader.text(&keys::TELEMETRY_SERVICE_NAME) }
}
