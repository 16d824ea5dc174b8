//! The first pass over a file: how many rows it has, how far its times are out of order, and which
//! bytes it holds. It reads the column of times alone and keeps nothing of the rows.

use std::{
    fs::File,
    io::Read,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use tidewatch_model::{EventTime, Span, StreamSchema, limits};
use xxhash_rust::xxh3::Xxh3;

use crate::{FileSource, Format, SourceError, SourceOptions};

/// What the first pass found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Rows, broken ones included.
    pub rows: u64,
    /// How far the time of any row lies before the greatest time of the rows above it. Times that no engine
    /// takes are left out here and in `times`: they must not hold the others up.
    pub disorder: Span,
    /// The least and the greatest time.
    pub times: Option<(EventTime, EventTime)>,
    /// XXH3 of all bytes of the file.
    pub content: u128,
}

impl Survey {
    /// Reads the whole file once. `progress` hears the rows read so far.
    pub fn of(
        path: &Path,
        schema: &Arc<StreamSchema>,
        options: &SourceOptions,
        mut progress: impl FnMut(u64),
    ) -> Result<Self, SourceError> {
        let hash = Arc::new(Mutex::new(Xxh3::new()));
        let parquet = options.format.or_else(|| Format::of(path)) == Some(Format::Parquet);
        let file = File::open(path).map_err(|error| SourceError::unreadable(path, error))?;
        let mut hashing = Hashing { file, hash: Arc::clone(&hash) };
        let input: Option<Box<dyn Read + Send>> = if parquet {
            // Parquet is read in no order, so its bytes are gone through once for the hash alone.
            std::io::copy(&mut hashing, &mut std::io::sink()).map_err(|error| SourceError::unreadable(path, error))?;
            None
        } else {
            Some(Box::new(hashing))
        };
        let mut source = FileSource::open_for(path, input, schema, options, schema.event_time())?;
        let mut order = Order::default();
        let mut rows = 0;
        while let Some(raw) = source.next_raw()? {
            let times = source.converter().event_times(&raw)?;
            times.iter().flatten().filter(|time| takes(*time)).for_each(|time| order.see(time));
            rows += (times.len() + raw.broken.len()) as u64;
            progress(rows);
        }
        let content = hash.lock().unwrap_or_else(PoisonError::into_inner).digest128();
        let times =
            order.times.map(|(least, greatest)| (EventTime::from_micros(least), EventTime::from_micros(greatest)));
        Ok(Self { rows, disorder: Span::from_micros(order.disorder), times, content })
    }
}

fn takes(time: i64) -> bool {
    (limits::EVENT_TIME_MIN..=limits::EVENT_TIME_MAX).contains(&EventTime::from_micros(time))
}

#[derive(Default)]
struct Order {
    times: Option<(i64, i64)>,
    disorder: i64,
}

impl Order {
    fn see(&mut self, time: i64) {
        let (least, greatest) = self.times.unwrap_or((time, time));
        self.disorder = self.disorder.max(greatest.saturating_sub(time));
        self.times = Some((least.min(time), greatest.max(time)));
    }
}

/// A file whose bytes are hashed as they are read.
struct Hashing {
    file: File,
    hash: Arc<Mutex<Xxh3>>,
}

impl Read for Hashing {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(into)?;
        let mut hash = self.hash.lock().unwrap_or_else(PoisonError::into_inner);
        hash.update(into.get(..read).unwrap_or_default());
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_that_no_engine_takes_is_no_disorder() {
        for (time, taken) in [
            (0, false),
            (-1, false),
            (limits::EVENT_TIME_MIN.micros(), true),
            (limits::EVENT_TIME_MAX.micros(), true),
            (limits::EVENT_TIME_MAX.micros() + 1, false),
            (253_402_300_799_000_000, false),
        ] {
            assert_eq!(takes(time), taken, "{time}");
        }
    }

    #[test]
    fn disorder_is_the_greatest_step_back_from_the_front() {
        for (times, disorder) in
            [(vec![], 0), (vec![5], 0), (vec![1, 2, 3], 0), (vec![3, 1, 2, 4, 2], 2), (vec![9, 8, 1], 8)]
        {
            let mut order = Order::default();
            times.iter().for_each(|time| order.see(*time));
            assert_eq!(order.disorder, disorder, "{times:?}");
        }
    }
}
