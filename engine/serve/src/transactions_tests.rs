//! What the door makes of protobuf transactions.

use arrow::array::{AsArray, MapArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use tidewatch_model::{SessionId, Span, limits};

use super::*;
use crate::testing::{LIVE, NOW, door, id_key};

fn event() -> Transaction {
    Transaction { occurred_at: NOW.micros(), status: "approved".to_owned(), ..Transaction::default() }
}

fn text<'a>(batch: &'a Batch, column: &str) -> Vec<Option<&'a str>> {
    batch.rows.column_by_name(column).unwrap().as_string::<i32>().iter().collect()
}

fn number(batch: &Batch, column: &str) -> Vec<Option<i64>> {
    batch.rows.column_by_name(column).unwrap().as_primitive::<Int64Type>().iter().collect()
}

#[test]
fn every_field_reaches_its_column() {
    let full = Transaction {
        event_id: Some("e-1".to_owned()),
        kind: Some("card".to_owned()),
        channel: Some("web".to_owned()),
        region: Some("eu".to_owned()),
        account_id: Some("a-1".to_owned()),
        counterparty_id: Some("m-1".to_owned()),
        amount_minor: Some(-1_999),
        currency: Some("EUR".to_owned()),
        latency_us: Some(0),
        auth_code: Some("0051".to_owned()),
        ip: Some("10.0.0.1".to_owned()),
        count: Some(7),
        attributes: [("b".to_owned(), "2".to_owned()), ("a".to_owned(), String::new())].into(),
        ..event()
    };
    let batch = door().transactions(&[full, event()], &LIVE);
    assert_eq!((batch.offsets.as_slice(), batch.rejected.len()), ([0, 1].as_slice(), 0));
    for (column, value) in [
        ("event_id", "e-1"),
        ("kind", "card"),
        ("channel", "web"),
        ("region", "eu"),
        ("account_id", "a-1"),
        ("counterparty_id", "m-1"),
        ("currency", "EUR"),
        ("auth_code", "0051"),
        ("ip", "10.0.0.1"),
    ] {
        assert_eq!(text(&batch, column), [Some(value), None], "{column}");
    }
    assert_eq!(number(&batch, "amount_minor"), [Some(-1_999), None]);
    assert_eq!(number(&batch, "latency_us"), [Some(0), None]);
    assert_eq!(number(&batch, "count"), [Some(7), Some(1)]);
    let times = batch.rows.column_by_name("occurred_at").unwrap().as_primitive::<TimestampMicrosecondType>();
    assert_eq!(times.values().as_ref(), [NOW.micros(); 2]);
    let attributes: &MapArray = batch.rows.column_by_name("attributes").unwrap().as_map();
    let keys: Vec<_> = attributes.keys().as_string::<i32>().iter().flatten().collect();
    assert_eq!((keys.as_slice(), attributes.value_length(1)), (["a", "b"].as_slice(), 0));
}

#[test]
fn each_fault_is_named_and_its_neighbours_are_kept() {
    let long = "x".repeat(limits::TEXT_BYTES_MAX + 1);
    let entries = |count: usize| (0..count).map(|n| (n.to_string(), String::new())).collect();
    let ahead = NOW.plus(Span::from_minutes(5)).micros();
    let cases = [
        (Transaction { occurred_at: 0, ..event() }, "occurred_at", "missing"),
        (Transaction { occurred_at: -1, ..event() }, "occurred_at", "before 1971"),
        (Transaction { occurred_at: NOW.seconds_as_micros(), ..event() }, "occurred_at", "in seconds"),
        (Transaction { occurred_at: i64::MIN, ..event() }, "occurred_at", "before 1971"),
        (Transaction { occurred_at: ahead + 1, ..event() }, "occurred_at", "after its arrival"),
        (Transaction { occurred_at: 253_370_764_800_000_000, ..event() }, "occurred_at", "9999"),
        (Transaction { occurred_at: i64::MAX, ..event() }, "occurred_at", "later than"),
        (Transaction { status: String::new(), ..event() }, "status", "missing"),
        (Transaction { status: long.clone(), ..event() }, "status", "4097 bytes"),
        (Transaction { region: Some("x".repeat(10 << 20)), ..event() }, "region", "bytes"),
        (Transaction { count: Some(-1), ..event() }, "count", "at least 0"),
        (Transaction { count: Some(i64::MIN), ..event() }, "count", "at least 0"),
        (Transaction { latency_us: Some(-1), ..event() }, "latency_us", "at least 0"),
        (Transaction { attributes: entries(65), ..event() }, "attributes", "65 entries"),
        (Transaction { attributes: [(String::new(), String::new())].into(), ..event() }, "attributes", "empty key"),
        (Transaction { attributes: [("k".to_owned(), long)].into(), ..event() }, "attributes", "4097 bytes"),
    ];
    for (bad, field, reason) in cases {
        let batch = door().transactions(&[event(), bad, event()], &LIVE);
        assert_eq!((batch.offsets.as_slice(), batch.rows.num_rows()), ([0, 2].as_slice(), 2), "{field}: {reason}");
        let rejected = batch.rejected.first().unwrap();
        assert_eq!((rejected.index, rejected.field.as_deref()), (1, Some(field)));
        assert!(rejected.reason.contains(reason), "{} should say {reason}", rejected.reason);
        assert!(rejected.event.len() <= limits::REJECTED_BYTES_MAX && rejected.event.starts_with('{'));
    }
    let fits = Transaction { occurred_at: ahead, attributes: entries(64), ..event() };
    assert_eq!(door().transactions(&[fits], &LIVE).rows.num_rows(), 1);
}

