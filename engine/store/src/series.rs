//! `SeriesTable`: the keys of a view, each with a small number that stays the same while the process runs. The writer and
//! whoever reads minutes back from disk share one; it only ever grows.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use arrow::{array::ArrayRef, compute, error::ArrowError};
use tidewatch_views::KeyBytes;

#[derive(Debug, Default)]
pub struct SeriesTable {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    numbers: HashMap<KeyBytes, u32>,
    /// One row a series, in order of number; empty before the first series.
    columns: Arc<Vec<ArrayRef>>,
}

impl SeriesTable {
    pub fn len(&self) -> usize {
        self.read(|known| known.numbers.len())
    }

    /// The key columns of all series known by now.
    pub fn columns(&self) -> Arc<Vec<ArrayRef>> {
        self.read(|known| Arc::clone(&known.columns))
    }

    /// The keys of these series; numbers that nobody has are left out.
    pub fn keys_of<'a>(&self, wanted: impl Fn(u32) -> bool + 'a) -> Vec<(KeyBytes, u32)> {
        self.read(|known| {
            known
                .numbers
                .iter()
                .filter(|(_, number)| wanted(**number))
                .map(|(key, number)| (key.clone(), *number))
                .collect()
        })
    }

    /// The numbers of `keys`, new ones for keys not seen before; `columns` holds the same keys as arrays.
    pub fn intern<K: AsRef<[u8]>>(&self, keys: &[K], columns: &[ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let found = self.read(|known| keys.iter().map(|key| known.numbers.get(key.as_ref()).copied()).collect());
        match found {
            Some(numbers) => Ok(numbers),
            // A number is given under the lock, and with it the row in the columns.
            None => self.known.write().unwrap_or_else(PoisonError::into_inner).intern(keys, columns),
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Known) -> T) -> T {
        // A panic while the lock was held leaves numbers and columns as they were: they are replaced last.
        read(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Known {
    fn intern<K: AsRef<[u8]>>(&mut self, keys: &[K], columns: &[ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let mut numbers = Vec::with_capacity(keys.len());
        let mut fresh: Vec<u32> = Vec::new();
        let mut named: HashMap<&[u8], u32> = HashMap::new();
        for (row, key) in keys.iter().enumerate() {
            let key = key.as_ref();
            let known = self.numbers.get(key).or_else(|| named.get(key)).copied();
            numbers.push(known.unwrap_or_else(|| {
                let next = (self.numbers.len() + fresh.len()) as u32;
                named.insert(key, next);
                fresh.push(row as u32);
                next
            }));
        }
        if !fresh.is_empty() {
            self.columns = self.appended(&fresh, columns)?;
            self.numbers.extend(named.into_iter().map(|(key, number)| (key.into(), number)));
        }
        Ok(numbers)
    }

    fn appended(&self, fresh: &[u32], columns: &[ArrayRef]) -> Result<Arc<Vec<ArrayRef>>, ArrowError> {
        let fresh = arrow::array::UInt32Array::from(fresh.to_vec());
        let added = columns.iter().map(|column| compute::take(column, &fresh, None)).collect::<Result<Vec<_>, _>>()?;
        if self.columns.is_empty() {
            return Ok(Arc::new(added));
        }
        let pairs = self.columns.iter().zip(&added);
        let joined = pairs.map(|(old, new)| compute::concat(&[old, new])).collect::<Result<Vec<_>, _>>()?;
        Ok(Arc::new(joined))
    }
}
