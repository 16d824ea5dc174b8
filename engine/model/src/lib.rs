//! The vocabulary that every room of the engine speaks: times, spans, stream schemas,
//! partitions, severities, limits and the clock. It does no I/O and makes no decisions.

mod clock;
mod hash;
pub mod limits;
mod nearest;
mod partition;
mod schema;
mod severity;
mod span;
mod time;
mod transactions;
mod view_meta;
mod window;

pub use clock::{Clock, ManualClock};
pub use hash::{IdHash, hash_id, hash64};
pub use nearest::{did_you_mean, edit_distance, nearest};
pub use partition::{Lsn, Partition, SessionId};
pub use schema::{Column, ColumnType, SchemaError, StreamSchema};
pub use severity::Severity;
pub use span::{Span, SpanError};
pub use time::{EventTime, Minute};
pub use transactions::transactions;
pub use view_meta::{Fill, Measure, ViewMeta};
pub use window::Window;
