//! The one hash that is part of stored state: XXH3 of an identifier's bytes.

use xxhash_rust::xxh3;

/// The 128-bit hash by which event ids are remembered. At 10^9 ids the chance that any two
/// distinct ones meet is below 10^-20, which is what "exact" means here.
pub type IdHash = u128;

pub fn hash_id(bytes: &[u8]) -> IdHash {
    xxh3::xxh3_128(bytes)
}

pub fn hash64(bytes: &[u8]) -> u64 {
    xxh3::xxh3_64(bytes)
}
