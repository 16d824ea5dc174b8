//! The configuration from outside: text and variables in, values or exact messages out.

use std::net::SocketAddr;

use tidewatch_model::{Severity, Span};

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().copied().collect()
}

fn flag(key: &str, value: &str) -> Flag {
    Flag { flag: format!("--set {key}"), key: key.into(), value: value.into() }
}

fn load_text(text: &str, variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    combine(Some(("t.toml", text)), &environment(variables), &[])
}

fn config(text: &str) -> Config {
    load_text(text, &[]).map(|loaded| loaded.config).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn default_config() -> Config {
    combine(None, &Environment::default(), &[]).unwrap().config
}

fn messages(error: &ConfigError) -> Vec<String> {
    error.problems.iter().map(ToString::to_string).collect()
}

/// The text is refused with exactly these messages.
fn check_refused(text: &str, variables: &[(&str, &str)], expected: &[&str]) {
    match load_text(text, variables) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => assert_eq!(messages(&error), expected, "{text}"),
    }
}

#[test]
fn every_default_is_valid_and_within_its_bounds() {
    let config = default_config();
    assert_eq!(config.grpc_address, SocketAddr::from(([127, 0, 0, 1], 4700)));
    assert_eq!(config.http_address, SocketAddr::from(([127, 0, 0, 1], 4701)));
    assert_eq!(config.log.durability, Durability::Fsync);
    assert_eq!(config.queries, Queries::DirOrShipped("queries".into()));
    assert_eq!(config.receivers, [Receiver { name: "log".into(), kind: ReceiverKind::Log }]);
    assert_eq!(config.routes.len(), 1);
    // A default that did not read would silently be zero: writing it down must change nothing.
    for key in keys::KEYS {
        let Some(default) = key.default else { continue };
        let loaded = combine(None, &Environment::default(), &[flag(key.path, default)]);
        assert_eq!(loaded.map(|loaded| loaded.config), Ok(config.clone()), "{}", key.path);
    }
}

#[test]
fn values_are_read_from_the_file() {
    let text = r#"
        data_dir = "/var/lib/tidewatch"
        queries_dir = "rules-of-ours"
        insecure = true
        http.address = "0.0.0.0:80"
        [grpc]
        address = "localhost:0"
        [log]
        durability = "os"
        segment_bytes = 1_048_576
        partitions = 0x10
        [ingest]
        admission_wait = "250ms"
        [store]
        raw_bytes_max = 0
        [telemetry]
        log_format = "json"
        log_level = "info,tidewatch_log=debug"
        otlp_endpoint = "http://127.0.0.1:4317"
    "#;
    let config = config(text);
    assert_eq!(config.data_dir, Path::new("/var/lib/tidewatch"));
    assert_eq!(config.queries, Queries::Dir("rules-of-ours".into()));
    assert_eq!(config.http_address, SocketAddr::from(([0, 0, 0, 0], 80)));
    assert_eq!(config.grpc_address, SocketAddr::from(([127, 0, 0, 1], 0)));
    let log = LogSettings { durability: Durability::Os, segment_bytes: 1 << 20, partitions: 16 };
    assert_eq!(config.log, log);
    assert_eq!(config.ingest.admission_wait, Span::from_micros(250_000));
    assert_eq!(config.store.raw_bytes_max.bytes(), 0);
    assert_eq!(config.telemetry.log_format, LogFormat::Json);
    assert_eq!(config.telemetry.otlp_endpoint.as_deref(), Some("http://127.0.0.1:4317"));
}

