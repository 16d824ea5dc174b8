//! Every decoder that meets bytes from outside, each as a function of bytes that panics where the decoder does or where
//! what it read is not read again from what the encoder makes of it. The fuzzer and the tests call the same functions.

use std::{
    io::Cursor,
    path::Path,
    sync::{Arc, LazyLock},
};

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use prost::Message;
use tidewatch_log::{Encoded, FileSystem, LogConfig, LogError, MemFs, Reader, Record, Schemas, Writer};
use tidewatch_model::{EventTime, Lsn, StreamSchema, transactions};
use tidewatch_serve::{
    Arrival, Door, Form, IdKey,
    proto::tidewatch::v1::{SubmitRequest, Transaction},
    remote_read_request,
};
use tidewatch_sources::{FileSource, Format, SourceOptions};

/// A decoder and its name, which is that of its corpus.
pub type Decoder = (&'static str, fn(&[u8]));

/// Those that need neither the store nor SQL.
pub const DECODERS: [Decoder; 8] = [
    ("log_record", log_record),
    ("log_segment", log_segment),
    ("submit", submit),
    ("remote_read", remote_read),
    ("json_events", json_events),
    ("csv_rows", csv_rows),
    ("json_rows", json_rows),
    ("parquet_rows", parquet_rows),
];

const LIVE: Arrival = Arrival { at: EventTime::from_micros(1_752_321_600_000_000), session: None };

static SCHEMA: LazyLock<Arc<StreamSchema>> = LazyLock::new(|| Arc::new(transactions().unwrap()));

static DOOR: LazyLock<Door> =
    LazyLock::new(|| Door::new(Arc::clone(&SCHEMA), IdKey::new(&[7; IdKey::SECRET_BYTES])).unwrap());

fn schemas() -> Schemas {
    [Arc::clone(&*SCHEMA)].into_iter().collect()
}

/// Kind, layout, payload: as if the frame's checksums were right.
pub fn log_record(bytes: &[u8]) {
    let [kind, layout, payload @ ..] = bytes else { return };
    let Ok(record) = Record::decode(*kind, *layout, payload, &schemas()) else { return };
    // Schemas may have columns that the record lacked, so its bytes may be others; what they mean may not.
    let encoded = Encoded::new(&record).unwrap();
    let again = Record::decode(*kind, *layout, encoded.payload(), &schemas()).unwrap();
    assert_eq!(record, again);
}

/// A file as the log's only segment: opened, and if it was opened, read.
pub fn log_segment(bytes: &[u8]) {
    let fs = MemFs::new();
    let dir = Path::new("/log");
    fs.create_dir(dir).unwrap();
    fs.put(&dir.join("00000000000000000001.log"), bytes.to_vec());
    let Ok((mut writer, found)) = Writer::open(Arc::new(fs.clone()), dir, &LogConfig::new(1)) else { return };
    let read = Reader::open(Arc::new(fs.clone()), dir, found.log_id, (found.first, found.last()), schemas()).unwrap();
    let read: Vec<Result<(Lsn, Record), LogError>> = read.collect();
    // What was verified on opening may be without meaning here; it is not damaged.
    assert!(read.iter().all(|record| !matches!(record, Err(LogError::Damaged(_)))));
    // The log goes on behind it.
    let note =
        Record::Journal(tidewatch_log::Journal { topic: tidewatch_log::JournalTopic::Alerts, json: b"[]".to_vec() });
    let lsn = writer.append(&Encoded::new(&note).unwrap()).unwrap();
    writer.commit(&|| std::time::Duration::ZERO).unwrap();
    let mut read = Reader::open(Arc::new(fs), dir, found.log_id, (lsn, lsn), schemas()).unwrap();
    assert_eq!(read.next().unwrap().unwrap(), (lsn, note));
}

/// A message of protobuf, and the columns that its events become.
pub fn submit(bytes: &[u8]) {
    let Ok(request) = SubmitRequest::decode(bytes) else { return };
    let batch = DOOR.transactions(&request.transactions, &LIVE);
    assert_eq!(batch.rows.num_rows() + batch.rejected.len(), request.transactions.len());
    assert_eq!(
        SubmitRequest::decode(request.encode_to_vec().as_slice()).unwrap().transactions.len(),
        request.transactions.len()
    );
    // What is let in can be logged, and is the same when it is read.
    let record = Record::Events(tidewatch_log::Events {
        stream: SCHEMA.name().to_owned(),
        partition: tidewatch_model::Partition::Live(0),
        arrived_at: LIVE.at,
        producer: None,
        rows: batch.rows,
        rejected: Vec::new(),
    });
    let encoded = Encoded::new(&record).unwrap();
    assert_eq!(Record::decode(1, 1, encoded.payload(), &schemas()).unwrap(), record);
}

/// A body packed with snappy; and the same bytes as what it unpacks to.
pub fn remote_read(bytes: &[u8]) {
    let packed = snap::raw::Encoder::new().compress_vec(bytes).unwrap();
    for body in [bytes, &packed] {
        if let Err(refusal) = remote_read_request(body) {
            assert!(!refusal.is_empty());
        }
    }
}

pub fn json_events(bytes: &[u8]) {
    for form in [Form::Any, Form::Lines] {
        let Ok(parsed) = DOOR.json(bytes, form, &LIVE) else { continue };
        assert_eq!(parsed.batch.rows.num_rows(), parsed.batch.offsets.len());
        assert_eq!(parsed.batch.rows.num_rows() + parsed.batch.rejected.len(), parsed.lines.len());
    }
}

pub fn csv_rows(bytes: &[u8]) {
    rows(bytes, Format::Csv);
}

pub fn json_rows(bytes: &[u8]) {
    rows(bytes, Format::JsonLines);
}

fn rows(bytes: &[u8], format: Format) {
    let options = SourceOptions { format: Some(format), batch_rows: 3, ..SourceOptions::default() };
    let input = Box::new(Cursor::new(bytes.to_vec()));
    if let Ok(source) = FileSource::from_input("rows", input, &SCHEMA, &options) {
        take(source);
    }
}

/// Parquet is read from a file: its footer comes last.
pub fn parquet_rows(bytes: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let options = SourceOptions { format: Some(Format::Parquet), batch_rows: 3, ..SourceOptions::default() };
    if let Ok(source) = FileSource::open(file.path(), &SCHEMA, &options) {
        take(source);
    }
}

fn take(source: FileSource) {
    for batch in source {
        let Ok(batch) = batch else { return };
        assert_eq!(batch.events.num_rows(), batch.rows.len());
        assert_eq!(batch.events.num_rows(), batch.lines.len());
        assert!(batch.events.num_rows() + batch.broken.len() <= 3);
    }
}

/// Two events as a Parquet file of somebody else's.
fn parquet_file() -> Vec<u8> {
    let columns: [(&str, ArrayRef); 3] = [
        ("occurred_at", Arc::new(Int64Array::from(vec![1_752_321_600, 1_752_321_601]))),
        ("status", Arc::new(StringArray::from(vec!["approved", "denied"]))),
        ("count", Arc::new(Int64Array::from(vec![Some(3), None]))),
    ];
    let rows = RecordBatch::try_from_iter(columns).unwrap();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, rows.schema(), None).unwrap();
    writer.write(&rows).unwrap();
    writer.close().unwrap();
    file
}

