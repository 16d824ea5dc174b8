//! Delivery: how a transition reaches a receiver (`Receiver`: webhook or log) and who tries again when it does
//! not (`Dispatcher`). What is delivered to whom, and when it is given up, is decided in `alerts`.

mod body;
mod dispatcher;
mod log;
mod receiver;
mod secret;
mod timer;
mod webhook;

pub use body::{BODY_VERSION, Body};
pub use dispatcher::{Dispatcher, DispatcherError, DispatcherTask, Journal, Timed};
pub use log::LogSink;
pub use receiver::Receiver;
pub use secret::Secret;
pub use tidewatch_alerts::{Delivery, DeliveryError, DeliveryId, Retry};
pub use timer::{Timer, TokioTimer};
pub use webhook::{Webhook, WebhookConfig, WebhookError};
