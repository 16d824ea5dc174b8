//! What the door makes of JSON bodies.

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use serde_json::json;

use super::*;
use crate::testing::{LIVE, NOW, door};

fn parse(body: &[u8], form: Form) -> Parsed {
    door().json(body, form, &LIVE).unwrap()
}

#[test]
fn bodies_are_told_apart_by_looking() {
    let event = r#"{"occurred_at": "2025-07-12T12:00:00Z", "status": "approved"}"#;
    let pretty = event.replace(", ", ",\n  ");
    for (body, form, accepted, rejected) in [
        (event.to_owned(), Form::Any, 1, 0),
        (pretty.clone(), Form::Any, 1, 0),
        (format!("[{event}, {event}]"), Form::Any, 2, 0),
        (format!("\n\n [\n{event},\n{pretty}\n]\n"), Form::Any, 2, 0),
        (format!("{event}\n{event}\r\n\n{event}"), Form::Any, 3, 0),
        (format!("{event}\n{{broken\n{event}"), Form::Lines, 2, 1),
        (format!("{event}\n{{broken\n{event}"), Form::Any, 2, 1),
        ("[]".to_owned(), Form::Any, 0, 0),
        (String::new(), Form::Any, 0, 0),
        (format!("[{event}, {{\"status\": NaN}}, {event}]"), Form::Any, 2, 1),
        (format!("[{event}, {event}"), Form::Any, 2, 1),
        (format!("[{event}] {event}"), Form::Any, 1, 1),
        (format!("[{event}, 5, null, \"x\"]"), Form::Any, 1, 3),
        ("not json at all".to_owned(), Form::Any, 0, 1),
    ] {
        let parsed = parse(body.as_bytes(), form);
        let found = (parsed.batch.rows.num_rows(), parsed.batch.rejected.len());
        assert_eq!(found, (accepted, rejected), "{body}: {:?}", parsed.batch.rejected);
        assert_eq!(parsed.any_json, accepted > 0, "{body}");
    }
}

#[test]
fn refusals_name_the_line_and_the_field() {
    let body = "{\"occurred_at\": 1752321600, \"status\": \"ok\"}\n\n{\"ocurred_at\": 1752321600, \"status\": \"ok\"}";
    let parsed = parse(body.as_bytes(), Form::Any);
    let rejected = parsed.batch.rejected.first().unwrap();
    assert_eq!(rejected.reason, "stream `transactions` has no field `ocurred_at`; did you mean `occurred_at`?");
    assert_eq!((rejected.index, parsed.lines[1], rejected.field.as_deref()), (1, 3, Some("ocurred_at")));
}

#[test]
fn faults_of_values_are_named() {
    for (field, value, reason) in [
        ("occurred_at", json!("yesterday"), "RFC 3339"),
        ("occurred_at", json!(true), "RFC 3339"),
        ("occurred_at", json!("9999-12-31T23:59:59Z"), "later than"),
        ("occurred_at", json!("1970-01-01T00:00:10Z"), "before 1971"),
        ("occurred_at", json!(null), "missing"),
        ("occurred_at", json!(1e300), "RFC 3339"),
        ("status", json!(""), "missing"),
        ("status", json!(5), "text in double quotes"),
        ("count", json!(-5), "at least 0"),
        ("count", json!(1.5), "whole number"),
        ("count", json!("5"), "whole number"),
        ("amount_minor", json!(9_223_372_036_854_775_808_u64), "whole number"),
        ("latency_us", json!(-1), "at least 0"),
        ("attributes", json!([1]), "an object"),
        ("attributes", json!({"a": {"b": 1}}), "must be text"),
        ("region", json!("x".repeat(10 << 20)), "bytes"),
    ] {
        let mut event = json!({"occurred_at": NOW.micros(), "status": "ok"});
        event[field] = value;
        let parsed = parse(event.to_string().as_bytes(), Form::Any);
        let rejected = parsed.batch.rejected.first().unwrap_or_else(|| panic!("{field} {reason}"));
        assert_eq!(rejected.field.as_deref(), Some(field));
        assert!(rejected.reason.contains(reason), "{} should say {reason}", rejected.reason);
    }
}

