//! A copy of a stretch of the log is a log that ends with the stretch's last record.

use super::*;
use crate::Extent;

const RECORDS: u64 = 60;

fn extent(fs: &MemFs, from: u64, last: u64) -> Result<Extent, LogError> {
    Extent::of(fs, dir(), Lsn(from), Lsn(last))
}

fn copied(fs: &MemFs, extent: &Extent) -> MemFs {
    let copy = MemFs::new();
    copy.create_dir(dir()).unwrap();
    for segment in &extent.segments {
        let path = dir().join(&segment.name);
        let bytes = fs.bytes(&path).unwrap();
        copy.put(&path, bytes[..segment.bytes as usize].to_vec());
    }
    copy
}

#[test]
fn any_stretch_can_be_copied_and_opened() {
    let (fs, mut writer) = written(RECORDS, 3);
    // Written, and behind every stretch.
    writer.append(&encoded(&note(RECORDS + 1))).unwrap();
    writer.commit(&no_clock).unwrap();
    for last in 1..=RECORDS {
        for from in [1, last / 2 + 1, last, last + 1] {
            let extent = extent(&fs, from, last).unwrap();
            assert_eq!(extent.log_id, config().new_log_id);
            let copy = copied(&fs, &extent);
            let (_, found) = open(&copy).unwrap();
            assert_eq!((found.last(), found.cut), (Lsn(last), None), "{from} to {last}");
            assert!(found.first <= Lsn(from), "{from} to {last}");
            let records: Vec<_> = (found.first.0..=last).map(|number| (Lsn(number), note(number))).collect();
            assert_eq!(contents(&copy).unwrap(), records, "{from} to {last}");
        }
    }
}

#[test]
fn a_log_without_records_is_copied_as_one() {
    let fs = MemFs::new();
    drop(open(&fs).unwrap());
    let copy = copied(&fs, &extent(&fs, 1, 0).unwrap());
    let (_, found) = Writer::open(Arc::new(copy), dir(), &LogConfig::new(1)).unwrap();
    assert_eq!((found.log_id, found.next), (config().new_log_id, Lsn(1)));
}

#[test]
fn what_is_damaged_or_gone_is_not_copied() {
    let (fs, mut writer) = written(RECORDS, 3);
    assert!(matches!(extent(&fs, 1, RECORDS + 1), Err(LogError::Damaged(damage)) if damage.lsn == Lsn(RECORDS + 1)));
    writer.forget_before(Lsn(RECORDS / 2)).unwrap();
    assert!(matches!(extent(&fs, 1, RECORDS), Err(LogError::Damaged(damage)) if damage.lsn == Lsn(1)));
    let found = extent(&fs, RECORDS / 2, RECORDS).unwrap();
    let path = dir().join(&found.segments[0].name);
    let mut bytes = fs.bytes(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs.put(&path, bytes);
    assert!(matches!(extent(&fs, RECORDS / 2, RECORDS), Err(LogError::Damaged(_))));
}