/// A good input for each, from which the corpus is made.
pub fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let transaction = Transaction {
        event_id: Some("e-1".to_owned()),
        occurred_at: LIVE.at.micros(),
        status: "approved".to_owned(),
        amount_minor: Some(1_999),
        currency: Some("EUR".to_owned()),
        ip: Some("192.0.2.7".to_owned()),
        ..Transaction::default()
    };
    let request = SubmitRequest {
        batch_id: 1,
        transactions: vec![transaction.clone(), Transaction { status: String::new(), ..transaction }],
        ..SubmitRequest::default()
    };
    let batch = DOOR.transactions(&request.transactions, &LIVE);
    let record = Record::Events(tidewatch_log::Events {
        stream: SCHEMA.name().to_owned(),
        partition: tidewatch_model::Partition::Live(0),
        arrived_at: LIVE.at,
        producer: Some(tidewatch_log::Producer { id: "p".to_owned(), first_sequence: 9, offsets: Some(vec![0]) }),
        rows: batch.rows,
        rejected: Vec::new(),
    });
    let encoded = Encoded::new(&record).unwrap();
    let fs = MemFs::new();
    let (mut writer, _) = Writer::open(Arc::new(fs.clone()), Path::new("/log"), &LogConfig::new(1)).unwrap();
    writer.append(&encoded).unwrap();
    writer.commit(&|| std::time::Duration::ZERO).unwrap();
    writer.append(&encoded).unwrap();
    writer.commit(&|| std::time::Duration::ZERO).unwrap();
    vec![
        ("log_record", [&[1, 1], encoded.payload()].concat()),
        ("log_segment", fs.bytes(Path::new("/log/00000000000000000001.log")).unwrap()),
        ("submit", request.encode_to_vec()),
        ("remote_read", read_request()),
        (
            "json_events",
            br#"[{"occurred_at": "2025-07-12T12:00:00Z", "status": "approved", "amount_minor": 5}]"#.to_vec(),
        ),
        ("json_events", b"{\"occurred_at\": 1752321600, \"status\": \"x\"}\n{\"status\": [1e400, null]}\n".to_vec()),
        (
            "csv_rows",
            b"occurred_at,status,count\n2025-07-12 12:00:00,approved,3\n\"1752321600\",\"a \"\"b\"\"\",\n".to_vec(),
        ),
        (
            "json_rows",
            b"{\"occurred_at\": 1752321600, \"status\": \"approved\"}\n{\"attributes\": {\"a\": \"b\"}}\n".to_vec(),
        ),
        ("parquet_rows", parquet_file()),
    ]
}

fn read_request() -> Vec<u8> {
    use tidewatch_serve::proto::prometheus::{LabelMatcher, Query, ReadRequest};
    let matcher = LabelMatcher { r#type: 2, name: "__name__".to_owned(), value: "payments.*".to_owned() };
    let query = Query { start_timestamp_ms: 1, end_timestamp_ms: 2, matchers: vec![matcher] };
    ReadRequest { queries: vec![query], ..ReadRequest::default() }.encode_to_vec()
}
