//! `IdKey`: keeps masked event ids apart. An id that looks like a card number is masked like any text, and two such ids
//! may then read the same; the second would be taken for a repetition of the first and never be counted. So a masked id
//! carries a tag of what it was, which nobody can work back from without the installation's secret.

use std::{borrow::Cow, fmt};

use ring::hmac;

use crate::mask::mask;

/// Bytes of the tag: two ids of a thousand million share one with a chance of one in forty.
const TAG_BYTES: usize = 8;

#[derive(Clone)]
pub struct IdKey(hmac::Key);

impl IdKey {
    pub const SECRET_BYTES: usize = 32;

    pub fn new(secret: &[u8; Self::SECRET_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The id as it is stored: equal ids stay equal, different ones different.
    pub(crate) fn mask<'a>(&self, id: &'a str) -> Cow<'a, str> {
        let Cow::Owned(mut masked) = mask(id) else { return Cow::Borrowed(id) };
        masked.push('#');
        for byte in hmac::sign(&self.0, id.as_bytes()).as_ref().iter().take(TAG_BYTES) {
            masked.push_str(&format!("{byte:02x}"));
        }
        Cow::Owned(masked)
    }
}

impl fmt::Debug for IdKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_that_are_masked_alike_stay_different_and_repeat() {
        let key = IdKey::new(&[7; IdKey::SECRET_BYTES]);
        // Both pass Luhn's check and share their first six and last four digits.
        let (one, other) = ("4111110000091111", "4111110000171111");
        assert_eq!(
            (mask(one), mask(one)),
            (mask(other), "411111******1111".into()),
            "the pair looks alike when masked"
        );
        assert_ne!(key.mask(one), key.mask(other));
        assert_eq!(key.mask(one), key.mask(one));
        assert!(key.mask(one).starts_with("411111******1111#"), "{}", key.mask(one));
        assert_ne!(key.mask(one), IdKey::new(&[8; IdKey::SECRET_BYTES]).mask(one), "the secret decides the tag");
    }

    #[test]
    fn other_ids_stay_as_they_are() {
        let key = IdKey::new(&[7; IdKey::SECRET_BYTES]);
        for id in ["", "order-17", "4111111111111112", &key.mask("4111111111111111")] {
            assert_eq!(key.mask(id), id);
        }
    }
}
