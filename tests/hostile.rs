//! Bad input to the real process: each is answered with a clear error, and the engine goes on serving, or nothing
//! was changed. What the doors refuse byte by byte is tested where they are; here it is what an operator meets.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::Command,
    time::Duration,
};

use serde_json::{Value, json};
use tidewatch_serve::proto::tidewatch::v1::{SubmitRequest, Transaction};
use tonic::Code;

use crate::support::{Engine, Setup, get, get_json, now, output, post_json, tidewatch, until};

fn good() -> Transaction {
    Transaction { occurred_at: now().micros(), status: "approved".to_owned(), ..Transaction::default() }
}

/// The engine takes an event and counts it, and nothing else has come in meanwhile.
async fn assert_serves(engine: &Engine, accepted: &mut i64) {
    let request = SubmitRequest { transactions: vec![good()], ..SubmitRequest::default() };
    let answer = engine.ingest().await.submit(request).await.unwrap().into_inner();
    assert_eq!((answer.accepted, answer.rejected), (1, 0));
    *accepted += 1;
    let expected = *accepted;
    let sql = "SELECT sum(transactions) AS n FROM payments_by_status";
    until("the good event to count", async || (engine.number(sql).await >= expected).then_some(())).await;
    assert_eq!(engine.number(sql).await, expected);
    assert_eq!(get(&engine.url("/-/ready")).await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_events_are_refused_one_by_one_and_kept_for_a_look() {
    let setup = Setup::new();
    let engine = setup.start().await;
    let mut accepted = 0;
    let cases = [
        (Transaction { occurred_at: 253_370_764_800_000_000, ..good() }, "occurred_at", "9999"),
        (Transaction { occurred_at: 1_000_000, ..good() }, "occurred_at", "1970"),
        (Transaction { count: Some(-1), ..good() }, "count", "at least 0"),
        (Transaction { latency_us: Some(-1), ..good() }, "latency_us", "at least 0"),
        (Transaction { region: Some("x".repeat(10 << 20)), ..good() }, "region", "10485760 bytes"),
        (Transaction { status: String::new(), ..good() }, "status", "missing"),
    ];
    let mut refused = 0;
    for (bad, field, reason) in cases {
        let request = SubmitRequest { transactions: vec![good(), bad, good()], ..SubmitRequest::default() };
        let answer = engine.ingest().await.submit(request).await.unwrap().into_inner();
        accepted += 2;
        refused += 1;
        assert_eq!((answer.accepted, answer.rejected), (2, 1), "{field}");
        let rejection = &answer.rejections[0];
        assert_eq!((rejection.index, rejection.field.as_str()), (1, field));
        assert!(rejection.reason.contains(reason), "{}", rejection.reason);
        assert_serves(&engine, &mut accepted).await;
    }
    for (body, reason) in [
        (r#"{"occurred_at": "9999-12-31T23:59:59Z", "status": "approved"}"#, "9999"),
        (r#"{"occurred_at": "1970-01-01T00:00:01Z", "status": "approved"}"#, "before 1971"),
        (r#"{"occurred_at": "2025-01-01T00:00:00Z", "status": "approved", "count": -1}"#, "at least 0"),
        (r#"{"occurred_at": "2025-01-01T00:00:00Z", "status": "approved", "count": NaN}"#, "JSON has no NaN"),
        (r#"{"occurred_at": "2025-01-01T00:00:00Z", "status": "approved", "count": 1e400}"#, "JSON"),
        ("\u{0}\u{1}", "not JSON"),
    ] {
        let (_, answer) = post_json(&engine.url("/api/v1/events"), body).await;
        let said = answer.to_string();
        assert!(said.contains(reason), "{body}: {said}");
        assert_eq!(answer["accepted"].as_u64().unwrap_or(0), 0, "{body}: {said}");
        refused += answer["rejected"].as_i64().unwrap_or(0);
        assert_serves(&engine, &mut accepted).await;
    }
    assert_eq!(engine.number("SELECT count(*) AS n FROM rejected_events").await, refused);
    let longest = engine.number("SELECT max(octet_length(event)) AS n FROM rejected_events").await;
    assert!(longest <= 2_048, "a refused event is kept with {longest} bytes");
    // Counted + duplicate + rejected + late = sent.
    let status = get_json(&engine.url("/api/v1/status")).await;
    let counter = |name: &str| {
        let counters = status["counters"].as_array().unwrap();
        counters.iter().find(|counter| counter["name"] == name).unwrap()["value"].as_i64().unwrap()
    };
    assert_eq!((counter("accepted"), counter("rejected")), (accepted, refused));
    assert_eq!((counter("duplicate"), counter("late")), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_a_hundred_megabytes_is_refused() {
    let setup = Setup::new();
    let engine = setup.start().await;
    let mut accepted = 0;
    let huge = SubmitRequest { producer_id: "x".repeat(100 << 20), ..SubmitRequest::default() };
    let status = engine.ingest().await.submit(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status:?}");
    assert_serves(&engine, &mut accepted).await;
    // Over HTTP the announced length is enough; whether the rest can still be sent is the sender's affair.
    let said = tokio::task::spawn_blocking(move || send_huge(engine.http).map(|said| (said, engine)));
    let (said, engine) = said.await.unwrap().unwrap();
    assert!(said.starts_with("HTTP/1.1 413 ") && said.contains("16777216"), "{said}");
    assert_serves(&engine, &mut accepted).await;
}

/// Announces a hundred megabytes, reads the answer, and then sends them all the same.
fn send_huge(address: SocketAddr) -> std::io::Result<String> {
    let mut connection = TcpStream::connect(address)?;
    connection.set_read_timeout(Some(Duration::from_secs(60)))?;
    write!(connection, "POST /api/v1/events HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", 100 << 20)?;
    let mut said = Vec::new();
    let mut piece = [0; 4_096];
    // The head and the body, which is one JSON object.
    while !said.ends_with(b"}") {
        match connection.read(&mut piece)? {
            0 => break,
            n => said.extend_from_slice(&piece[..n]),
        }
    }
    let spaces = vec![b' '; 1 << 20];
    // The engine may have closed by now: then there is nobody to send to.
    let _ = (0..100).try_for_each(|_| connection.write_all(&spaces));
    Ok(String::from_utf8_lossy(&said).into_owned())
}

const VIEW: (&str, &str) = ("views/payments_by_status.sql", include_str!("../queries/views/payments_by_status.sql"));
const SOUND: (&str, &str) = (
    "rules/sound.sql",
    "/*\nname = \"sound\"\nseverity = \"low\"\nlookback = \"1 minute\"\nwarmup = \"0m\"\nsummary = \"{{ n }}\"\n*/\n\
     SELECT minute, sum(transactions) AS n FROM payments_by_status GROUP BY minute",
);
const BROKEN: (&str, &str) = (
    "rules/broken.sql",
    "/*\nname = \"broken\"\nseverity = \"low\"\nlookback = \"1 minute\"\nsummary = \"x\"\n*/\n\
     SELECT minute,\n FORM payments_by_status",
);

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_with_a_syntax_error_is_seen_and_the_others_run() {
    let setup = Setup::new().queries(&[VIEW, SOUND, BROKEN]);
    let engine = setup.start().await;
    let rules = get_json(&engine.url("/api/v1/rules")).await;
    let rules = rules["rules"].as_array().unwrap();
    let rule =
        |name: &str| rules.iter().find(|rule| rule["name"] == name).unwrap_or_else(|| panic!("no {name}: {rules:?}"));
    assert_eq!(rule("sound")["error"], Value::Null);
    let error = rule("broken")["error"].as_str().unwrap();
    assert!(error.contains("broken.sql:"), "{error}");
    let logged =
        engine.log_lines().iter().any(|line| line["level"] == "ERROR" && line.to_string().contains("broken.sql"));
    assert!(logged, "{}", engine.log_text());
    let told = engine.query("SELECT file, error FROM rules WHERE error IS NOT NULL").await;
    assert!(told.len() == 1 && told[0]["file"].as_str().unwrap().ends_with("broken.sql"), "{told:?}");

    let file = setup.folder.write("two.csv", "occurred_at,status\n1750000000,approved\n1750000060,approved\n");
    engine.replay(&file, &[]).await;
    let judged = engine.query("SELECT rule, count(*) AS n FROM verdicts GROUP BY 1").await;
    assert_eq!(judged, [json!({ "rule": "sound", "n": 2 })]);

    let queries = setup.folder.path().join("queries").display().to_string();
    let checked = output(tidewatch(["rules", "check", "--queries-dir", &queries])).await;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(3), "{said}");
    assert!(said.contains("broken.sql") && said.contains("1 refused"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_settings_and_views_are_refused_before_anything_is_touched() {
    let refused_view = "CREATE MATERIALIZED VIEW typical AS\nSELECT date_trunc('minute', occurred_at) AS minute,\n\
                        \x20      median(latency_us) AS typical\nFROM transactions\nGROUP BY ALL";
    for (setup, expected) in [
        (
            Setup::configured("[log]\ndurabilty = \"os\"\n"),
            ["tidewatch.toml:2:", "nearest known one is `log.durability`"],
        ),
        (Setup::configured("data_dri = \"x\"\n"), ["tidewatch.toml:1:", "nearest known one is `data_dir`"]),
        (Setup::configured("[log\n"), ["tidewatch.toml:1", "tidewatch: "]),
        (Setup::configured("grpc.address = \"0.0.0.0:0\"\n"), ["`insecure = true`", "tidewatch: "]),
        (Setup::new().queries(&[VIEW, ("views/typical.sql", refused_view)]), ["views/typical.sql:3:", "median"]),
        (Setup::new().queries(&[("views/a.sql", "CREATE MATERIALIZED VIEW")]), ["views/a.sql:1:", "tidewatch: "]),
    ] {
        let mut command = setup.serve(&[]);
        // A flag for the address would beat the file's.
        if expected[0].contains("insecure") {
            let config = setup.folder.path().join("tidewatch.toml").display().to_string();
            command = tidewatch(["serve", "--config", &config]);
            command.current_dir(setup.folder.path());
        }
        let (code, said) = Engine::refused(command).await;
        assert_eq!(code, 2, "{said}");
        assert!(expected.iter().all(|part| said.contains(part)), "{said}");
        assert!(!setup.data().exists(), "a data folder was made: {said}");
    }
    let setup = Setup::new().queries(&[VIEW, ("views/typical.sql", refused_view)]);
    let queries = setup.folder.path().join("queries").display().to_string();
    let checked = output(tidewatch(["rules", "check", "--queries-dir", &queries])).await;
    let said = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert_eq!(checked.status.code(), Some(3), "{said}");
    assert!(said.contains("views/typical.sql:3: "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named_with_its_setting() {
    let setup = Setup::new();
    let engine = setup.start().await;
    let mut accepted = 0;
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let foreign = other.local_addr().unwrap().to_string();
    for (flag, key, address) in [
        ("--grpc-address", "grpc.address", engine.grpc.to_string()),
        ("--http-address", "http.address", engine.http.to_string()),
        ("--http-address", "http.address", foreign),
    ] {
        let second = Setup::new();
        // A flag may be given once.
        let data = second.data().display().to_string();
        let (free, taken) = if flag == "--grpc-address" { ("--http-address", flag) } else { ("--grpc-address", flag) };
        let mut command = tidewatch(["serve", "--data-dir", &data, free, "127.0.0.1:0", taken, &address]);
        command.current_dir(second.folder.path());
        let (code, said) = Engine::refused(command).await;
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&address) && said.contains(&format!("`{key}`")), "{said}");
        assert_serves(&engine, &mut accepted).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_folder_that_another_process_holds_names_it() {
    let setup = Setup::new();
    let engine = setup.start().await;
    let mut accepted = 0;
    assert_serves(&engine, &mut accepted).await;
    let (code, said) = setup.refused(&[]).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("process {}", engine.pid())), "{said}");
    assert!(said.contains(&engine.http.to_string()), "{said}");
    assert_serves(&engine, &mut accepted).await;
    // The lock ends with the process, however it ends.
    engine.kill();
    let engine = setup.start().await;
    assert_serves(&engine, &mut accepted).await;
}

/// Name, size and contents of everything below a folder.
fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(contents(&path));
        } else {
            found.insert(path.display().to_string(), std::fs::read(&path).unwrap());
        }
    }
    found
}

/// Permissions of a folder and all below it.
fn permit(path: &Path, folders: u32, files: u32) {
    let mode = if path.is_dir() { folders } else { files };
    if path.is_dir() {
        std::fs::read_dir(path).unwrap().for_each(|entry| permit(&entry.unwrap().path(), folders, files));
    }
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Permissions mean nothing to the superuser: the engine then runs as nobody, from a copy of the binary that nobody may
/// start.
fn unprivileged(setup: &Setup, data: &Path) -> Command {
    let binary = setup.folder.path().join("tidewatch");
    let mut command = if std::fs::metadata("/proc/self").unwrap().uid() == 0 {
        std::fs::copy(env!("CARGO_BIN_EXE_tidewatch"), &binary).unwrap();
        permit(&binary, 0o755, 0o755);
        std::fs::set_permissions(setup.folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = Command::new(&binary);
        command.uid(65_534).gid(65_534);
        command
    } else {
        Command::new(env!("CARGO_BIN_EXE_tidewatch"))
    };
    command.env_clear().args(["serve", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--data-dir"]);
    command.arg(data).current_dir(setup.folder.path()).stderr(std::process::Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_only_data_folder_is_refused_and_stays_as_it_was() {
    let setup = Setup::new();
    let engine = setup.start().await;
    let mut accepted = 0;
    assert_serves(&engine, &mut accepted).await;
    assert!(engine.terminate().await.success());
    let data = setup.data();
    permit(&data, 0o555, 0o444);
    let before = contents(&data);
    let (code, said) = Engine::refused(unprivileged(&setup, &data)).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&data.display().to_string()) && said.contains("Permission denied"), "{said}");
    assert_eq!(contents(&data), before);
    // Below a folder that cannot be written none can be made.
    let (code, said) = Engine::refused(unprivileged(&setup, &data.join("below"))).await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("below") && said.contains("Permission denied"), "{said}");
    assert_eq!(contents(&data), before);
    permit(&data, 0o755, 0o644);
    let engine = setup.start().await;
    assert_serves(&engine, &mut accepted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_rows_of_a_file_are_named_by_line_and_the_rest_goes_on() {
    let setup = Setup::new();
    let engine = setup.start().await;
    let csv: &[u8] = b"occurred_at,status,count\n\
        2025-07-20 10:00:00,approved,3\n\
        2025-07-20 10:01:00,\xff\xfe,3\n\
        2025-07-20 10:02:00,approved,-3\n\
        2025-07-20 10:03:00,approved,NaN\n\
        9999-01-01 00:00:00,approved,1\n\
        1970-01-01 00:00:05,approved,1\n\
        2025-07-20 10:04:00,approved,0\n\
        2025-07-20 10:05:00,approved,4\n\
        2025-07-20 10:06:00\n";
    let file = setup.folder.write("broken.csv", csv);
    let said = engine.replay(&file, &[]).await;
    for line in [
        "line 3: broken: `status` is not valid UTF-8",
        "line 4: rejected: `count` is -3",
        "line 5: broken: `count` is not a whole number: `NaN`",
        "line 6: rejected: `occurred_at` is 9999-01-01",
        "line 7: rejected: `occurred_at` is 1970-01-01",
        "line 10: broken: ",
    ] {
        assert!(said.contains(line), "{line} is missing in {said}");
    }
    let counts = engine.query("SELECT count(*) AS rows, sum(count) AS n FROM transactions").await;
    assert_eq!(counts, [json!({ "rows": 3, "n": 7 })]);
    assert_eq!(engine.number("SELECT count(*) AS n FROM rejected_events").await, 3);
    let file = file.display().to_string();
    let strict = output(engine.client(&["replay", &file, "--strict", "--session", "again"])).await;
    assert_eq!(strict.status.code(), Some(1), "{}", String::from_utf8_lossy(&strict.stderr));
    let mut accepted = engine.number("SELECT sum(transactions) AS n FROM payments_by_status").await;
    assert_serves(&engine, &mut accepted).await;
}
