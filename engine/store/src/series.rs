//! `SeriesTable`: the keys of a view, each with a small number that stays the same while the process runs.

use std::{collections::HashMap, sync::Arc};

use arrow::{array::ArrayRef, compute, error::ArrowError};
use tidewatch_views::KeyBytes;

#[derive(Debug, Default)]
pub struct SeriesTable {
    numbers: HashMap<KeyBytes, u32>,
    /// One row a series, in order of number; empty before the first series.
    columns: Arc<Vec<ArrayRef>>,
}

impl SeriesTable {
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// The key columns of all series.
    pub fn columns(&self) -> &Arc<Vec<ArrayRef>> {
        &self.columns
    }

    pub fn number(&self, key: &[u8]) -> Option<u32> {
        self.numbers.get(key).copied()
    }

    /// The numbers of `keys`, new ones for keys not seen before; `columns` holds the same keys as arrays.
    pub fn intern(&mut self, keys: &[KeyBytes], columns: &[ArrayRef]) -> Result<Vec<u32>, ArrowError> {
        let mut numbers = Vec::with_capacity(keys.len());
        let mut fresh: Vec<u32> = Vec::new();
        for (row, key) in keys.iter().enumerate() {
            let next = self.numbers.len() as u32;
            let number = match self.numbers.get(key) {
                Some(number) => *number,
                None => {
                    self.numbers.insert(key.clone(), next);
                    fresh.push(row as u32);
                    next
                }
            };
            numbers.push(number);
        }
        if !fresh.is_empty() {
            self.append(&fresh, columns)?;
        }
        Ok(numbers)
    }

    fn append(&mut self, fresh: &[u32], columns: &[ArrayRef]) -> Result<(), ArrowError> {
        let fresh = arrow::array::UInt32Array::from(fresh.to_vec());
        let added = columns.iter().map(|column| compute::take(column, &fresh, None)).collect::<Result<Vec<_>, _>>()?;
        let joined = if self.columns.is_empty() {
            added
        } else {
            let pairs = self.columns.iter().zip(&added);
            pairs.map(|(old, new)| compute::concat(&[old, new])).collect::<Result<Vec<_>, _>>()?
        };
        self.columns = Arc::new(joined);
        Ok(())
    }
}
