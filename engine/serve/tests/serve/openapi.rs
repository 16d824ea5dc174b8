//! The OpenAPI document says what is served, and what is served is in the document.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::wire::http;

#[tokio::test]
async fn the_document_lists_exactly_the_routes() {
    let server = http().await;
    let document = server.get("/api/openapi.json").await.json();
    let documented: BTreeSet<(String, String)> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| methods.as_object().unwrap().keys().map(|method| (method.clone(), path.clone())))
        .collect();
    let served: BTreeSet<(String, String)> =
        tidewatch_serve::http_routes().into_iter().map(|(method, path)| (method.to_owned(), path.to_owned())).collect();
    assert_eq!(documented, served);
    for (method, path) in served {
        let answer = server.ask(&method.to_uppercase(), &path, &[], b"").await;
        assert!(![404, 405, 500].contains(&answer.status), "{method} {path}: {}", answer.status);
        let answers = document["paths"][&path][&method]["responses"].as_object().unwrap();
        assert!(answers.contains_key(&answer.status.to_string()), "{method} {path} answers {}", answer.status);
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let document = http().await.get("/api/openapi.json").await.json();
    let mut references = Vec::new();
    gather(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

fn gather(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                references.push(reference.to_owned());
            }
            fields.values().for_each(|value| gather(value, references));
        }
        Value::Array(values) => values.iter().for_each(|value| gather(value, references)),
        _ => {}
    }
}

/// The names of the document's schemas are those that answers have.
#[tokio::test]
async fn answers_have_the_fields_that_the_document_requires() {
    let server = http().await;
    let document = server.get("/api/openapi.json").await.json();
    let event = r#"[{"occurred_at": 1752321600, "status": "approved"}, 5]"#;
    for (answer, schema) in [
        (server.get("/api/v1/status").await, "Status"),
        (server.get("/alerts/status").await, "AlertReport"),
        (server.post("/alerts/evaluate", r#"{"count": 100}"#).await, "Evaluation"),
        (server.post("/api/v1/events", event).await, "Submitted"),
        (server.post("/api/v1/query", r#"{"sql": "SELECT 1"}"#).await, "Rows"),
        (server.post("/api/v1/query", "{}").await, "Problem"),
    ] {
        check(&document, &document["components"]["schemas"][schema], &answer.json(), schema);
    }
}

/// Every required field is there, and every field is described.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        return check(document, document.pointer(reference.trim_start_matches('#')).unwrap(), value, at);
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        return values.iter().for_each(|value| check(document, items, value, at));
    }
    let (Some(properties), Some(fields)) = (schema.get("properties"), value.as_object()) else { return };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        assert!(fields.contains_key(name), "{at} lacks {name}");
    }
    for (name, value) in fields {
        let described = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not described"));
        check(document, described, value, &format!("{at}.{name}"));
    }
}