#[test]
fn a_session_may_bring_any_year_that_can_be_stored() {
    let session = Arrival { at: NOW, session: Some(SessionId(1)) };
    for (micros, accepted) in [
        (31_536_000_000_000, true),
        (9_214_646_400_000_000, true),
        (i64::MAX / 1_000, true),
        (i64::MAX / 1_000 + 1, false),
        (253_370_764_800_000_000, false),
        (1, false),
    ] {
        let batch = door().transactions(&[Transaction { occurred_at: micros, ..event() }], &session);
        assert_eq!(batch.rows.num_rows() == 1, accepted, "{micros}");
    }
}

#[test]
fn no_card_number_passes_in_any_text() {
    const CARD: &str = "4111-1111-1111-1111";
    let card = || Some(CARD.to_owned());
    let everywhere = Transaction {
        event_id: card(),
        status: CARD.to_owned(),
        kind: card(),
        channel: card(),
        region: card(),
        account_id: card(),
        counterparty_id: card(),
        currency: card(),
        auth_code: card(),
        ip: card(),
        attributes: [(CARD.to_owned(), CARD.to_owned())].into(),
        ..event()
    };
    let refused = Transaction { count: Some(-1), ..everywhere.clone() };
    let batch = door().transactions(&[everywhere, refused], &LIVE);
    let shown = arrow::util::pretty::pretty_format_batches(std::slice::from_ref(&batch.rows)).unwrap().to_string();
    assert_eq!(shown.matches("4111-11**-****-1111").count(), 12, "{shown}");
    assert!(!shown.contains(CARD) && !batch.rejected.first().unwrap().event.contains(CARD));
}

#[test]
fn masked_ids_stay_different() {
    // Masked, both read 411111******1111.
    let ids = ["4111110000091111", "4111110000171111", "order-1"];
    let batch = door().transactions(&ids.map(|id| Transaction { event_id: Some(id.to_owned()), ..event() }), &LIVE);
    let stored: Vec<&str> = text(&batch, "event_id").into_iter().flatten().collect();
    assert!(stored[0].starts_with("411111******1111#") && stored[1].starts_with("411111******1111#"), "{stored:?}");
    assert_ne!(stored[0], stored[1]);
    assert_eq!(stored[2], "order-1");
    let lines = ids.map(|id| format!(r#"{{"event_id":"{id}","occurred_at":"{NOW}","status":"approved"}}"#)).join("\n");
    let parsed = door().json(lines.as_bytes(), crate::Form::Lines, &LIVE).unwrap();
    assert_eq!(text(&parsed.batch, "event_id"), text(&batch, "event_id"));
}

#[test]
fn a_field_without_a_column_is_refused_and_not_dropped() {
    let columns = ["occurred_at", "status"].map(|name| Column {
        name: name.to_owned(),
        kind: if name == "status" { ColumnType::Text } else { ColumnType::Timestamp },
        required: true,
        default: None,
    });
    let schema = StreamSchema::new("small", columns.to_vec(), "occurred_at", None).unwrap();
    let small = Door::new(Arc::new(schema), id_key()).unwrap();
    let batch = small.transactions(&[event(), Transaction { ip: Some("10.0.0.1".to_owned()), ..event() }], &LIVE);
    assert_eq!(batch.offsets, [0]);
    assert_eq!(batch.rejected.first().unwrap().reason, "stream `small` has no column `ip`");
}

#[test]
fn streams_that_the_message_cannot_fill_are_refused_at_start() {
    let column = |name: &str, kind| Column { name: name.to_owned(), kind, required: true, default: None };
    let time = || column("occurred_at", ColumnType::Timestamp);
    for (other, expected) in [
        (column("amount_minor", ColumnType::Text), "has a type"),
        (column("shoe_size", ColumnType::BigInt), "is required"),
    ] {
        let schema = StreamSchema::new("odd", vec![time(), other], "occurred_at", None).unwrap();
        assert!(Door::new(Arc::new(schema), id_key()).unwrap_err().to_string().contains(expected));
    }
}

/// Event times in seconds, in the field for microseconds.
trait Mistaken {
    fn seconds_as_micros(self) -> i64;
}

impl Mistaken for EventTime {
    fn seconds_as_micros(self) -> i64 {
        self.micros() / 1_000_000
    }
}