#[test]
fn wrong_values_are_refused_with_place_and_remedy() {
    for (text, expected) in [
        ("data_dir = 3", "t.toml:1: `data_dir` is a whole number; write a text in quotes"),
        ("\n\ndata_dir = ''", "t.toml:3: `data_dir` is empty"),
        ("insecure = 'maybe'", "t.toml:1: `insecure` is `maybe`; write true or false"),
        (
            "[grpc]\naddress = 'here'",
            "t.toml:2: `grpc.address` is `here`, which is not an IP address with a port; write for example `127.0.0.1:4700`",
        ),
        (
            "[grpc]\naddress = '0.0.0.0:4700'",
            "t.toml:2: `grpc.address` is 0.0.0.0:4700, which other machines can reach, and without access control anyone \
             on them could send events and read every transaction; use an address such as 127.0.0.1:4700, or set \
             `insecure = true` to say that the network around it is protected",
        ),
        (
            "[http]\naddress = '127.0.0.1:4700'",
            "t.toml:2: `http.address` and `grpc.address` are both 127.0.0.1:4700; give each its own port",
        ),
        ("[log]\ndurability = 'disk'", "t.toml:2: `log.durability` is `disk`; write fsync, os or memory"),
        ("[log]\ndurability = true", "t.toml:2: `log.durability` is true or false; write fsync, os or memory"),
        ("[log]\nsegment_bytes = '3B'", "t.toml:2: `log.segment_bytes` is 3B; it must be from 1MiB to 4GiB"),
        (
            "[log]\nsegment_bytes = -1",
            "t.toml:2: `log.segment_bytes` is -1, which is not a size; write for example `256MiB`, `1GB` or a whole \
             number of bytes",
        ),
        ("[log]\npartitions = 0", "t.toml:2: `log.partitions` is 0; it must be from 1 to 256"),
        (
            "[log]\npartitions = 1.5",
            "t.toml:2: `log.partitions` is a decimal number; write a whole number from 1 to 256",
        ),
        ("[ingest]\nidle_after = '2h'", "t.toml:2: `ingest.idle_after` is 2h; it must be from 1s to 1h"),
        (
            "[query]\ntimeout = 30",
            "t.toml:2: `query.timeout` is 30, which is not a length of time; write for example \"30 seconds\" or \"5m\"",
        ),
        (
            "[telemetry]\notlp_endpoint = 'https://collector:4317'",
            "t.toml:2: `telemetry.otlp_endpoint` must be an http:// address with a port, such as \
             http://127.0.0.1:4317; to reach a collector over TLS, run one beside the engine that forwards",
        ),
    ] {
        check_refused(text, &[], &[expected]);
    }
    let level = load_text("[telemetry]\nlog_level = 'info,x=loud'", &[]).unwrap_err();
    assert!(level.to_string().contains("t.toml:2: `telemetry.log_level` is `info,x=loud`"), "{level}");
}

#[test]
fn unknown_keys_name_the_nearest() {
    for (text, expected) in [
        ("data_dri = 'x'", "t.toml:1: there is no key `data_dri`; the nearest known one is `data_dir`"),
        (
            "[log]\n\ndurabilty = 'os'",
            "t.toml:3: there is no key `log.durabilty`; the nearest known one is `log.durability`",
        ),
        (
            "segment_bytes = 1",
            "t.toml:1: there is no key `segment_bytes`; the nearest known one is `log.segment_bytes`",
        ),
        ("[logs]\ndurability = 'os'", "t.toml:1: there is no table `[logs]`; the nearest known one is `[log]`"),
        ("log = 'os'", "t.toml:1: `log` is a table of settings; write `[log]` and its keys below it"),
        ("[data_dir]\nx = 1", "t.toml:1: `data_dir` is a table; write a text in quotes"),
        ("[log.durability]\nx = 1", "t.toml:1: `log.durability` is a table; write fsync, os or memory"),
        (
            "[[receivers]]\nname = 'a'\ntype = 'log'\nurll = 'x'",
            "t.toml:4: there is no key `urll` in `[[receivers]]`; the nearest known one is `url`",
        ),
        ("[[receiver]]\nname = 'a'", "t.toml:1: there is no key `receiver`; the nearest known one is `[[receivers]]`"),
    ] {
        check_refused(text, &[], &[expected]);
    }
    let flags = [flag("log.durabilty", "os")];
    let error = combine(None, &Environment::default(), &flags).unwrap_err();
    let expected =
        "flag --set log.durabilty: there is no key `log.durabilty`; the nearest known one is `log.durability`";
    assert_eq!(messages(&error), [expected]);
}

#[test]
fn text_that_is_not_toml_is_refused_at_its_line() {
    for (text, line) in [("data_dir =", 1), ("a = 1\n[log\n", 2), ("data_dir = 'a'\ndata_dir = 'b'", 2)] {
        let error = load_text(text, &[]).unwrap_err();
        assert!(messages(&error)[0].starts_with(&format!("t.toml:{line}: this is not TOML: ")), "{error}");
    }
}

