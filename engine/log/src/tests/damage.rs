//! Damage: bit flips, missing and foreign segments, newer versions, and the fixture of version 1.

use super::*;
use crate::{Damage, segment};

/// A log of three segments with several commits in the last one. Returns its last segment too.
fn small_log() -> (MemFs, Vec<(Lsn, Record)>) {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    let mut number = 0;
    while writer.committed() < Lsn(50) {
        for _ in 0..2 {
            number += 1;
            writer.append(&encoded(&note(number))).unwrap();
        }
        writer.commit(&no_clock).unwrap();
    }
    let records = contents(&fs).unwrap();
    assert_eq!((records.len(), segment_files(&fs).len()), (50, 3));
    (fs, records)
}

#[test]
fn a_flipped_bit_anywhere_is_detected() {
    let (fs, records) = small_log();
    for name in segment_files(&fs) {
        let path = dir().join(&name);
        let good = fs.bytes(&path).unwrap();
        for at in 0..good.len() {
            for bit in [0, 7] {
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                fs.put(&path, bytes);
                match open(&fs) {
                    Err(LogError::Damaged(damage)) => assert_eq!(damage.file, path, "{name} at {at}"),
                    Err(other) => panic!("{name} at {at}: {other}"),
                    // Only the last commit may be taken for a torn tail, and is reported.
                    Ok((_, found)) => {
                        let cut = found.cut.unwrap_or_else(|| panic!("{name} at {at} was not seen"));
                        assert_eq!(cut.file, path);
                        assert!(found.next >= Lsn(49), "{name} at {at}");
                        let kept = contents(&fs).unwrap();
                        assert_eq!(kept, records[..kept.len()], "{name} at {at}");
                    }
                }
                // A reader that trusts an opening before the damage sees it too, and invents nothing.
                fs.put(&path, {
                    let mut bytes = good.clone();
                    bytes[at] ^= 1 << bit;
                    bytes
                });
                let read: Vec<_> =
                    Reader::open(Arc::new(fs.clone()), dir(), Lsn(1), Lsn(50), schemas()).unwrap().collect();
                assert!(read.last().is_some_and(Result::is_err), "{name} at {at}");
                for (item, good) in read.iter().flatten().zip(&records) {
                    assert_eq!(item, good);
                }
            }
        }
        fs.put(&path, good);
    }
}

fn refused(fs: &MemFs, words: &str) -> LogError {
    let error = open(fs).map(|(_, found)| found).expect_err(words);
    assert!(error.to_string().contains(words), "{error}");
    error
}

#[test]
fn damage_tells_its_place() {
    let (fs, _) = small_log();
    let path = dir().join(&segment_files(&fs)[2]);
    let mut bytes = fs.bytes(&path).unwrap();
    bytes[segment::HEADER_BYTES + 36] ^= 1;
    fs.put(&path, bytes.clone());
    let LogError::Damaged(Damage { file, offset, lsn, .. }) = refused(&fs, "checksum is wrong") else { panic!() };
    let first = segment::parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
    assert_eq!((file, offset, lsn), (path.clone(), segment::HEADER_BYTES as u64, first));
    assert_eq!(fs.bytes(&path).unwrap(), bytes, "a refused log is left as it is");
}

#[test]
fn missing_and_foreign_segments_are_refused() {
    let (fs, _) = small_log();
    let names = segment_files(&fs);
    fs.remove(&dir().join(&names[1])).unwrap();
    refused(&fs, "the next one begins with record");

    let (fs, _) = small_log();
    let other = MemFs::new();
    let config = LogConfig { new_log_id: 5, ..config() };
    let (mut writer, _) = Writer::open(Arc::new(other.clone()), dir(), &config).unwrap();
    for number in 1..=50 {
        writer.append(&encoded(&note(number))).unwrap();
        if number % 2 == 0 {
            writer.commit(&no_clock).unwrap();
        }
    }
    let path = dir().join(&names[1]);
    fs.put(&path, other.bytes(&path).unwrap());
    refused(&fs, "belongs to another log");
}

#[test]
fn a_segment_that_was_never_finished_is_removed() {
    for length in 0..segment::HEADER_BYTES {
        let (fs, records) = small_log();
        let mut header = fs.bytes(&dir().join(&segment_files(&fs)[0])).unwrap();
        header.truncate(length);
        fs.put(&dir().join(segment::file_name(Lsn(51))), header);
        let (_, found) = open(&fs).unwrap();
        assert_eq!((found.next, found.cut.map_or(0, |cut| cut.bytes)), (Lsn(51), length as u64));
        assert_eq!(contents(&fs).unwrap(), records);
        // In another place than behind the last record it is no such thing, and nothing is removed.
        fs.put(&dir().join(segment::file_name(Lsn(60))), Vec::new());
        refused(&fs, "the next one begins with record 60");
        assert_eq!(segment_files(&fs).len(), 4);
    }
}

#[test]
fn a_newer_version_is_refused_and_not_misread() {
    let (fs, _) = small_log();
    let path = dir().join(&segment_files(&fs)[0]);
    let mut bytes = fs.bytes(&path).unwrap();
    bytes[8..12].copy_from_slice(&2_u32.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..12]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    fs.put(&path, bytes);
    assert!(matches!(refused(&fs, "newer Tidewatch"), LogError::Newer { found: 2, known: 1, .. }));
}

