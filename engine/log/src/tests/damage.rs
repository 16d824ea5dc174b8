//! Damage: bit flips, missing and foreign segments, newer versions, and the fixture of version 1.

use super::*;
use crate::segment;

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

/// What can be read of the log, and the numbers of what is told to be lost.
fn read_past_damage(fs: &MemFs, last: Lsn) -> (Vec<(Lsn, Record)>, Vec<Lsn>) {
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    for item in Reader::open(Arc::new(fs.clone()), dir(), LOG_ID, (Lsn(1), last), schemas()).unwrap() {
        match item {
            Ok(record) => kept.push(record),
            Err(LogError::Lost(gone)) => lost.extend((gone.first.0..gone.next.0).map(Lsn)),
            Err(other) => panic!("{other}"),
        }
    }
    (kept, lost)
}

/// Of `records` those are there whose numbers are not among the lost.
fn assert_kept((kept, lost): (Vec<(Lsn, Record)>, Vec<Lsn>), records: &[(Lsn, Record)], case: &str) {
    let whole = records.iter().filter(|(lsn, _)| !lost.contains(lsn)).cloned();
    assert_eq!(kept, whole.collect::<Vec<_>>(), "{case}");
}

#[test]
fn a_flipped_bit_anywhere_loses_one_record_at_most_and_is_told() {
    let (fs, records) = small_log();
    for name in segment_files(&fs) {
        let path = dir().join(&name);
        let good = fs.bytes(&path).unwrap();
        for at in 0..good.len() {
            for bit in [0, 7] {
                let case = format!("{name} at {at}");
                let mut bytes = good.clone();
                bytes[at] ^= 1 << bit;
                fs.put(&path, bytes.clone());
                // A reader that trusts an opening before the damage sees it too, and invents nothing.
                let (kept, lost) = read_past_damage(&fs, Lsn(50));
                assert!(lost.len() <= 1, "{case}: {lost:?}");
                assert_eq!(lost.is_empty(), at < segment::HEADER_BYTES, "{case}");
                assert_kept((kept, lost), &records, &case);
                let (_, found) = open(&fs).unwrap();
                match (&found.lost[..], &found.cut) {
                    // Only the last commit may be taken for a torn tail, and is reported.
                    ([], Some(cut)) => assert!(cut.file == path && found.next >= Lsn(49), "{case}"),
                    ([lost], None) => {
                        assert_eq!((&lost.file, found.next), (&path, Lsn(51)), "{case}");
                        assert!((lost.offset..lost.offset + lost.bytes).contains(&(at as u64)), "{case}: {lost}");
                        assert_eq!(fs.bytes(&path).unwrap(), bytes, "{case}: the file stays as it is");
                    }
                    other => panic!("{case}: {other:?}"),
                }
                let kept = read_past_damage(&fs, found.last());
                assert_kept(kept, &records[..found.last().0 as usize], &case);
                let new = dir().join(segment::file_name(Lsn(51)));
                if fs.bytes(&new).is_some() {
                    fs.remove(&new).unwrap();
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
    fs.put(&path, bytes);
    let (_, found) = open(&fs).unwrap();
    let first = segment::parse_file_name(path.file_name().unwrap().to_str().unwrap()).unwrap();
    let [lost] = &found.lost[..] else { panic!("{:?}", found.lost) };
    assert_eq!((&lost.file, lost.offset, lost.first), (&path, segment::HEADER_BYTES as u64, first));
    assert_eq!((lost.records(), lost.kind), (Some(1), Some(RecordKind::Journal)));
    assert!(lost.to_string().ends_with(&format!("the record's checksum is wrong; record {first} is lost")), "{lost}");
}

#[test]
fn missing_and_foreign_segments_are_lost_and_the_rest_is_read() {
    let (fs, records) = small_log();
    let names = segment_files(&fs);
    let firsts: Vec<u64> = names.iter().map(|name| segment::parse_file_name(name).unwrap().0).collect();
    let middle = firsts[1]..firsts[2];
    let path = dir().join(&names[1]);
    let lost_middle = |reason: &str| {
        let (_, found) = open(&fs).unwrap();
        let [lost] = &found.lost[..] else { panic!("{:?}", found.lost) };
        assert_eq!((lost.first.0..lost.next.0, found.next), (middle.clone(), Lsn(51)));
        assert!(lost.reason.contains(reason), "{lost}");
        let read = read_past_damage(&fs, Lsn(50));
        assert_eq!(read.1, middle.clone().map(Lsn).collect::<Vec<_>>());
        assert_kept(read, &records, reason);
    };
    fs.remove(&path).unwrap();
    lost_middle("the next ones begin with");

    let other = MemFs::new();
    let config = LogConfig { new_log_id: 5, ..config() };
    let (mut writer, _) = Writer::open(Arc::new(other.clone()), dir(), &config).unwrap();
    for number in 1..=50 {
        writer.append(&encoded(&note(number))).unwrap();
        if number % 2 == 0 {
            writer.commit(&no_clock).unwrap();
        }
    }
    fs.put(&path, other.bytes(&path).unwrap());
    lost_middle("belongs to another log");
}

/// A log of one segment with these bytes in it.
fn with_segment(bytes: Vec<u8>) -> (MemFs, std::path::PathBuf) {
    let fs = MemFs::new();
    fs.create_dir(dir()).unwrap();
    let path = dir().join(segment::file_name(Lsn(1)));
    fs.put(&path, bytes);
    (fs, path)
}

/// Ten records in one segment, a commit each, and where each frame begins.
fn one_segment() -> (Vec<u8>, Vec<usize>) {
    let fs = MemFs::new();
    let (mut writer, _) = Writer::open(Arc::new(fs.clone()), dir(), &LogConfig::new(LOG_ID)).unwrap();
    let path = dir().join(segment::file_name(Lsn(1)));
    let mut frames = Vec::new();
    for number in 1..=10 {
        frames.push(fs.bytes(&path).unwrap().len());
        writer.append(&encoded(&note(number))).unwrap();
        writer.commit(&no_clock).unwrap();
    }
    (fs.bytes(&path).unwrap(), frames)
}

#[test]
fn a_durable_end_that_is_damaged_stays_and_the_log_goes_on_in_a_new_segment() {
    let (mut bytes, frames) = one_segment();
    // Of the last frame only the header is left, which says that the ninth record was durable.
    bytes[frames[6]..frames[9]].fill(0);
    *bytes.last_mut().unwrap() ^= 1;
    let (fs, path) = with_segment(bytes.clone());
    let (mut writer, found) = open(&fs).unwrap();
    let [lost] = &found.lost[..] else { panic!("{:?}", found.lost) };
    assert_eq!((lost.first, lost.records(), found.next, &found.cut), (Lsn(7), None, Lsn(11), &None));
    assert_eq!(lost.offset + lost.bytes, bytes.len() as u64);
    assert_eq!(writer.append(&encoded(&note(11))).unwrap(), Lsn(11));
    writer.commit(&no_clock).unwrap();
    assert_eq!(fs.bytes(&path).unwrap(), bytes, "the damaged file stays as it is");
    assert_eq!(open(&fs).unwrap().1.next, Lsn(12));
    let (kept, lost) = read_past_damage(&fs, Lsn(11));
    assert_eq!(lost, (7..11).map(Lsn).collect::<Vec<_>>());
    assert_eq!(kept.last(), Some(&(Lsn(11), note(11))));
    assert_eq!(kept.len(), 7);
}

#[test]
fn what_a_checkpoint_has_was_durable_so_it_is_no_torn_tail() {
    let (bytes, frames) = one_segment();
    for (at, before, torn) in [(9, 10, true), (9, 11, false), (9, 20, false)] {
        let mut bytes = bytes.clone();
        bytes[frames[at]] ^= 1;
        let (fs, path) = with_segment(bytes.clone());
        let contained = crate::Contained { log_id: Some(LOG_ID), before: Lsn(before) };
        let (_, found) = Writer::open(Arc::new(fs.clone()), dir(), &LogConfig { contained, ..config() }).unwrap();
        assert_eq!((found.cut.is_some(), found.lost.len()), (torn, usize::from(!torn)), "{before}");
        assert_eq!(fs.bytes(&path).unwrap().len() == bytes.len(), !torn, "{before}");
        // A number that a checkpoint knows is never given again.
        assert_eq!(found.next, Lsn(before), "{before}");
    }
}

#[test]
fn frames_are_read_under_a_damaged_header_where_the_checkpoint_names_the_log() {
    let (mut bytes, _) = one_segment();
    bytes[20] ^= 1;
    let (fs, path) = with_segment(bytes.clone());
    refused(&fs, "the segment header's checksum is wrong");
    assert_eq!(fs.bytes(&path).unwrap(), bytes, "a refused log is left as it is");
    let contained = crate::Contained { log_id: Some(LOG_ID), before: Lsn(3) };
    let (_, found) = Writer::open(Arc::new(fs.clone()), dir(), &LogConfig { contained, ..config() }).unwrap();
    let [lost] = &found.lost[..] else { panic!("{:?}", found.lost) };
    assert_eq!((lost.records(), lost.bytes, found.next), (Some(0), segment::HEADER_BYTES as u64, Lsn(11)));
    assert_eq!(read_past_damage(&fs, Lsn(10)).0.len(), 10);
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
        let (_, found) = open(&fs).unwrap();
        assert_eq!((found.lost.len(), found.next, segment_files(&fs).len()), (2, Lsn(61), 5));
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
    let read: Vec<_> =
        Reader::open(Arc::new(fs.clone()), dir(), LOG_ID, (from, Lsn(50)), schemas()).unwrap().flatten().collect();
    assert_eq!(read, records[from.0 as usize - 1..]);
    let gone = Reader::open(Arc::new(fs.clone()), dir(), LOG_ID, (Lsn(1), Lsn(50)), schemas());
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
    let read: Vec<_> =
        Reader::open(Arc::new(fs.clone()), dir(), LOG_ID, (Lsn(1), Lsn(3)), Schemas::default()).unwrap().collect();
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
    let reader = Reader::open(Arc::new(fs.clone()), dir(), LOG_ID, (Lsn(3), Lsn(39)), Schemas::default()).unwrap();
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
