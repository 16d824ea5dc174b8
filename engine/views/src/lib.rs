//! Views: from SQL to an incremental window operator. Owns the meaning of an event's time (watermark,
//! lateness, corrections), de-duplication, the accumulators and their partial states.
//! It never touches disk, network or a clock: everything it does follows from the records it is given.

mod compile;
mod domain;
mod frame;
pub mod functions;
mod groups;
mod memory;
mod operator;
mod partial;
mod saved;
mod sealed;
pub mod states;
mod view;

pub use compile::{Refusal, Stream, ViewFile, compile_stream, compile_view, name_clashes};
pub use frame::{FRAME_FORMAT, FRAME_FORMAT_KEY, FrameError};
pub use groups::{Absorbed, Groups};
pub use operator::{
    Applied, Correction, Events, LateReason, Operator, OperatorLimits, SealedMinute, Sealer, Sequenced,
};
pub use partial::{KeyBytes, PartialRows};
pub use saved::{DomainId, IdRuns, OpenFrame, OperatorState, RestoreError, STATE_FORMAT, SavedOperator};
pub use sealed::SealedMinutes;
pub use view::{Aggregate, Finished, KeyCodec, KeyLimit, OTHER, View, reader_rows, with_roll_ups};
