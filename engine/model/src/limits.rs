//! Every bound of the engine that is not configuration, with its reason and what happens at it.

use crate::EventTime;

/// 1971-01-01. Microseconds before it are nearly always seconds or milliseconds in the wrong field: milliseconds
/// of the years 1970 to 2970 all lie before it. An earlier event is refused.
pub const EVENT_TIME_MIN: EventTime = EventTime::from_micros(31_536_000_000_000);

/// 2262-04-11: the last moment that nanoseconds in 64 bits can hold, which readers of the stored columns rely on.
/// A later event is refused.
pub const EVENT_TIME_MAX: EventTime = EventTime::from_micros(i64::MAX / 1_000);

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

/// Records waiting between the door and the views, however few events they have. At the limit: submitters wait
/// (`ingest.admission_wait`), then are told to try again (`RESOURCE_EXHAUSTED`, 429).
pub const RECORDS_IN_FLIGHT_MAX: usize = 1_024;

/// Bytes of one record of the log: a batch of the greatest size with room to spare. A length field
/// beyond it is damage, not data.
pub const RECORD_BYTES_MAX: usize = 64 << 20;

/// Minutes that one partition group may hold open at once: 400 days, for files in no order.
/// At the limit: the event is refused to `late_events` with the reason `too many open minutes`.
pub const OPEN_MINUTES_MAX: usize = 576_000;

/// Bytes of each small ledger (rejected, late, corrections, verdicts, alerts) that no checkpoint has yet. At the limit: the
/// oldest rows go, and are counted.
pub const LEDGER_BYTES_MAX: usize = 64 << 20;

/// Judged minutes whose findings are remembered, so that a correction can be compared with them: two days.
/// At the limit: a correction to an older minute is kept and counted, and the minute is not judged again.
pub const REVISED_MINUTES_MAX: usize = 2_880;

/// Corrected minutes that are judged again after one record; the rest wait for the next, so that a replay over judged
/// history does not hold up what is live.
pub const REVISIONS_PER_RECORD_MAX: usize = 8;

/// Replay sessions open at once: each holds open minutes of every view.
/// At the limit: opening another is refused until one ends (`RESOURCE_EXHAUSTED`).
pub const SESSIONS_OPEN_MAX: usize = 64;

/// Replay sessions whose names and counts are remembered. At the limit: of those that have ended, the one opened
/// longest ago is forgotten; opened again, it counts from nothing.
pub const SESSIONS_REMEMBERED_MAX: usize = 10_000;

/// Producers and replay sessions remembered for de-duplication by sequence.
/// At the limit: the one heard of longest ago is forgotten.
pub const PRODUCERS_MAX: usize = 10_000;

/// Events a minute that can be simulated, as the mean of a week: two or three minutes of them are held at
/// 56 bytes an event. At the limit: the profile is refused.
pub const SIMULATED_RATE_MAX: f64 = 1_000_000.0;

/// Simulated events in one slice of arrivals: about 200 MB of columns. At the limit: the slice is refused.
pub const SIMULATED_SLICE_EVENTS_MAX: u64 = 1 << 20;

/// Incidents that a schedule plans ahead, about eleven years of them. Beyond: calm.
pub const SIMULATED_INCIDENTS_MAX: usize = 100_000;

/// Label sets of one rule with a running alert. More are no longer something a person can read.
/// At the limit: new label sets are not tracked until others resolve; counted, and reported once as a transition.
pub const ALERTS_PER_RULE_MAX: usize = 10_000;

/// Cooldowns of one rule that run at once: every alert at every severity. At the limit: the one that would end
/// soonest ends, which can only mean a notice too many.
pub const ALERT_COOLDOWNS_PER_RULE_MAX: usize = 4 * ALERTS_PER_RULE_MAX;

/// Transitions kept in memory for the table `alerts`. At the limit: the oldest go; the journal has them all.
pub const ALERT_HISTORY_MAX: usize = 10_000;

/// Deliveries that wait for one receiver: a day of a dead receiver's trouble. At the limit: the oldest of the least
/// severe goes to the dead letters, from where it can be resent; other receivers are not touched.
pub const OUTBOX_DELIVERIES_PER_RECEIVER_MAX: usize = 10_000;

