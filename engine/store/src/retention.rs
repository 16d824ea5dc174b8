//! Retention by size: which minutes must go so that the rest has room on disk. Retention by age is the head's and the tables'
//! own. It is pure.

use tidewatch_model::Minute;

use crate::{bucket::Bucket, manifest::Manifest, segment::Segment};

/// The bytes that a manifest's files take.
pub fn bytes_of(manifest: &Manifest) -> u64 {
    manifest.files().map(|(file, _)| file.bytes).sum()
}

/// The minute before which everything must go so that the rest takes at most `bytes_max`: the oldest segments of all views and
/// tables together, and of the hours that they end in all. `None` where there is room. The newest hour never goes.
pub fn over(manifest: &Manifest, bytes_max: u64) -> Option<Minute> {
    let mut bytes = bytes_of(manifest);
    let mut segments: Vec<&Segment> = manifest.segments().collect();
    segments.sort_by_key(|segment| segment.minutes.1);
    let newest = segments.last().map(|segment| hour_of(segment.minutes.1))?;
    let mut over = None;
    for segment in segments {
        let (first, last) = hour_of(segment.minutes.1);
        // The rest of an hour of which one segment goes.
        if over.is_some_and(|over| last < over) {
            bytes = bytes.saturating_sub(segment.file.bytes);
            continue;
        }
        if bytes <= bytes_max || first >= newest.0 {
            break;
        }
        bytes = bytes.saturating_sub(segment.file.bytes);
        over = Some(last.next());
    }
    over
}

/// The hour's first and last minute.
fn hour_of(minute: Minute) -> (Minute, Minute) {
    Bucket::of((minute, minute)).map_or((minute, minute), Bucket::minutes)
}

#[cfg(test)]
mod tests {
    use tidewatch_model::Lsn;

    use super::*;
    use crate::{Chunk, FileEntry, StoredView};

    fn segment(minutes: (i64, i64), bytes: u64) -> Segment {
        Segment {
            file: FileEntry { name: String::new(), bytes, crc32c: 0 },
            rows: 1,
            minutes: (Minute::from_index(minutes.0), Minute::from_index(minutes.1)),
            lsns: (Lsn(1), Lsn(1)),
            level: 0,
            chunks: vec![Chunk { offset: 4, bytes, crc32c: 0 }],
        }
    }

    fn check(view: &[((i64, i64), u64)], table: &[((i64, i64), u64)], bytes_max: u64, expected: Option<i64>) {
        let list = |of: &[((i64, i64), u64)]| of.iter().map(|(minutes, bytes)| segment(*minutes, *bytes)).collect();
        let mut manifest = Manifest::default();
        manifest.views.insert("v".to_owned(), StoredView { fingerprint: 0, segments: list(view) });
        manifest.tables.insert("t".to_owned(), list(table));
        assert_eq!(over(&manifest, bytes_max).map(Minute::index), expected, "{view:?} {table:?} {bytes_max}");
    }

    #[test]
    fn the_oldest_go_until_the_rest_has_room() {
        check(&[], &[], 0, None);
        let (view, table) = ([((0, 9), 10), ((60, 69), 10)], [((20, 30), 10), ((70, 90), 10), ((180, 181), 10)]);
        check(&view, &table, 50, None);
        // With one segment of an hour the others of it go.
        check(&view, &table, 49, Some(60));
        check(&view, &table, 30, Some(60));
        check(&view, &table, 29, Some(120));
        // The newest hour stays.
        check(&view, &table, 0, Some(120));
        // A day goes as a whole, and with it what ends before its end.
        check(&[((0, 1_439), 90), ((1_500, 1_501), 10)], &[((600, 610), 5)], 100, Some(660));
        check(&[((0, 1_439), 90), ((1_500, 1_501), 10)], &[((600, 610), 5)], 99, Some(1_440));
    }
}