#[test]
fn all_problems_are_reported_at_once() {
    let text = "data_dri = 'x'\n[log]\npartitions = 0";
    let error = load_text(text, &[("TIDEWATCH_QUERY_CONCURRENCY", "many")]).unwrap_err();
    let expected = "the configuration cannot be used, for 3 reasons:\
        \n  - t.toml:1: there is no key `data_dri`; the nearest known one is `data_dir`\
        \n  - t.toml:3: `log.partitions` is 0; it must be from 1 to 256\
        \n  - variable TIDEWATCH_QUERY_CONCURRENCY: `query.concurrency` is `many`; write a whole number from 1 to 256";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn flags_beat_variables_beat_the_file_beat_defaults() {
    let file = "[query]\nconcurrency = 2";
    let variable = [("TIDEWATCH_QUERY_CONCURRENCY", "3")];
    let flags = [flag("query.concurrency", "5")];
    for (file, variables, flags, expected, origin) in [
        ("", &[][..], &[][..], 4, "default"),
        (file, &[], &[], 2, "t.toml:2"),
        (file, &variable[..], &[], 3, "variable TIDEWATCH_QUERY_CONCURRENCY"),
        (file, &variable[..], &flags[..], 5, "flag --set query.concurrency"),
    ] {
        let loaded = combine(Some(("t.toml", file)), &environment(variables), flags).unwrap();
        let shown = loaded.shown.iter().find(|shown| shown.key == "query.concurrency").unwrap();
        assert_eq!((loaded.config.query.concurrency, shown.origin.to_string().as_str()), (expected, origin));
    }
}

#[test]
fn every_key_has_a_variable_of_its_own() {
    let variables: std::collections::BTreeSet<String> = keys::KEYS.iter().map(|key| key.variable()).collect();
    assert_eq!(variables.len(), keys::KEYS.len());
    for name in ["TIDEWATCH_DATA_DIR", "TIDEWATCH_GRPC_ADDRESS", "TIDEWATCH_LOG_DURABILITY", "TIDEWATCH_INSECURE"] {
        assert!(variables.contains(name), "{name}");
    }
    // A value that no form accepts shows, for every key, that its variable is read.
    for key in keys::KEYS {
        let variable = key.variable();
        let error = combine(None, &environment(&[(&variable, "")]), &[]).unwrap_err();
        assert!(messages(&error)[0].starts_with(&format!("variable {variable}: ")), "{error}");
    }
}

#[test]
fn variables_that_set_nothing_are_warnings() {
    let variables = [
        ("TIDEWATCH_DATA_DRI", "x"),
        ("TIDEWATCH_SERVER", "x"),
        ("TIDEWATCH_REQUIRE", "x"),
        ("TIDEWATCH_CASES", "x"),
        ("TIDEWATCH_SEED", "x"),
        ("TIDEWATCH_CONFIG", "x"),
        ("OTHER", "x"),
    ];
    let loaded = combine(None, &environment(&variables), &[]).unwrap();
    let expected = "the variable TIDEWATCH_DATA_DRI sets nothing; the nearest known one is TIDEWATCH_DATA_DIR";
    assert_eq!(loaded.warnings, [expected]);
    assert_eq!(loaded.config, default_config());
}

const WEBHOOK: &str = r#"
[[receivers]]
name = "on-call"
type = "webhook"
url = "https://user:hunter2@hooks.example.com:8443/services/T0KEN"
headers = { Authorization = "Bearer ${ON_CALL_TOKEN}", X-Plain = "swordfish" }
timeout = "5 seconds"
[[receivers]]
name = "log"
type = "log"
[[alerts.routes]]
severity = "critical"
labels = { team = "payments" }
receivers = ["on-call", "log"]
[[alerts.routes]]
severity_at_least = "warning"
receivers = "log"
[[alerts.routes]]
receivers = "log"
"#;

#[test]
fn receivers_and_routes_are_read() {
    let config = load_text(WEBHOOK, &[("ON_CALL_TOKEN", "s3cret")]).unwrap().config;
    let ReceiverKind::Webhook(webhook) = &config.receivers[0].kind else { panic!("{:?}", config.receivers) };
    assert_eq!(webhook.url.expose(), "https://user:hunter2@hooks.example.com:8443/services/T0KEN");
    let headers: Vec<_> = webhook.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
    assert_eq!(headers, [("Authorization", "Bearer s3cret"), ("X-Plain", "swordfish")]);
    assert_eq!(webhook.timeout, Span::from_seconds(5));
    assert_eq!(config.receivers[1].kind, ReceiverKind::Log);
    let [first, second, third] = config.routes.as_slice() else { panic!("{:?}", config.routes) };
    assert_eq!(first.severities, Severities::Exactly([Severity::Critical].into()));
    assert_eq!(first.labels.get("team").map(String::as_str), Some("payments"));
    assert_eq!(first.receivers, ["on-call", "log"]);
    assert_eq!(second.severities, Severities::AtLeast(Severity::Warning));
    assert_eq!(third.severities, Severities::AtLeast(Severity::Low));
    // The same list may stand in a variable.
    let variables = [("TIDEWATCH_RECEIVERS", r#"[{ name = "w", type = "log" }]"#)];
    let config = combine(None, &environment(&variables), &[]).unwrap().config;
    assert_eq!(config.receivers, [Receiver { name: "w".into(), kind: ReceiverKind::Log }]);
    assert_eq!(config.routes[0].receivers, ["w"]);
}

#[test]
fn without_routes_the_shipped_policy_holds() {
    let webhook = "[[receivers]]\nname = 'w'\ntype = 'webhook'\nurl = 'http://127.0.0.1:1/'";
    let at_least = |least, receiver: &str| Route {
        severities: Severities::AtLeast(least),
        labels: std::collections::BTreeMap::new(),
        receivers: vec![receiver.to_owned()],
    };
    let log = at_least(Severity::Low, "log");
    assert_eq!(config("").routes, std::slice::from_ref(&log));
    assert_eq!(config(webhook).routes, [log, at_least(Severity::Critical, "w")]);
    assert_eq!(config(webhook).receivers.len(), 2, "the log is there unasked");
}

#[test]
fn wrong_receivers_and_routes_are_refused() {
    let webhook = "[[receivers]]\nname = 'a'\ntype = 'webhook'\n";
    let log = "[[receivers]]\nname = 'log'\ntype = 'log'\n";
    for (text, expected) in [
        ("[[receivers]]\ntype = 'log'".to_owned(), "t.toml:1: `receivers.name` is missing"),
        ("[[receivers]]\nname = 'a'".to_owned(), "t.toml:1: `receivers.type` is missing"),
        (
            "[[receivers]]\nname = 'a'\ntype = 'pager'".to_owned(),
            "t.toml:3: `receivers.type` is `pager`; write webhook or log",
        ),
        (webhook.to_owned(), "t.toml:1: `receivers.url` is missing"),
        (
            format!("{webhook}url = 'ftp://x/'"),
            "t.toml:4: `receivers.url` begins with `ftp:`; write http:// or https://",
        ),
        (
            format!("{webhook}url = 'http://x/${{NOT_SET}}'"),
            "t.toml:4: `receivers.url` takes the variable NOT_SET, which is not set; set it or write the value",
        ),
        (
            format!("{webhook}url = 'http://x/'\nheaders = {{ X = '${{NOT_SET}}' }}"),
            "t.toml:5: `receivers.headers` `X` takes the variable NOT_SET, which is not set; set it or write the value",
        ),
        (
            format!("{webhook}url = 'http://x/'\nheaders = {{ X = '${{A' }}"),
            "t.toml:5: `receivers.headers` `X` has a `${` without its `}`",
        ),
        (
            "[alerts]\nretry_first = '2s'\nretry_longest = '1s'".to_owned(),
            "t.toml:3: `alerts.retry_longest` is 1s, less than `alerts.retry_first`, which is 2s",
        ),
        (
            format!("{webhook}url = 'http://x/'").replace("'a'", "'log'"),
            "t.toml:1: a receiver of type webhook is named `log`, which is the name of the engine's log",
        ),
        (
            "[[alerts.routes]]\nreceivers = ['log']\nseverity = []".to_owned(),
            "t.toml:3: `alerts.routes.severity` is empty, so that the route would match nothing",
        ),
        (
            "[[alerts.routes]]\nreceivers = ['log']\nseverity = 'low'\nseverity_at_least = 'low'".to_owned(),
            "t.toml:4: `alerts.routes.severity_at_least` stands beside `severity`; write only one of them",
        ),
        (
            format!("{log}url = 'http://x/'"),
            "t.toml:4: `receivers.url` has no meaning for a receiver of type `log`; leave it out",
        ),
        (format!("{log}{log}"), "t.toml:4: two receivers are named `log`; give each its own name"),
        (
            "[receivers]\nname = 'a'".to_owned(),
            "t.toml:1: `receivers` is a table; write each as a table under `[[receivers]]`",
        ),
        (
            "[[alerts.routes]]\nseverity = 'low'".to_owned(),
            "t.toml:1: `alerts.routes.receivers` must name at least one receiver",
        ),
        (
            "[[alerts.routes]]\nreceivers = ['lgo']".to_owned(),
            "t.toml:2: `alerts.routes.receivers` names `lgo`, which is no receiver; the nearest one is `log`",
        ),
        (
            "[[alerts.routes]]\nreceivers = ['log']\nseverity = 'dire'".to_owned(),
            "t.toml:3: `alerts.routes.severity` is wrong: `dire` is not a severity; use critical, high, warning (also \
             written medium) or low",
        ),
        (
            "[[alerts.routes]]\nreceivers = ['log']\nlabels = { n = 1 }".to_owned(),
            "t.toml:3: `alerts.routes.labels` `n` is a whole number; write { team = \"payments\" }",
        ),
    ] {
        check_refused(&text, &[], &[expected]);
    }
}

#[test]
fn secrets_are_never_shown() {
    let token = [("ON_CALL_TOKEN", "s3cret")];
    let loaded = load_text(WEBHOOK, &token).unwrap();
    let environment = environment(&token);
    let webhook = &loaded.config.receivers[0];
    let broken = WEBHOOK.replace("https://user", "htps://user").replace("swordfish", "swordfish\\n");
    let error = load_text(&broken, &token).unwrap_err();
    assert_eq!(error.problems.len(), 2, "{error}");
    for text in [format!("{loaded:?}"), format!("{environment:?}"), format!("{webhook:#?}"), error.to_string()] {
        for secret in ["s3cret", "swordfish", "hunter2", "T0KEN"] {
            assert!(!text.contains(secret), "`{secret}` in {text}");
        }
    }
    assert!(format!("{webhook:?}").contains("https://hooks.example.com:8443/…"), "{webhook:?}");
}

const DOCUMENTED: &str = include_str!("../../deploy/tidewatch.toml");

#[test]
fn the_documented_file_says_the_defaults() {
    let loaded = combine(Some(("deploy/tidewatch.toml", DOCUMENTED)), &Environment::default(), &[]);
    assert_eq!(loaded.map(|loaded| loaded.config), Ok(default_config()));
}

#[test]
fn the_documented_file_names_every_key_and_its_examples_are_valid() {
    // An example is a line whose `#` is not followed by a space.
    let uncommented: Vec<&str> = DOCUMENTED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(example) if !example.is_empty() && !example.starts_with(' ') => example,
            _ => line,
        })
        .collect();
    let text = uncommented.join("\n");
    let mut raw = Raw::default();
    let mut problems = Vec::new();
    file::read("deploy/tidewatch.toml", &text, &mut raw, &mut problems);
    assert_eq!(problems, []);
    for key in keys::KEYS {
        assert!(raw.get(key).is_some(), "`{}` is not documented", key.path);
    }
    for (list, known) in [(&keys::RECEIVERS, &keys::RECEIVER_KEYS[..]), (&keys::ALERTS_ROUTES, &keys::ROUTE_KEYS[..])] {
        let Some(Located { value: RawValue::Array(tables), .. }) = raw.get(list) else { panic!("{}", list.path) };
        for key in known {
            let named = |table: &Located| matches!(&table.value, RawValue::Table(fields) if fields.iter().any(|(name, _)| name == key));
            assert!(tables.iter().any(named), "`{key}` of `[[{}]]` is not documented", list.path);
        }
    }
    let loaded = load_text(&text, &[("ON_CALL_TOKEN", "x")]).unwrap();
    assert_eq!(loaded.config.receivers.len(), 2);
}

#[test]
fn a_file_that_cannot_be_read_says_who_named_it() {
    let missing = Path::new("/nonexistent/tidewatch.toml");
    let error = load(Some(missing), &Environment::default(), &[]).unwrap_err();
    let expected = "flag --config: the file `/nonexistent/tidewatch.toml` cannot be read: ";
    assert!(messages(&error)[0].starts_with(expected), "{error}");
    let variables = [(CONFIG_VARIABLE, "/nonexistent/tidewatch.toml")];
    let error = load(None, &environment(&variables), &[]).unwrap_err();
    assert!(messages(&error)[0].starts_with("variable TIDEWATCH_CONFIG: the file "), "{error}");
}
