//! Both servers on real sockets, before a fake engine.

mod fake;
mod grpc;
mod hostile;
mod http;
mod openapi;
mod read;
mod wire;
