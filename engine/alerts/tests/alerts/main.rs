//! The tests of alerts, in one binary so that they link once.

mod deliveries;
mod life;
mod limits;
mod model;
mod notation;
mod outbox;
mod routing;
mod saved;
mod saved_alerts;
mod saved_outbox;
