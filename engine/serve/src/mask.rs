//! Masks payment card numbers in text: the first six and the last four digits stay, the rest become `*`.
//! It knows nothing of columns; whoever takes text in calls it before anything else sees the text.
//!
//! A card number is 13 to 19 digits that pass the Luhn check, with or without single spaces or dashes
//! between them. Digits next to it may belong to something else ("12 4111 1111 1111 1111"), so every
//! stretch of whole groups is tried, and what any of them hides is hidden.

use std::borrow::Cow;

const DIGITS_MIN: usize = 13;
const DIGITS_MAX: usize = 19;
const KEPT_FIRST: usize = 6;
const KEPT_LAST: usize = 4;

/// The text with its card numbers masked. Its length in bytes stays what it was.
pub fn mask(text: &str) -> Cow<'_, str> {
    let bytes = text.as_bytes();
    // Nearly all texts end here: too short, or with too few digits. The count vectorises.
    if bytes.len() < DIGITS_MIN || bytes.iter().filter(|byte| byte.is_ascii_digit()).count() < DIGITS_MIN {
        return Cow::Borrowed(text);
    }
    let mut masked: Option<Vec<u8>> = None;
    let mut at = 0;
    while let Some(offset) = bytes.get(at..).and_then(|rest| rest.iter().position(u8::is_ascii_digit)) {
        let (chain, end) = chain_from(bytes, at + offset);
        if chain.len() >= DIGITS_MIN {
            hide(bytes, &chain, &mut masked);
        }
        at = end;
    }
    match masked {
        Some(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        None => Cow::Borrowed(text),
    }
}

/// One digit of a chain: where it stands, and whether a group of digits begins or ends with it.
struct Digit {
    at: usize,
    value: u8,
    begins: bool,
    ends: bool,
}

/// The digits from `start` on that have at most one space or dash between them, and where they end.
fn chain_from(bytes: &[u8], start: usize) -> (Vec<Digit>, usize) {
    let digit_at = |at: usize| bytes.get(at).filter(|byte| byte.is_ascii_digit()).map(|byte| byte - b'0');
    let separator_at = |at: usize| matches!(bytes.get(at), Some(b' ' | b'-'));
    let mut chain = Vec::with_capacity(DIGITS_MAX);
    let (mut at, mut begins) = (start, true);
    while let Some(value) = digit_at(at) {
        let more = digit_at(at + 1).is_some();
        chain.push(Digit { at, value, begins, ends: !more });
        begins = !more;
        at += if !more && separator_at(at + 1) && digit_at(at + 2).is_some() { 2 } else { 1 };
    }
    (chain, at)
}

/// Hides the middle of every stretch of whole groups that is a card number.
fn hide(bytes: &[u8], chain: &[Digit], masked: &mut Option<Vec<u8>>) {
    for (start, _) in chain.iter().enumerate().filter(|(_, digit)| digit.begins) {
        for length in DIGITS_MIN..=DIGITS_MAX {
            let Some(stretch) = chain.get(start..start + length) else { break };
            if !stretch.last().is_some_and(|digit| digit.ends) || !passes_luhn(stretch) {
                continue;
            }
            let masked = masked.get_or_insert_with(|| bytes.to_vec());
            for digit in stretch.iter().take(length - KEPT_LAST).skip(KEPT_FIRST) {
                if let Some(byte) = masked.get_mut(digit.at) {
                    *byte = b'*';
                }
            }
        }
    }
}

fn passes_luhn(digits: &[Digit]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match u32::from(digit.value) {
            value if place.is_multiple_of(2) => value,
            value if value > 4 => value * 2 - 9,
            value => value * 2,
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn card_numbers_are_masked_and_nothing_else() {
        for (text, expected) in [
            ("4111111111111111", "411111******1111"),
            ("4111 1111 1111 1111", "4111 11** **** 1111"),
            ("4111-1111-1111-1111", "4111-11**-****-1111"),
            ("paid with 4111111111111111, thanks", "paid with 411111******1111, thanks"),
            ("x4111111111111111y", "x411111******1111y"),
            ("378282246310005", "378282*****0005"),
            ("4222222222222", "422222***2222"),
            ("6304000000000000000", "630400*********0000"),
            // Two cards in one text, one of them behind other digits.
            ("4111111111111111 5555555555554444", "411111******1111 555555******4444"),
            ("order 12 4111111111111111", "order 12 411111******1111"),
            ("4111111111111111-737", "411111******1111-737"),
            // Luhn says no; too short; too long; broken by other signs.
            ("4111111111111112", "4111111111111112"),
            ("411111111111", "411111111111"),
            ("00000000000000000000", "00000000000000000000"),
            ("4111  1111  1111  1111", "4111  1111  1111  1111"),
            ("4111.1111.1111.1111", "4111.1111.1111.1111"),
            ("192.168.100.200:65535/1234", "192.168.100.200:65535/1234"),
            ("", ""),
            ("ünïcödé 4111111111111111 ✓", "ünïcödé 411111******1111 ✓"),
            ("- 4111111111111111 -", "- 411111******1111 -"),
        ] {
            assert_eq!(mask(text), expected, "{text}");
            assert_eq!(mask(text).len(), text.len());
        }
    }

    #[test]
    fn what_is_masked_stays_as_it_is() {
        let once = mask("4111 1111 1111 1111").into_owned();
        assert_eq!(mask(&once), once);
    }

    #[test]
    fn a_long_chain_of_digits_costs_linear_time() {
        let text = "4 ".repeat(200_000);
        assert_eq!(mask(&text).len(), text.len());
    }
}
