//! The wire: gRPC and HTTP. Converts requests into columns and plain structs, hands them to the [`Engine`],
//! and converts its answers back. It makes no decisions, keeps no state between requests, and opens no
//! sockets: listeners and the end of serving come from the caller.

mod batch;
pub mod codec;
mod columns;
mod door;
mod edge;
pub mod engine;
mod excerpt;
mod grpc;
mod http;
mod id_key;
mod json;
mod mask;
mod matcher;
pub mod proto;
pub mod report;
mod split;
#[cfg(test)]
mod testing;
mod trace;
mod transactions;

pub use batch::Batch;
pub use door::{Arrival, Door, DoorError};
pub use edge::{Adopt, Edge, ServeError, Timed};
pub use engine::Engine;
pub use grpc::serve_grpc;
pub use http::{http_routes, remote_read_request, serve_http};
pub use id_key::IdKey;
pub use json::{Form, Parsed};
pub use mask::mask;
pub use matcher::{Matcher, MatcherError, Operator, select};
pub use trace::{TraceContext, TraceParent};
