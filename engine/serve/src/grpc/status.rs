//! The engine's errors as gRPC statuses. The contract in `proto/` lists them.

use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::engine::{QueryError, Refusal};

/// When to try again after a fault whose end nobody knows.
const UNAVAILABLE_RETRY: Duration = Duration::from_secs(1);

pub(super) fn refused(refusal: &Refusal) -> Status {
    match refusal {
        Refusal::Busy { retry_after } => Status::with_error_details(
            Code::ResourceExhausted,
            refusal.to_string(),
            ErrorDetails::with_retry_info(Some(*retry_after)),
        ),
        Refusal::Unavailable(reason) => Status::with_error_details(
            Code::Unavailable,
            reason,
            ErrorDetails::with_retry_info(Some(UNAVAILABLE_RETRY)),
        ),
        Refusal::Invalid(reason) => Status::invalid_argument(reason),
    }
}

pub(super) fn unanswered(error: &QueryError) -> Status {
    let code = match error {
        QueryError::Invalid(_) => Code::InvalidArgument,
        QueryError::TooMuch(_) => Code::ResourceExhausted,
        QueryError::TooLong(_) => Code::DeadlineExceeded,
        QueryError::Unavailable(_) => Code::Unavailable,
        QueryError::Internal(_) => Code::Internal,
    };
    Status::new(code, error.to_string())
}

pub(super) fn stopping() -> Status {
    Status::unavailable("the server is stopping; connect again later, and send what was not acknowledged")
}
