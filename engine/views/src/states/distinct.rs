//! `approx_distinct`: HyperLogLog with 2^14 registers (standard error 0.8 %), sparse while small.
//! The estimate is the improved estimator of O. Ertl, "New cardinality estimation algorithms for
//! HyperLogLog sketches" (2017), algorithms 5 and 6: one formula for all ranges, no tables.

use super::Merge;

const PRECISION: u32 = 14;
const REGISTERS: usize = 1 << PRECISION;
/// Ranks run from 1 to 64 - PRECISION + 1.
const RANK_MAX: usize = (64 - PRECISION + 1) as usize;
/// Entries of four bytes; beyond this the 16 KiB of registers are near and faster.
const SPARSE_MAX: usize = 1_024;

#[derive(Clone, Debug, PartialEq)]
pub enum DistinctState {
    /// `register << 8 | rank`, ascending, one entry a register.
    Sparse(Vec<u32>),
    Dense(Box<[u8]>),
}

impl Default for DistinctState {
    fn default() -> Self {
        Self::Sparse(Vec::new())
    }
}

impl DistinctState {
    /// Takes a value by its 64-bit hash.
    pub fn add_hash(&mut self, hash: u64) {
        let register = (hash >> (64 - PRECISION)) as u32;
        let rest = hash << PRECISION;
        let rank = (rest.leading_zeros() + 1).min(64 - PRECISION + 1);
        self.raise(register, rank as u8);
    }

    fn raise(&mut self, register: u32, rank: u8) {
        match self {
            Self::Dense(ranks) => {
                if let Some(current) = ranks.get_mut(register as usize) {
                    *current = rank.max(*current);
                }
            }
            Self::Sparse(entries) => {
                let entry = register << 8 | u32::from(rank);
                let at = entries.partition_point(|e| e >> 8 < register);
                match entries.get_mut(at) {
                    Some(current) if *current >> 8 == register => *current = entry.max(*current),
                    _ => entries.insert(at, entry),
                }
                if entries.len() > SPARSE_MAX {
                    self.densify();
                }
            }
        }
    }

    fn densify(&mut self) {
        if let Self::Sparse(entries) = self {
            let mut ranks = vec![0u8; REGISTERS].into_boxed_slice();
            for entry in entries.iter() {
                if let Some(rank) = ranks.get_mut((entry >> 8) as usize) {
                    *rank = (entry & 0xff) as u8;
                }
            }
            *self = Self::Dense(ranks);
        }
    }

    pub fn estimate(&self) -> u64 {
        let mut histogram = [0u32; RANK_MAX + 1];
        let mut count = |rank: u8, times: u32| {
            if let Some(bin) = histogram.get_mut(rank as usize) {
                *bin += times;
            }
        };
        match self {
            Self::Sparse(entries) => {
                entries.iter().for_each(|entry| count((entry & 0xff) as u8, 1));
                count(0, (REGISTERS - entries.len()) as u32);
            }
            Self::Dense(ranks) => ranks.iter().for_each(|rank| count(*rank, 1)),
        }
        ertl(&histogram).round() as u64
    }

    /// The sketch as bytes: a form byte, then entries or registers.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        bytes
    }

    /// Appends what `to_bytes` gives.
    pub fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Sparse(entries) => {
                bytes.push(0);
                entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.to_le_bytes()));
            }
            Self::Dense(ranks) => {
                bytes.push(1);
                bytes.extend_from_slice(ranks);
            }
        }
    }

    /// Reads `to_bytes` back; `None` where the bytes are not such a sketch.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        match form {
            0 if rest.len() % 4 == 0 && rest.len() <= SPARSE_MAX * 4 => {
                let entries = rest.chunks_exact(4).map(|entry| Some(u32::from_le_bytes(entry.try_into().ok()?)));
                let entries: Vec<u32> = entries.collect::<Option<_>>()?;
                let in_bounds =
                    |entry: &u32| entry >> 8 < REGISTERS as u32 && (1..=RANK_MAX).contains(&((entry & 0xff) as usize));
                let ascending = entries.windows(2).all(|pair| matches!(pair, [a, b] if a >> 8 < b >> 8));
                (ascending && entries.iter().all(in_bounds)).then_some(Self::Sparse(entries))
            }
            1 if rest.len() == REGISTERS && rest.iter().all(|rank| usize::from(*rank) <= RANK_MAX) => {
                Some(Self::Dense(rest.into()))
            }
            _ => None,
        }
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Sparse(entries) => 32 + entries.capacity() * 4,
            Self::Dense(_) => 32 + REGISTERS,
        }
    }
}

impl Merge for DistinctState {
    fn merge(&mut self, other: &Self) {
        match other {
            Self::Sparse(entries) => entries.iter().for_each(|entry| self.raise(entry >> 8, (entry & 0xff) as u8)),
            Self::Dense(theirs) => {
                self.densify();
                if let Self::Dense(ours) = self {
                    ours.iter_mut().zip(theirs).for_each(|(ours, theirs)| *ours = (*ours).max(*theirs));
                }
            }
        }
    }
}

/// Ertl's estimate from the number of registers of each rank.
fn ertl(histogram: &[u32; RANK_MAX + 1]) -> f64 {
    let registers = REGISTERS as f64;
    let [zeros, middle @ .., last] = histogram;
    let mut z = registers * tau(1.0 - f64::from(*last) / registers);
    for bin in middle.iter().rev() {
        z = 0.5 * (z + f64::from(*bin));
    }
    z += registers * sigma(f64::from(*zeros) / registers);
    if z.is_infinite() {
        return 0.0;
    }
    registers * registers / (2.0 * std::f64::consts::LN_2) / z
}

fn sigma(x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

fn tau(x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = z;
        y *= 0.5;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use tidewatch_model::hash64;

    use super::*;

    fn sketch(range: std::ops::Range<u64>) -> DistinctState {
        let mut state = DistinctState::default();
        range.for_each(|i| state.add_hash(hash64(&i.to_le_bytes())));
        state
    }

    #[test]
    fn estimates_stay_within_four_standard_errors() {
        assert_eq!(DistinctState::default().estimate(), 0);
        for n in [1, 2, 10, 100, 1_000, 3_000, 20_000, 200_000, 1_000_000] {
            let estimate = sketch(0..n).estimate() as f64;
            let allowed = (n as f64 * 4.0 * 0.0081).max(0.5);
            assert!((estimate - n as f64).abs() <= allowed, "{n} distinct read as {estimate}");
        }
    }

    #[test]
    fn merging_equals_adding_whatever_the_forms() {
        for (a, b) in [(0..10, 5..20), (0..900, 500..1_500), (0..5_000, 4_999..5_010), (0..10, 0..5_000)] {
            let mut merged = sketch(a.clone());
            merged.merge(&sketch(b.clone()));
            assert_eq!(DistinctState::from_bytes(&merged.to_bytes()), Some(merged.clone()));
            let mut added = sketch(a.clone());
            b.clone().for_each(|i| added.add_hash(hash64(&i.to_le_bytes())));
            assert_eq!(merged.estimate(), added.estimate(), "{a:?} and {b:?}");
        }
    }
}
