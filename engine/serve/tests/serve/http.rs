//! HTTP as curl and the live page see it.

use std::time::Duration;

use arrow::ipc::reader::StreamReader;
use serde_json::json;
use tidewatch_serve::engine::{Parameter, Refusal};

use crate::{
    fake::{NOW, rows, soon},
    wire::http,
};

#[tokio::test]
async fn events_come_in_as_array_object_and_lines() {
    let server = http().await;
    let event = r#"{"occurred_at": "2025-07-12T12:00:00Z", "status": "approved"}"#;
    for (kind, body, status, accepted, rejected) in [
        ("application/json", format!("[{event},{event}]"), 200, 2, 0),
        ("application/json", event.to_owned(), 200, 1, 0),
        ("application/x-ndjson", format!("{event}\n{event}\n{{"), 200, 2, 1),
        ("application/x-www-form-urlencoded", format!("{event}\n{event}"), 200, 2, 0),
        ("application/json", "[]".to_owned(), 200, 0, 0),
        ("application/json", "[NaN, {]".to_owned(), 400, 0, 3),
        ("application/json", r#"{"status": "x"}"#.to_owned(), 200, 0, 1),
    ] {
        let answer = server.ask("POST", "/api/v1/events", &[("content-type", kind)], body.as_bytes()).await;
        let json = answer.json();
        assert_eq!(answer.status, status, "{body}");
        assert_eq!((json["accepted"].as_u64(), json["rejected"].as_u64()), (Some(accepted), Some(rejected)), "{body}");
    }
    let answer = server.post("/api/v1/events", &format!("{event}\n{{\"occurred_at\": 1, \"stat\": 1}}")).await.json();
    let reason = "stream `transactions` has no field `stat`; did you mean `status`?";
    assert_eq!(answer["rejections"][0], json!({"index": 1, "line": 2, "field": "stat", "reason": reason}));
    let xml = server.ask("POST", "/api/v1/events", &[("content-type", "text/xml")], b"<x/>").await;
    let packed = server.ask("POST", "/api/v1/events", &[("content-encoding", "gzip")], b"\x1f\x8b").await;
    assert_eq!((xml.status, packed.status), (415, 415));
    let refused = server.engine.submitted().iter().map(|submission| submission.rejected.len()).sum::<usize>();
    assert_eq!((server.engine.rows(), refused), (8, 6));
}

#[tokio::test]
async fn large_bodies_are_converted_aside() {
    let server = http().await;
    let events = vec![json!({"occurred_at": NOW.micros(), "status": "approved"}); 5_000];
    let answer = server.post("/api/v1/events", &json!(events).to_string()).await;
    assert_eq!(answer.json()["accepted"], 5_000);
}

#[tokio::test]
async fn the_engines_refusals_have_their_statuses() {
    let server = http().await;
    let event = r#"{"occurred_at": 1752321600, "status": "approved"}"#;
    for (refusal, status, retry) in [
        (Refusal::Busy { retry_after: Duration::from_millis(1_200) }, 429, Some("2")),
        (Refusal::Unavailable("the disk is full".to_owned()), 503, Some("1")),
        (Refusal::Invalid("no".to_owned()), 400, None),
    ] {
        server.engine.refuse(Some(refusal));
        let answer = server.post("/api/v1/events", event).await;
        assert_eq!((answer.status, answer.headers.get("retry-after").map(String::as_str)), (status, retry));
        assert!(answer.json()["message"].is_string());
    }
    server.engine.refuse(None);
    assert_eq!(server.post("/api/v1/events", event).await.status, 200);
}

#[tokio::test]
async fn transactions_are_asked_for_with_parameters() {
    let server = http().await;
    let answer = server.get("/transactions?account=x'%20OR%201=1&status=denied&from=1752321600&limit=7").await;
    assert_eq!((answer.status, answer.json()["rows"].as_array().unwrap().len()), (200, 4));
    let question = server.engine.questions.lock().unwrap().remove(0);
    assert_eq!(
        question.sql,
        "SELECT * FROM transactions WHERE account_id = $1 AND status = $2 AND occurred_at >= $3 \
         ORDER BY occurred_at DESC LIMIT 7"
    );
    let texts = ["x' OR 1=1", "denied"].map(|text| Parameter::Text(text.to_owned()));
    assert_eq!(question.parameters[..2], texts);
    assert_eq!(question.parameters[2], Parameter::Time(NOW));
    let wrong = server.get("/transactions?acount=x").await;
    assert_eq!((wrong.status, wrong.json()["error"].as_str()), (400, Some("bad_request")));
    assert!(wrong.json()["message"].as_str().unwrap().contains("did you mean `account`?"));
}

#[tokio::test]
async fn rows_come_in_the_form_asked_for() {
    let server = http().await;
    let ask = async |accept: &'static str| {
        server.ask("POST", "/api/v1/query", &[("accept", accept)], br#"{"sql": "SELECT 1"}"#).await
    };
    let json = ask("*/*").await.json();
    assert_eq!(json["columns"][1], json!({"name": "n", "type": "Int64"}));
    let first = json!({"status": "a \"b\", c", "n": i64::MAX, "score": 1.5, "attributes": {"k": "v"}});
    assert_eq!(json["rows"][0], first);
    assert_eq!(json["rows"][3]["score"], serde_json::Value::Null);
    assert_eq!(json["rows"].as_array().unwrap().len(), 4);
    let lines = ask("application/x-ndjson").await.text();
    assert_eq!(lines.lines().count(), 4);
    let csv = ask("text/csv").await.text();
    assert_eq!(csv.lines().next(), Some("status,n,score,attributes"));
    assert_eq!(csv.lines().nth(1), Some("\"a \"\"b\"\", c\",9223372036854775807,1.5,{k: v}"));
    let arrow = ask("application/vnd.apache.arrow.stream").await;
    let batches: Vec<_> = StreamReader::try_new(arrow.body.as_slice(), None).unwrap().map(Result::unwrap).collect();
    assert_eq!((batches.len(), format!("{:?}", batches[0])), (2, format!("{:?}", rows())));
}

#[tokio::test]
async fn questions_without_an_answer_say_why() {
    let server = http().await;
    for (body, status) in [
        (r#"{"sql": "invalid"}"#, 400),
        (r#"{"sql": "much"}"#, 422),
        (r#"{"sql": "long"}"#, 504),
        (r#"{"sq": "SELECT 1"}"#, 400),
        (r#"{"sql": 5}"#, 400),
        (r#"{"sql": "SELECT 1", "timeout_ms": -1}"#, 400),
        ("[]", 400),
        ("{", 400),
    ] {
        let answer = server.post("/api/v1/query", body).await;
        assert_eq!(answer.status, status, "{body}");
        assert!(answer.json()["message"].as_str().is_some_and(|message| !message.is_empty()));
    }
    let broken = server.post("/api/v1/query", r#"{"sql": "breaks"}"#).await;
    assert!(broken.status == 200 && !broken.whole, "a short answer does not look like a whole one");
}

#[tokio::test]
async fn evaluate_takes_texts_as_keys_and_numbers_as_values() {
    let server = http().await;
    let answer = server.post("/alerts/evaluate", r#"{"status":"failed","count":100}"#).await.json();
    assert_eq!((answer["alert"].as_bool(), answer["severity"].as_str()), (Some(true), Some("critical")));
    assert_eq!(
        (answer["minute"].as_str(), answer["dispatched"].as_bool()),
        (Some("2025-07-12T11:59:00Z"), Some(false))
    );
    assert_eq!(answer["verdicts"][0]["labels"], json!({"status": "failed"}));
    let quiet = server.post("/alerts/evaluate", r#"{"status":"failed","count":1,"dispatch":true}"#).await.json();
    assert_eq!((quiet["alert"].as_bool(), quiet["severity"].is_null()), (Some(false), true));
    assert!(server.engine.premises.lock().unwrap()[1].dispatch);
    for body in [
        r#"{"status":"failed"}"#,
        r#"{"status":"failed","count":[1]}"#,
        r#"{"count":1,"dispatch":"yes"}"#,
        r#"{"count":1,"unknown":"x"}"#,
        r#"{"count":NaN}"#,
        "5",
    ] {
        assert_eq!(server.post("/alerts/evaluate", body).await.status, 400, "{body}");
    }
}

#[tokio::test]
async fn state_is_told_as_json() {
    let server = http().await;
    let alerts = server.get("/alerts/status").await.json();
    assert_eq!(
        (alerts["alerts"][0]["state"].as_str(), alerts["alerts"][0]["severity"].as_str()),
        (Some("firing"), Some("critical"))
    );
    assert_eq!(alerts["scores"][0]["values"]["score"], 0.5);
    assert_eq!((&alerts["statuses"][0]["status"], &alerts["statuses"][0]["score"]), (&"approved".into(), &0.25.into()));
    let rules = server.get("/api/v1/rules").await.json();
    assert_eq!((rules["rules"][0]["sql"].as_str(), rules["rules"][0]["rows"].as_u64()), (Some("SELECT 1"), Some(1)));
    let status = server.get("/api/v1/status").await.json();
    assert_eq!(status["sealed_through"], "2025-07-12T11:59:00Z");
    assert_eq!(status["volume"]["approval_rate"].as_array().unwrap().len(), 240);
    assert!(status["rules"][0].get("sql").is_none());
    let metrics = server.get("/metrics").await;
    assert_eq!((metrics.text().as_str(), metrics.status), ("tidewatch_up 1\n", 200));
    assert_eq!(server.get("/-/ready").await.status, 200);
    *server.engine.not_ready.lock().unwrap() = Some("replaying the log".to_owned());
    let ready = server.get("/-/ready").await;
    assert_eq!((ready.status, ready.json()["message"].as_str()), (503, Some("replaying the log")));
    assert_eq!(server.get("/-/healthy").await.status, 200);
}

#[tokio::test]
async fn wrong_ways_are_pointed_out() {
    let server = http().await;
    let lost = server.get("/api/v1/quer").await;
    assert_eq!(lost.status, 404);
    assert!(lost.json()["message"].as_str().unwrap().contains("did you mean `/api/v1/query`?"), "{}", lost.text());
    let method = server.get("/api/v1/query").await;
    assert_eq!(method.status, 405);
    assert!(method.json()["message"].as_str().unwrap().contains("use POST"), "{}", method.text());
}

#[tokio::test]
async fn pages_run_their_own_script_and_nothing_else() {
    let server = http().await;
    for path in ["/", "/api"] {
        let page = server.get(path).await;
        let policy = &page.headers["content-security-policy"];
        assert!(policy.starts_with("default-src 'none'; script-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        let html = page.text();
        assert_eq!((html.matches("<script>").count(), html.matches("<style>").count()), (1, 1));
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "style=\"",
            "http://",
            "https://",
        ] {
            let allowed = html.matches("http://www.w3.org/2000/svg").count();
            let found = html.matches(forbidden).count() - if forbidden == "http://" { allowed } else { 0 };
            assert_eq!(found, 0, "{path} has {forbidden}");
        }
    }
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_closes_idle_connections() {
    let server = http().await;
    let idle = tokio::net::TcpStream::connect(server.address).await.unwrap();
    assert_eq!(server.get("/-/healthy").await.status, 200);
    server.stop.send(()).unwrap();
    soon(server.ended).await.unwrap();
    drop(idle);
}
