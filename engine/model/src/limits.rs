//! Every bound of the engine that is not configuration, with its reason and what happens at it.

/// Columns of one stream. Arrow handles more; a payment event has no use for them.
/// At the limit: the stream's file is refused at start.
pub const COLUMNS_MAX: usize = 256;

/// Events in one submitted batch. Larger batches gain nothing in speed and hold memory for longer.
/// At the limit: the request is refused as a whole, with the limit in the message.
pub const BATCH_EVENTS_MAX: usize = 65_536;

/// Bytes of one request (gRPC message or HTTP body). At the limit: refused (`OUT_OF_RANGE`, 413).
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

/// Bytes of one text value. At the limit: the event is refused with the column's name.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// Entries of one `attributes` map. At the limit: the event is refused.
pub const MAP_ENTRIES_MAX: usize = 64;

/// Bytes that are kept of a refused event for `rejected_events`. Longer ones are cut, and say so.
pub const REJECTED_BYTES_MAX: usize = 1_024;

/// Records waiting between the door and the views. At the limit: submitters wait (`ADMISSION_WAIT`),
/// then are told to try again (`RESOURCE_EXHAUSTED`, 429).
pub const RECORDS_IN_FLIGHT_MAX: usize = 1_024;

/// Bytes of one record of the log: a batch of the greatest size with room to spare. A length field
/// beyond it is damage, not data.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Minutes that one partition group may hold open at once: 400 days, for files in no order.
/// At the limit: the event is refused to `late_events` with the reason `too many open minutes`.
pub const OPEN_MINUTES_MAX: usize = 576_000;

/// Rows kept of each small ledger (rejected, late, corrections). At the limit: the oldest go; the
/// counters go on counting.
pub const LEDGER_ROWS_MAX: usize = 100_000;

/// Producers and replay sessions remembered for de-duplication by sequence.
/// At the limit: the one heard of longest ago is forgotten.
pub const PRODUCERS_MAX: usize = 10_000;

const _: () = assert!(REQUEST_BYTES_MAX < RECORD_BYTES_MAX);
const _: () = assert!(REJECTED_BYTES_MAX < TEXT_BYTES_MAX);
