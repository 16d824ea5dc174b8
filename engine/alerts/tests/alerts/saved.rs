//! What the tests of saved states share: seeds, text and back, and states that somebody has spoilt.

use rand::{Rng, rngs::SmallRng};
use serde::Serialize;
use serde_json::Value;

pub fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

pub fn text(state: &impl Serialize) -> String {
    serde_json::to_string(state).expect("a state is plain data")
}

/// One value somewhere in the state becomes something else, or a field or element goes.
pub fn spoil(state: &mut Value, rng: &mut SmallRng) {
    let inner: Vec<&mut Value> = match state {
        Value::Array(elements) => {
            if !elements.is_empty() && rng.random_bool(0.1) {
                elements.remove(rng.random_range(0..elements.len()));
                return;
            }
            elements.iter_mut().collect()
        }
        Value::Object(fields) => {
            if rng.random_bool(0.1)
                && let Some(name) = fields.keys().nth(rng.random_range(0..fields.len().max(1))).cloned()
            {
                fields.remove(&name);
                return;
            }
            fields.values_mut().collect()
        }
        _ => Vec::new(),
    };
    let at = rng.random_range(0..inner.len().max(1));
    match inner.into_iter().nth(at) {
        Some(next) if rng.random_bool(0.9) => spoil(next, rng),
        _ => *state = strange(rng),
    }
}

fn strange(rng: &mut SmallRng) -> Value {
    let values = [
        Value::Null,
        Value::from(-1),
        Value::from(i64::MAX),
        Value::from(i64::MIN),
        Value::from(u64::MAX),
        Value::from(1e300),
        Value::from(""),
        Value::from("NaN"),
        Value::from("critical"),
        Value::from("f".repeat(32)),
        Value::Array(Vec::new()),
        serde_json::json!({}),
        serde_json::json!({ "pending": { "since": i64::MIN } }),
    ];
    values[rng.random_range(0..values.len())].clone()
}