#[test]
fn old_segments_are_forgotten_and_reading_begins_behind_them() {
    let (fs, records) = small_log();
    let (mut writer, found) = open(&fs).unwrap();
    assert_eq!((found.first, found.next, found.cut), (Lsn(1), Lsn(51), None));
    assert_eq!(writer.forget_before(Lsn(50)).unwrap(), 2);
    fs.crash();
    let (_, found) = open(&fs).unwrap();
    assert!(found.first > Lsn(1));
    let from = found.first.next();
    let read: Vec<_> = Reader::open(Arc::new(fs.clone()), dir(), from, Lsn(50), schemas()).unwrap().flatten().collect();
    assert_eq!(read, records[from.0 as usize - 1..]);
    let gone = Reader::open(Arc::new(fs.clone()), dir(), Lsn(1), Lsn(50), schemas());
    assert!(matches!(gone, Err(LogError::Damaged(_))));
}

#[test]
fn a_record_without_meaning_is_told_and_the_next_is_read() {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    let foreign = batch(&payments(), 1, 0.0, &mut rng());
    for record in [note(1), events(foreign), note(3)] {
        writer.append(&encoded(&record)).unwrap();
    }
    writer.commit(&no_clock).unwrap();
    let read: Vec<_> = Reader::open(Arc::new(fs.clone()), dir(), Lsn(1), Lsn(3), Schemas::default()).unwrap().collect();
    assert!(matches!(&read[..], [Ok(_), Err(LogError::Undecodable { lsn: Lsn(2), .. }), Ok((Lsn(3), _))]), "{read:?}");
}

#[test]
fn records_of_one_kind_are_read_and_the_others_not_even_decoded() {
    let fs = MemFs::new();
    let (mut writer, _) = open(&fs).unwrap();
    for number in 1..=40 {
        let foreign = || events(batch(&payments(), 1, 0.0, &mut rng()));
        let record = if number % 4 == 0 { note(number) } else { foreign() };
        writer.append(&encoded(&record)).unwrap();
        writer.commit(&no_clock).unwrap();
    }
    assert!(segment_files(&fs).len() > 2, "the test wants several segments");
    let reader = Reader::open(Arc::new(fs.clone()), dir(), Lsn(3), Lsn(39), Schemas::default()).unwrap();
    let read: Result<Vec<_>, LogError> = reader.only(RecordKind::Journal).collect();
    let notes = (1..10).map(|number| (Lsn(4 * number), note(4 * number)));
    assert_eq!(read.unwrap(), notes.collect::<Vec<_>>());
}

/// Records whose bytes are written down in the fixture: every kind, every type of column, nulls.
fn version_1() -> MemFs {
    let fs = MemFs::new();
    let (mut writer, _) = Writer::open(Arc::new(fs.clone()), dir(), &LogConfig::new(0x0102_0304_0506_0708)).unwrap();
    let mut one_of_each = codec::one_of_each();
    let whole = RecordBatch::try_new(payments().arrow().clone(), fixture_columns()).unwrap();
    one_of_each[0] = events(whole);
    for record in one_of_each {
        writer.append(&encoded(&record)).unwrap();
        writer.commit(&no_clock).unwrap();
    }
    fs
}

/// Written out, so that no change of a random generator can change the fixture.
fn fixture_columns() -> Vec<ArrayRef> {
    let text = || Arc::new(StringArray::from(vec![Some("a"), None, Some("größer")])) as ArrayRef;
    let whole = || Arc::new(StringArray::from(vec!["approved", "denied", ""])) as ArrayRef;
    let number = || Arc::new(Int64Array::from(vec![Some(1), Some(i64::MIN), None])) as ArrayRef;
    let nothing = || Arc::new(StringArray::from(vec![None::<&str>; 3])) as ArrayRef;
    let times = TimestampMicrosecondArray::from(vec![1_752_321_600_000_000, 0, -1]).with_timezone("UTC");
    let names = MapFieldNames { entry: "entries".into(), key: "keys".into(), value: "values".into() };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    maps.keys().append_value("till");
    maps.values().append_value("9");
    maps.keys().append_value("note");
    maps.values().append_null();
    maps.append(true).unwrap();
    maps.append(false).unwrap();
    maps.append(true).unwrap();
    vec![
        text(),
        Arc::new(times),
        whole(),
        text(),
        nothing(),
        nothing(),
        text(),
        text(),
        number(),
        whole(),
        number(),
        Arc::new(Float64Array::from(vec![Some(0.5), None, Some(-0.0)])),
        Arc::new(BooleanArray::from(vec![Some(true), Some(false), None])),
        Arc::new(Int64Array::from(vec![1, 2, 3])),
        Arc::new(maps.finish()),
    ]
}

#[test]
fn version_1_is_written_and_read_byte_for_byte() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/v1.log");
    let fs = version_1();
    let path = dir().join(&segment_files(&fs)[0]);
    let written = fs.bytes(&path).unwrap();
    // Only for making the fixture of a new version: those of old ones never change.
    if std::env::var_os("TIDEWATCH_WRITE_FIXTURES").is_some() {
        std::fs::write(&fixture, &written).unwrap();
    }
    let kept = std::fs::read(&fixture).unwrap();
    assert!(written == kept, "version 1 is written otherwise than the fixture");
    let expected = contents(&fs).unwrap();
    fs.put(&path, kept);
    assert_eq!(contents(&fs).unwrap(), expected);
    assert_eq!(expected.len(), codec::one_of_each().len());
}