/// Dead letters kept for listing and resending. At the limit: the oldest go, and are counted.
pub const DEAD_LETTERS_MAX: usize = 10_000;

/// Deliveries remembered as done, so that offering one again after a recovery does not send it again.
/// At the limit: the oldest are forgotten, which can only mean a delivery too many, with the same key.
pub const DELIVERIES_DONE_MAX: usize = 65_536;

/// Bytes kept of the reason for which a delivery failed. Longer ones are cut.
pub const DELIVERY_REASON_BYTES_MAX: usize = 512;

/// Bytes read of a webhook's answer. The rest is not read and the connection is closed.
pub const WEBHOOK_ANSWER_BYTES_MAX: usize = 4_096;

/// Deliveries in flight to one receiver. Beyond it they wait their turn.
pub const DELIVERIES_IN_FLIGHT_PER_RECEIVER_MAX: usize = 16;

/// Bytes waiting for the log's commit thread, beside the bound on records. At the limit: appending waits.
pub const LOG_QUEUE_BYTES_MAX: usize = 128 << 20;

/// Bytes written by one group commit, so that a long queue does not make the first in it wait for the last.
/// At the limit: the rest is the next commit's. One greater record is written alone.
pub const LOG_COMMIT_BYTES_MAX: usize = 16 << 20;

/// Bytes after which a segment of the log is finished, unless configured. It may be longer by one commit.
pub const LOG_SEGMENT_BYTES: u64 = 128 << 20;

/// Query files (streams, views and rules) of one engine, and the bytes of one of them. They are written by people;
/// at the limit the engine does not start and names the file or folder.
pub const QUERY_FILES_MAX: usize = 10_000;
pub const QUERY_FILE_BYTES_MAX: u64 = 1 << 20;

const _: () = assert!(REQUEST_BYTES_MAX < RECORD_BYTES_MAX);
const _: () = assert!(REJECTED_BYTES_MAX < TEXT_BYTES_MAX);

/// Bytes of shared reads and baselines that are kept while one minute is judged. At the limit: what does
/// not fit is read and computed again by each rule that wants it.
pub const BASELINE_BYTES_MAX: usize = 256 << 20;

/// Bytes of one SQL text. At the limit: refused as a bad query.
pub const SQL_BYTES_MAX: usize = 64 << 10;

/// Operators and brackets in one SQL text: each may nest, and planning recurses over nesting.
/// At the limit: refused as a bad query.
pub const SQL_OPERATORS_MAX: usize = 500;

/// The longest window of a `trailing_*` function, in minutes: a week. At the limit: refused.
pub const TRAILING_MINUTES_MAX: i64 = 7 * 24 * 60;

/// Rows of one rule's verdict for one minute. At the limit: the rule fails for that minute, alone.
pub const VERDICT_ROWS_MAX: usize = 10_000;

/// Bytes kept of all refused events of one batch together, so that a batch of nothing but refusals stays far below
/// `RECORD_BYTES_MAX`. At the limit: further ones are kept with their reason and without their text.
pub const REJECTED_BATCH_BYTES_MAX: usize = 8 << 20;

/// Refusals listed in one answer: more would not fit a client's default message size. At the limit: the rest
/// are counted in the answer and stand in `rejected_events`.
pub const REJECTIONS_ANSWERED_MAX: usize = 1_024;

/// Batches of one gRPC stream without their acknowledgement. At the limit: the server stops reading the stream.
pub const STREAM_UNACKNOWLEDGED_MAX: usize = 64;

/// Bytes of a producer's id or a session's name. At the limit: the request is refused.
pub const CLIENT_NAME_BYTES_MAX: usize = 256;

/// HTTP connections held open at once. At the limit: further ones wait in the listener's queue.
pub const HTTP_CONNECTIONS_MAX: usize = 1_024;

/// HTTP requests worked on at once, health checks apart. At the limit: 503 with `Retry-After`.
pub const HTTP_REQUESTS_MAX: usize = 128;

/// Streams of one gRPC connection. At the limit: the client's library queues.
pub const GRPC_STREAMS_PER_CONNECTION_MAX: u32 = 256;

