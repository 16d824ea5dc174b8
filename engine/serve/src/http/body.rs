//! Request bodies: read whole, within a limit, in the encoding that is asked for.

use axum::{
    body::{Body, Bytes, HttpBody},
    http::{HeaderMap, StatusCode, header},
};
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::json::kind_of;

/// The body, if it has at most so many bytes. One that announces more is refused before it is read.
pub(super) async fn read(body: Body, max: usize) -> Result<Bytes, Problem> {
    let too_large = || Problem::too_large(format!("the body has more than {max} bytes; send it in smaller parts"));
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    // One byte more than allowed tells a body of the greatest size from one that is larger.
    match axum::body::to_bytes(body, max + 1).await {
        Ok(bytes) if bytes.len() <= max => Ok(bytes),
        Ok(_) => Err(too_large()),
        Err(error) if is_length(&error) => Err(too_large()),
        Err(error) => Err(Problem::bad(format!("the body could not be read to its end: {error}"))),
    }
}

fn is_length(error: &axum::Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.to_string().contains("length limit exceeded") {
            return true;
        }
        cause = error.source();
    }
    false
}

/// A body that is not compressed, as far as its headers say.
pub(super) fn plain(headers: &HeaderMap) -> Result<(), Problem> {
    match headers.get(header::CONTENT_ENCODING).map(|value| value.to_str()) {
        None | Some(Ok("identity" | "")) => Ok(()),
        Some(_) => {
            let message = "the body is compressed, which is not understood here; send it as it is";
            Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported", message))
        }
    }
}

/// A body that is one JSON object.
pub(super) async fn object(headers: &HeaderMap, body: Body, max: usize) -> Result<Map<String, Value>, Problem> {
    plain(headers)?;
    match serde_json::from_slice(&read(body, max).await?) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(other) => Err(Problem::bad(format!("the body must be a JSON object, not {}", kind_of(&other)))),
        Err(error) => Err(Problem::bad(format!("the body is not JSON: {error}"))),
    }
}
