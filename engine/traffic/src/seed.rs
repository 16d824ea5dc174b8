//! How one seed becomes as many independent generators as there are minutes and purposes.
//! Nothing here keeps state.

use rand::{SeedableRng, rngs::SmallRng};
use tidewatch_model::Minute;

/// What a generator is for. Two purposes never share a sequence, so that drawing more for one
/// leaves the other as it was.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(crate) enum Purpose {
    Counts = 1,
    Events = 2,
    Ids = 3,
    Effects = 4,
    Schedule = 5,
}

/// A one-to-one scrambling of 64 bits (the finaliser of the SplitMix64 generator).
pub(crate) const fn scramble(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// The number that stands for a seed in one purpose.
pub(crate) const fn key(seed: u64, purpose: Purpose) -> u64 {
    scramble(scramble(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(purpose as u64))
}

/// The generator of one minute: the same for the same arguments, wherever the traffic was begun.
pub(crate) fn generator(seed: u64, purpose: Purpose, minute: Minute) -> SmallRng {
    let minute = scramble(minute.index().cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15));
    SmallRng::seed_from_u64(key(seed, purpose) ^ minute)
}

/// A number in [0, 1) from 64 scrambled bits.
pub(crate) fn unit(bits: u64) -> f64 {
    // 53 bits fill a double's mantissa exactly.
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
