//! One attempt of a webhook against a real server: what is sent, how answers are judged, what stays secret.

use std::collections::BTreeMap;

use tidewatch_model::Span;
use tidewatch_sinks::{Retry, Secret, Webhook, WebhookConfig};

use crate::{
    given::delivery,
    server::{Answer, Server, status},
};

pub fn config(url: &str) -> WebhookConfig {
    WebhookConfig {
        name: "webhook".to_owned(),
        url: Secret::new(url),
        headers: BTreeMap::from([("Authorization".to_owned(), Secret::new("Bearer s3cr3t-token"))]),
        timeout: Span::from_seconds(30),
        generator_url: Some("http://127.0.0.1:4701/".to_owned()),
    }
}

#[tokio::test]
async fn a_request_carries_the_body_the_key_and_the_trace() {
    let server = Server::start(vec![status(204)]);
    let (webhook, delivery) = (Webhook::new(config(&server.url)).unwrap(), delivery("webhook"));
    webhook.deliver(&delivery).await.unwrap();
    let requests = server.requests();
    let [request] = requests.as_slice() else { panic!("one request, not {requests:?}") };
    let key = delivery.transition.key.to_string();
    assert_eq!(request.head[0], "POST /hook/t0ken-in-path HTTP/1.1");
    for (name, value) in [
        ("idempotency-key", key.as_str()),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("authorization", "Bearer s3cr3t-token"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    let body: serde_json::Value = serde_json::from_str(&request.body).unwrap();
    let expected = serde_json::json!({
        "version": 1, "key": key, "rule": "denied-surge", "severity": "critical",
        "event": "fired", "state": "firing", "previous_state": "inactive",
        "labels": {"status": "denied"}, "values": {"score": null, "value": 120.0},
        "summary": "denied: 120 in a minute\nover two \"lines\"",
        "minute": "2025-02-19T21:20:00Z", "first_minute": "2025-02-19T21:20:00Z",
        "generator_url": "http://127.0.0.1:4701/",
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn answers_are_judged() {
    let asks = |code, header| Answer::Status(code, header, String::new());
    let seconds = |seconds| Retry::After(Span::from_seconds(seconds));
    let cases = [
        (status(400), Retry::Never, "answered 400"),
        (status(404), Retry::Never, "answered 404"),
        (asks(400, "retry-after: 5\r\n"), Retry::Never, "answered 400"),
        (asks(302, "location: /elsewhere\r\n"), Retry::Never, "answered 302 (redirects are not followed"),
        (status(408), Retry::Backoff, "answered 408"),
        (status(429), Retry::Backoff, "answered 429"),
        (asks(429, "retry-after: 7\r\n"), seconds(7), "answered 429"),
        (asks(503, "retry-after: 120\r\n"), seconds(120), "answered 503"),
        (asks(503, "retry-after: Wed, 21 Oct 2026 07:28:00 GMT\r\n"), Retry::Backoff, "answered 503"),
        (status(500), Retry::Backoff, "answered 500"),
        (Answer::Drop, Retry::Backoff, "the request failed"),
        (Answer::Status(500, "", "x".repeat(1 << 20)), Retry::Backoff, "answered 500: xxx"),
    ];
    for (answer, retry, reason) in cases {
        let server = Server::start(vec![answer]);
        let error = Webhook::new(config(&server.url)).unwrap().deliver(&delivery("webhook")).await.unwrap_err();
        assert_eq!(error.retry, retry, "{error}");
        assert!(error.reason.starts_with(reason) && error.reason.len() < 512, "{error}");
    }
}

#[tokio::test]
async fn a_silent_server_is_given_up_in_time() {
    let server = Server::start(vec![Answer::Hang]);
    let config = WebhookConfig { timeout: Span::from_micros(100_000), ..config(&server.url) };
    let error = Webhook::new(config).unwrap().deliver(&delivery("webhook")).await.unwrap_err();
    assert_eq!(error.retry, Retry::Backoff);
    assert!(error.reason.starts_with("no answer in time"), "{error}");
}

#[tokio::test]
async fn nobody_listens() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let webhook = Webhook::new(config(&format!("http://{address}/t0ken-in-path"))).unwrap();
    let error = webhook.deliver(&delivery("webhook")).await.unwrap_err();
    assert_eq!(error.retry, Retry::Backoff);
    assert!(!error.reason.contains("t0ken"), "{error}");
}

#[tokio::test]
async fn secrets_are_shown_nowhere() {
    let echo = "no route /hook/t0ken-in-path for Bearer s3cr3t-token (s3cr3t-token)".to_owned();
    let server = Server::start(vec![Answer::Status(400, "", echo)]);
    let config = config(&server.url);
    let webhook = Webhook::new(config.clone()).unwrap();
    let error = webhook.deliver(&delivery("webhook")).await.unwrap_err();
    for shown in [format!("{config:?}"), format!("{webhook:?}"), format!("{error:?}"), error.to_string()] {
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0ken"), "{shown}");
    }
    assert_eq!(error.reason, "answered 400: no route *** for *** (***)");
    assert!(format!("{webhook:?}").contains("127.0.0.1"), "the origin helps to find the fault");
}

#[test]
fn what_cannot_work_is_refused_without_repeating_secrets() {
    let with = |header: &str, value: &str| WebhookConfig {
        headers: BTreeMap::from([(header.to_owned(), Secret::new(value))]),
        ..config("http://127.0.0.1/")
    };
    let cases = [
        (config("ftp://host/t0ken"), "its url is not an address"),
        (config("t0ken"), "its url is not an address"),
        (WebhookConfig { timeout: Span::ZERO, ..config("http://127.0.0.1/") }, "longer than zero"),
        (with("X-Key", "t0ken\nInjected: yes"), "`X-Key` is not a header's name, or its value"),
        (with("bad name", "t0ken"), "`bad name` is not a header's name"),
        (with("Idempotency-Key", "t0ken"), "set by every request itself"),
    ];
    for (config, message) in cases {
        let error = Webhook::new(config).unwrap_err().to_string();
        assert!(error.contains(message) && !error.contains("t0ken"), "{error}");
    }
}
