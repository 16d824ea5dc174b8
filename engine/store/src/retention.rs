//! Retention by size: which minutes must go so that the rest has room on disk. Retention by age is the head's and the tables'
//! own. It is pure.

use tidewatch_model::{Minute, Window};

use crate::{bucket::Bucket, manifest::Manifest};

/// The bytes that a manifest's files take.
pub fn bytes_of(manifest: &Manifest) -> u64 {
    manifest.files().map(|(file, _)| file.bytes).sum()
}

/// What must go for want of room on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// Everything before this minute, but for roll-ups.
    pub before: Minute,
    /// The windows of roll-ups that end before this minute.
    pub roll_ups_before: Option<Minute>,
}

impl NoRoom {
    /// What goes by either.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { before: self.before.max(other.before), roll_ups_before: self.roll_ups_before.max(other.roll_ups_before) }
    }
}

/// What must go so that the rest takes at most `bytes_max`: the oldest segments of all views and tables together, and of the hours
/// that they end in all. Roll-ups, which are small and kept for longest, go only where nothing else is left to go. `None` where
/// there is room. The newest hour never goes. `window` is what a row of a view or table stands for.
pub fn over(manifest: &Manifest, bytes_max: u64, window: impl Fn(&str) -> Window) -> Option<NoRoom> {
    let mut bytes = bytes_of(manifest);
    let (mut rows, mut rolled_up) = (Vec::new(), Vec::new());
    for (owner, segment) in manifest.segment_lists().flat_map(|(owner, of)| of.iter().map(move |of| (owner, of))) {
        let window = window(owner);
        let end = window.last(window.number(segment.minutes.1));
        let list = if window.is_roll_up() { &mut rolled_up } else { &mut rows };
        list.push(Ending { end, bytes: segment.file.bytes });
    }
    let newest = rows.iter().chain(&rolled_up).map(|of| of.end).max()?;
    let before = oldest_first(&mut rows, &mut bytes, bytes_max, newest);
    let roll_ups_before = oldest_first(&mut rolled_up, &mut bytes, bytes_max, newest);
    let nothing = Minute::from_index(i64::MIN);
    (before.is_some() || roll_ups_before.is_some())
        .then(|| NoRoom { before: before.unwrap_or(nothing), roll_ups_before })
}

/// A segment by its last minute.
struct Ending {
    end: Minute,
    bytes: u64,
}

/// The minute before which these must end to go until the rest has room.
fn oldest_first(segments: &mut [Ending], bytes: &mut u64, bytes_max: u64, newest: Minute) -> Option<Minute> {
    segments.sort_by_key(|segment| segment.end);
    let mut over = None;
    for segment in segments {
        let (first, last) = hour_of(segment.end);
        // The rest of an hour of which one segment goes.
        if over.is_some_and(|over| last < over) {
            *bytes = bytes.saturating_sub(segment.bytes);
            continue;
        }
        if *bytes <= bytes_max || first >= hour_of(newest).0 {
            break;
        }
        *bytes = bytes.saturating_sub(segment.bytes);
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
    use crate::{Chunk, FileEntry, Segment, StoredView};

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
        let no_room = over(&manifest, bytes_max, |_| Window::Minute);
        assert_eq!(no_room.map(|no_room| no_room.before.index()), expected, "{view:?} {table:?} {bytes_max}");
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
