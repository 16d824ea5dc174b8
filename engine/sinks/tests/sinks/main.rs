//! The tests of sinks, in one binary so that they link once. Webhooks talk to a real server on the loopback.

mod dispatch;
mod given;
mod log;
mod server;
mod webhook;