/// Rows of one answer of `GET /transactions`. At the limit: a greater `limit` is refused.
pub const TRANSACTIONS_LISTED_MAX: u32 = 10_000;

/// Queries in one remote read request. At the limit: refused.
pub const REMOTE_READ_QUERIES_MAX: usize = 64;

/// Matchers of one remote read query. At the limit: refused.
pub const REMOTE_READ_MATCHERS_MAX: usize = 64;

/// Samples in one remote read answer: 80 MB of memory before compression. At the limit: refused, with the advice to ask
/// for a shorter range or fewer series.
pub const REMOTE_READ_SAMPLES_MAX: usize = 5_000_000;

/// Fields of one `evaluate` request. At the limit: refused.
pub const EVALUATE_FIELDS_MAX: usize = 64;

const _: () = assert!(REJECTED_BATCH_BYTES_MAX < RECORD_BYTES_MAX / 2);

/// Bytes of one row of a CSV or JSON lines file: every column at its limit fits. At the limit: the row
/// is reported as broken and the file goes on.
pub const SOURCE_RECORD_BYTES_MAX: usize = 1 << 20;

/// Columns of a CSV file. At the limit: the file is refused by its header, a row is reported as broken.
pub const SOURCE_COLUMNS_MAX: usize = 4_096;

/// Bytes of open rows, as they are held, that go into one frame of a saved operator: what is copied at once. A frame holds
/// whole minutes, so it may be larger by one.
pub const OPEN_FRAME_BYTES: usize = 64 << 20;

/// Rows of one segment on disk. A segment is made and read as a whole in memory. At the limit: it is refused, and its
/// maker divides it; compaction stops short of it.
pub const SEGMENT_ROWS_MAX: u64 = 8 << 20;

/// Bytes of one segment on disk, for the same reason and with the same behaviour.
pub const SEGMENT_BYTES_MAX: u64 = 256 << 20;

/// Bytes and rows of all segments that one merge reads: it holds them decoded, some hundred bytes a row. At the limit: the
/// segments of an hour or of a day become several, each nearly full.
pub const MERGE_BYTES_MAX: u64 = 64 << 20;
pub const MERGE_ROWS_MAX: u64 = 1 << 20;

/// Rows of one row group of a segment: what readers skip by its statistics. Fewer would cost more in footers than they
/// save in reading. At the limit: the next row group begins.
pub const SEGMENT_ROW_GROUP_ROWS: usize = 256 << 10;

const _: () = assert!(MERGE_BYTES_MAX < SEGMENT_BYTES_MAX && MERGE_ROWS_MAX < SEGMENT_ROWS_MAX);

/// Bytes of the manifest: some fifty thousand segments. At the limit: the checkpoint is refused and the one before stays in
/// force; compaction or retention has to make room.
pub const MANIFEST_BYTES_MAX: usize = 64 << 20;

/// Entries of journals that wait while the log cannot be written. At the limit: news of deliveries is dropped, which can
/// only mean a delivery too many after the next start, with the same key.
pub const JOURNAL_ENTRIES_WAITING_MAX: usize = 65_536;

/// Bytes of one part of a backup's object: what is sent at once. A greater object is sent in several parts.
pub const BACKUP_PART_BYTES: usize = 8 << 20;

/// Objects of a backup that are sent at once, each with a part in memory. Beyond it they wait their turn.
pub const BACKUP_OBJECTS_IN_FLIGHT: usize = 4;

/// Times that an object is sent or fetched before the backup or the restore is given up, beside what the client of the
/// object store tries by itself.
pub const BACKUP_ATTEMPTS: u32 = 4;

/// Bytes of a backup's descriptor: it names what the manifest names, and the log. At the limit: the backup is refused.
pub const BACKUP_DESCRIPTOR_BYTES_MAX: usize = 2 * MANIFEST_BYTES_MAX;

/// Backups at one target, of which every listing holds the names: eleven years of hourly ones. At the limit: neither a
/// listing nor a further backup, until old ones are removed.
pub const BACKUPS_MAX: usize = 100_000;
