//! Records to bytes and back; schemas that changed in between; bytes that are no record.

use tidewatch_model::Span;

use super::*;
use crate::{Advance, AdvanceCause, DecodeError, SessionEnded, SessionOpened};

fn round_trip(record: &Record, schemas: &Schemas) -> Result<Record, DecodeError> {
    let bytes = encoded(record);
    Record::decode(bytes.kind(), bytes.layout(), bytes.payload(), schemas)
}

pub(super) fn one_of_each() -> Vec<Record> {
    let mut rng = StdRng::seed_from_u64(1);
    let at = EventTime::from_micros(-5);
    let (stream, session) = ("transactions".to_owned(), SessionId(u64::MAX));
    let mut records = vec![
        events(batch(&payments(), 3, 0.3, &mut rng)),
        note(1),
        Record::SessionOpened(SessionOpened {
            stream: stream.clone(),
            session,
            name: "replay of März".to_owned(),
            lateness: Span::from_seconds(30),
            notify: true,
            at,
        }),
        Record::SessionEnded(SessionEnded { stream: stream.clone(), session, at }),
    ];
    for (partition, cause) in
        [(Partition::Live(65_535), AdvanceCause::Idle), (Partition::Session(session), AdvanceCause::Silent)]
    {
        records.push(Record::Advance(Advance { stream: stream.clone(), partition, watermark: at, at, cause }));
    }
    use JournalTopic::{Alerts, Deliveries, Rules, Settings, Verdicts};
    for topic in [Rules, Verdicts, Alerts, Deliveries, Settings] {
        records.push(Record::Journal(Journal { topic, json: Vec::new() }));
    }
    records
}

#[test]
fn every_kind_of_record_comes_back() {
    for record in one_of_each() {
        assert_eq!(round_trip(&record, &schemas()).as_ref(), Ok(&record));
    }
}

#[test]
fn random_batches_come_back() {
    let (schema, mut rng) = (payments(), rng());
    for case in 0..300 {
        let rows = [0, 1, 7, 8, 9, 64, 100][case % 7];
        let nulls = [0.0, 0.2, 1.0][case % 3];
        let whole = batch(&schema, rows, nulls, &mut rng);
        // Slices have offsets that are not on a byte, and buffers that are larger than they.
        let from = rng.random_range(0..=rows);
        let slice = whole.slice(from, rng.random_range(0..=rows - from));
        for rows in [whole, slice] {
            let record = events(rows);
            assert_eq!(round_trip(&record, &schemas()).as_ref(), Ok(&record), "case {case}");
        }
    }
}

#[test]
fn equal_batches_have_equal_bytes_however_they_were_cut() {
    let rows = batch(&payments(), 50, 0.3, &mut rng());
    let cut = rows.slice(11, 20);
    let again = match round_trip(&events(cut.clone()), &schemas()) {
        Ok(Record::Events(events)) => events.rows,
        other => panic!("{other:?}"),
    };
    assert_eq!(encoded(&events(cut)), encoded(&events(again)));
}

/// Writes with one set of optional columns and reads with another.
fn evolve(written: &[Column], read: &[Column]) -> Result<Vec<Option<i64>>, DecodeError> {
    let schema = |extra: &[Column]| {
        let mut columns = vec![column("at", ColumnType::Timestamp)];
        columns[0].required = true;
        columns.extend_from_slice(extra);
        Arc::new(StreamSchema::new("transactions", columns, "at", None).unwrap())
    };
    let record = events(batch(&schema(written), 2, 0.0, &mut StdRng::seed_from_u64(3)));
    let schemas = [schema(read)].into_iter().collect();
    let Record::Events(events) = round_trip(&record, &schemas)? else { panic!("another kind") };
    assert_eq!(events.rows.num_rows(), 2);
    let values = events.rows.column(1).as_any().downcast_ref::<Int64Array>().unwrap();
    Ok(values.iter().collect())
}

#[test]
fn columns_may_come_and_go() {
    let plain = || column("n", ColumnType::BigInt);
    let other = column("gone", ColumnType::Text);
    let defaulted = Column { default: Some(9), ..plain() };
    let required = Column { required: true, ..plain() };
    assert_eq!(evolve(std::slice::from_ref(&other), &[plain()]), Ok(vec![None, None]));
    assert_eq!(evolve(&[], &[defaulted]), Ok(vec![Some(9), Some(9)]));
    assert!(evolve(&[other, plain()], &[plain()]).unwrap().iter().all(Option::is_some));
    assert!(matches!(evolve(&[], &[required]), Err(DecodeError::Column { .. })));
    assert!(matches!(evolve(&[column("n", ColumnType::Text)], &[plain()]), Err(DecodeError::Column { .. })));
    let unknown = round_trip(&events(batch(&payments(), 1, 0.0, &mut rng())), &Schemas::default());
    assert_eq!(unknown, Err(DecodeError::UnknownStream("transactions".to_owned())));
}

#[test]
fn newer_kinds_and_layouts_are_refused() {
    for (kind, layout) in [(6, 1), (0, 1), (5, 2)] {
        assert_eq!(Record::decode(kind, layout, &[1], &schemas()), Err(DecodeError::Newer { kind, layout }));
    }
}

#[test]
fn any_bytes_give_a_record_or_an_error() {
    let (schemas, mut rng) = (schemas(), rng());
    let mut refused = 0;
    for record in one_of_each() {
        let good = encoded(&record);
        for at in 0..good.payload().len() {
            // Whatever is cut off is missed, save at the open end of a journal.
            let cut = Record::decode(good.kind(), good.layout(), &good.payload()[..at], &schemas);
            assert!(cut.is_err() || matches!(record, Record::Journal(_)), "cut at {at}");
            for _ in 0..8 {
                let mut bytes = good.payload().to_vec();
                bytes[at] = rng.random();
                if rng.random_bool(0.3) {
                    let other = rng.random_range(0..bytes.len());
                    bytes[other] = [0, 0xff, 0x7f, 0x80][rng.random_range(0..4)];
                }
                refused += usize::from(Record::decode(good.kind(), 1, &bytes, &schemas).is_err());
            }
        }
    }
    assert!(refused > 1_000, "only {refused} were refused");
}

#[test]
fn a_few_bytes_cannot_claim_many_rows() {
    let record = events(batch(&payments(), 0, 0.0, &mut rng()));
    let mut bytes = encoded(&record).payload().to_vec();
    let columns = [15, 0, 0, 0];
    let at = bytes.windows(4).position(|window| window == columns).unwrap();
    bytes[at - 4..at].copy_from_slice(&65_536_u32.to_le_bytes());
    assert!(matches!(Record::decode(1, 1, &bytes, &schemas()), Err(DecodeError::Malformed { .. })));
    bytes[at - 4..at].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(matches!(Record::decode(1, 1, &bytes, &schemas()), Err(DecodeError::Malformed { .. })));
}