#[test]
fn invalid_text_and_numbers_without_end_are_refused() {
    for (body, reason) in [
        (b"{\"occurred_at\": 1752321600, \"status\": \"\xff\xfe\"}".as_slice(), "UTF-8"),
        (b"{\"occurred_at\": 1752321600, \"status\": \"ok\", \"count\": NaN}", "JSON has no NaN"),
        (b"{\"occurred_at\": 1752321600, \"status\": \"ok\", \"count\": 1e999}", "not JSON"),
        (b"{\"occurred_at\": 17523216", "not JSON"),
    ] {
        let parsed = parse(body, Form::Any);
        assert!(parsed.batch.rejected.first().unwrap().reason.contains(reason), "{:?}", parsed.batch.rejected);
    }
    let deep = "[".repeat(100_000);
    assert_eq!(parse(deep.as_bytes(), Form::Any).batch.rows.num_rows(), 0);
}

#[test]
fn times_come_in_four_spellings() {
    for value in [
        json!("2025-07-12T12:00:00Z"),
        json!("2025-07-12T14:00:00+02:00"),
        json!("2025-07-12 12:00:00"),
        json!(1_752_321_600),
        json!(1_752_321_600.0),
        json!(1_752_321_600_000_i64),
        json!(1_752_321_600_000_000_i64),
        json!("1752321600"),
        json!("1752321600000"),
    ] {
        assert_eq!(time(&value), Some(NOW), "{value}");
    }
    assert_eq!(time(&json!(1_752_321_600.25)).map(|time| time.micros() - NOW.micros()), Some(250_000));
}

#[test]
fn values_arrive_with_defaults_and_masks() {
    let body = json!([{
        "occurred_at": NOW.micros(), "status": "approved", "auth_code": "0051", "count": 3.0, "amount_minor": null,
        "account_id": "4111 1111 1111 1111", "attributes": {"pan": "4111111111111111", "n": 5, "t": true, "none": null}
    }, {"occurred_at": NOW.micros(), "status": "denied"}]);
    let rows = parse(body.to_string().as_bytes(), Form::Any).batch.rows;
    let text = |name: &str, row: usize| rows.column_by_name(name).unwrap().as_string::<i32>().value(row).to_owned();
    assert_eq!((text("auth_code", 0).as_str(), text("account_id", 0).as_str()), ("0051", "4111 11** **** 1111"));
    let counts = rows.column_by_name("count").unwrap().as_primitive::<Int64Type>();
    assert_eq!(counts.values().as_ref(), [3, 1]);
    let times = rows.column_by_name("occurred_at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.value(1), NOW.micros());
    let shown = arrow::util::pretty::pretty_format_batches(std::slice::from_ref(&rows)).unwrap().to_string();
    assert!(shown.contains("411111******1111") && !shown.contains("4111111111111111"), "{shown}");
}

#[test]
fn card_numbers_in_refused_events_are_masked_wherever_they_stand() {
    for body in [
        r#"{"status": "4111111111111111"}"#,
        r#"{"status": "x", "account_id": 4111111111111111}"#,
        r#"{"4111111111111111": 1}"#,
        r#"{"status": ["4111111111111111"]}"#,
        r#"{"status": "4111111111111111""#,
        "4111111111111111",
    ] {
        let parsed = parse(body.as_bytes(), Form::Any);
        let rejected = parsed.batch.rejected.first().unwrap();
        assert!(!format!("{rejected:?}").contains("4111111111111111"), "{rejected:?}");
    }
}

#[test]
fn too_many_events_are_refused_as_a_whole() {
    let body = "1\n".repeat(limits::BATCH_EVENTS_MAX + 1);
    assert!(door().json(body.as_bytes(), Form::Lines, &LIVE).unwrap_err().contains("65537"));
}
