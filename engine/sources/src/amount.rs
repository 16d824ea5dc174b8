//! Decimal amounts to whole minor units, by exact arithmetic on the digits. No float is ever made of
//! an amount, and none is rounded: what is finer than the currency allows is refused.
//!
//! One thing is repaired: the debris of programs that calculated with floats, such as
//! `444.79999999999995`. A float of 64 bits carries 15 decimal digits, and prints as 16 or 17 where a
//! calculation was inexact. Where such a number is too fine for its currency, and its first 15 digits,
//! rounded, are not, those are the amount.

/// Why a text is no amount, or no whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AmountFault {
    #[error("is not a number")]
    Shape,
    #[error("is finer than {0} decimals")]
    TooFine(u32),
    #[error("does not fit 64 bits")]
    Range,
}

/// ISO 4217 currencies without a minor unit.
const WHOLE: &[&str] = &[
    "BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND", "VUV", "XAF", "XOF",
    "XPF",
];
/// ISO 4217 currencies of a thousand minor units.
const THOUSANDS: &[&str] = &["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"];
/// ISO 4217 units of account of ten thousand.
const TEN_THOUSANDS: &[&str] = &["CLF", "UYW"];
/// Crypto tickers, which have no ISO 4217 entry: eight decimals for all, as for bitcoin.
const CRYPTO: &[&str] = &[
    "AAVE", "ADA", "ALGO", "ATOM", "AVAX", "BCH", "BNB", "BTC", "DAI", "DASH", "DOGE", "DOT", "EOS", "ETC", "ETH",
    "FIL", "LINK", "LTC", "MATIC", "NEAR", "POL", "SHIB", "SOL", "TON", "TRX", "UNI", "USDC", "USDT", "WBTC", "XBT",
    "XLM", "XMR", "XRP", "XTZ", "ZEC",
];

/// How many decimals the minor unit of a currency stands for. A code that is in no table has two,
/// as most of ISO 4217 does.
pub fn exponent(currency: &str) -> u32 {
    let among = |codes: &[&str]| codes.iter().any(|code| code.eq_ignore_ascii_case(currency));
    if among(WHOLE) {
        0
    } else if among(THOUSANDS) {
        3
    } else if among(TEN_THOUSANDS) {
        4
    } else if among(CRYPTO) {
        8
    } else {
        2
    }
}

/// Decimal digits that a 64-bit float carries faithfully, and those that it prints at most.
const FLOAT_DIGITS: usize = 15;
const FLOAT_DIGITS_SHOWN: usize = 17;

/// The amount in minor units: `12.3` at an exponent of 2 is 1230. Reads an optional sign, digits with
/// at most one point, and an optional power of ten (`1e-2`), as programs write numbers. Separators of
/// thousands are refused: `1,234` and `1.234` mean different things in different places.
pub fn minor_units(text: &str, exponent: u32) -> Result<i64, AmountFault> {
    let decimal = Decimal::read(text)?;
    match decimal.scaled(exponent) {
        Err(AmountFault::TooFine(_)) if decimal.is_float_debris() => decimal.repaired().scaled(exponent),
        other => other,
    }
}

/// A whole number, also where it is written `12.0` or `1e3`.
pub(crate) fn whole_number(text: &str) -> Result<i64, AmountFault> {
    Decimal::read(text)?.scaled(0)
}

/// `digits` × 10^-scale, with no zero at either end of the digits; no digits are zero.
struct Decimal {
    negative: bool,
    digits: Vec<u8>,
    scale: i64,
}

impl Decimal {
    fn read(text: &str) -> Result<Self, AmountFault> {
        let text = text.trim();
        let (negative, unsigned) = match text.split_at_checked(1) {
            Some(("-", rest)) => (true, rest),
            Some(("+", rest)) => (false, rest),
            _ => (false, text),
        };
        let (mantissa, power) = match unsigned.split_once(['e', 'E']) {
            Some((mantissa, power)) => (mantissa, power_of_ten(power)?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = whole.bytes().chain(fraction.bytes());
        if whole.len() + fraction.len() == 0 || !digits.clone().all(|digit| digit.is_ascii_digit()) {
            return Err(AmountFault::Shape);
        }
        let digits = digits.map(|digit| digit - b'0').skip_while(|digit| *digit == 0).collect();
        Ok(Self { negative, digits, scale: fraction.len() as i64 - power }.stripped())
    }

    fn stripped(mut self) -> Self {
        while self.digits.last() == Some(&0) {
            self.digits.pop();
            self.scale -= 1;
        }
        self
    }

    fn scaled(&self, exponent: u32) -> Result<i64, AmountFault> {
        if self.digits.is_empty() {
            return Ok(0);
        }
        let zeros = i64::from(exponent) - self.scale;
        if zeros < 0 {
            return Err(AmountFault::TooFine(exponent));
        }
        let zeros = u32::try_from(zeros).map_err(|_| AmountFault::Range)?;
        let read = |value: i128, digit: &u8| value.checked_mul(10)?.checked_add(i128::from(*digit));
        let magnitude = self.digits.iter().try_fold(0, read);
        let magnitude = magnitude.and_then(|value| value.checked_mul(10_i128.checked_pow(zeros)?));
        let magnitude = magnitude.ok_or(AmountFault::Range)?;
        i64::try_from(if self.negative { -magnitude } else { magnitude }).map_err(|_| AmountFault::Range)
    }

    fn is_float_debris(&self) -> bool {
        (FLOAT_DIGITS + 1..=FLOAT_DIGITS_SHOWN).contains(&self.digits.len())
    }

    /// The first 15 digits, rounded by the sixteenth.
    fn repaired(&self) -> Self {
        let up = self.digits.get(FLOAT_DIGITS).is_some_and(|digit| *digit >= 5);
        let mut digits: Vec<u8> = self.digits.iter().take(FLOAT_DIGITS).copied().collect();
        if up {
            // A carry runs through the nines and stops at the first digit that has room.
            let room = digits.iter().rposition(|digit| *digit < 9);
            digits.iter_mut().skip(room.map_or(0, |room| room + 1)).for_each(|digit| *digit = 0);
            match room.and_then(|room| digits.get_mut(room)) {
                Some(digit) => *digit += 1,
                None => digits.insert(0, 1),
            }
        }
        let scale = self.scale - (self.digits.len() as i64 - FLOAT_DIGITS as i64);
        Self { negative: self.negative, digits, scale }.stripped()
    }
}

fn power_of_ten(text: &str) -> Result<i64, AmountFault> {
    let power: i64 = text.parse().map_err(|_| AmountFault::Shape)?;
    // No 64-bit float has a greater one; beyond it the digits are nonsense, not an amount.
    if power.abs() <= 400 { Ok(power) } else { Err(AmountFault::Shape) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, currency: &str, wanted: Result<i64, AmountFault>) {
        assert_eq!(minor_units(text, exponent(currency)), wanted, "{text} {currency}");
    }

    #[test]
    fn amounts_are_exact() {
        for (text, currency, minor) in [
            ("18.71", "EUR", 1871),
            ("18.6", "EUR", 1860),
            ("18", "EUR", 1800),
            ("18.", "EUR", 1800),
            (".5", "EUR", 50),
            ("-0.01", "EUR", -1),
            ("+7", "eur", 700),
            (" 7.00 ", "USD", 700),
            ("0.29", "USD", 29),
            ("1.15", "USD", 115),
            ("4.35", "USD", 435),
            ("18.710000", "EUR", 1871),
            ("1e2", "EUR", 10_000),
            ("1.5E-1", "EUR", 15),
            ("150", "JPY", 150),
            ("150.0", "KRW", 150),
            ("1.234", "KWD", 1234),
            ("1.2345", "CLF", 12_345),
            ("0.00000001", "BTC", 1),
            ("21000000", "BTC", 2_100_000_000_000_000),
            ("1.23", "ZZZ", 123),
            ("444.79999999999995", "EUR", 44_480),
            ("42.300000000000004", "EUR", 4_230),
            ("-7.800000000000001", "EUR", -780),
            ("999.99999999999995", "EUR", 100_000),
            ("123456789.12345678", "BTC", 12_345_678_912_345_678),
            ("0", "EUR", 0),
            ("-0.000000000000", "EUR", 0),
            ("0e-300", "EUR", 0),
            ("92233720368547758.07", "EUR", i64::MAX),
            ("-92233720368547758.08", "EUR", i64::MIN),
            ("000000000000000000000000000000000000000000001", "JPY", 1),
        ] {
            check(text, currency, Ok(minor));
        }
    }

    #[test]
    fn what_is_no_amount_says_why() {
        for (text, currency, fault) in [
            ("", "EUR", AmountFault::Shape),
            ("-", "EUR", AmountFault::Shape),
            (".", "EUR", AmountFault::Shape),
            ("1,234.50", "EUR", AmountFault::Shape),
            ("1.2.3", "EUR", AmountFault::Shape),
            ("€5", "EUR", AmountFault::Shape),
            ("NaN", "EUR", AmountFault::Shape),
            ("inf", "EUR", AmountFault::Shape),
            ("--5", "EUR", AmountFault::Shape),
            ("1e", "EUR", AmountFault::Shape),
            ("1e999999999999", "EUR", AmountFault::Shape),
            ("٣", "EUR", AmountFault::Shape),
            ("18.705", "EUR", AmountFault::TooFine(2)),
            ("1e-3", "EUR", AmountFault::TooFine(2)),
            ("444.799999999999", "EUR", AmountFault::TooFine(2)),
            ("444.79512345678901", "EUR", AmountFault::TooFine(2)),
            ("444.7999999999999999", "EUR", AmountFault::TooFine(2)),
            ("0.5", "JPY", AmountFault::TooFine(0)),
            ("1.2345", "BHD", AmountFault::TooFine(3)),
            ("0.000000001", "ETH", AmountFault::TooFine(8)),
            ("92233720368547758.08", "EUR", AmountFault::Range),
            ("1e40", "EUR", AmountFault::Range),
            ("1e400", "EUR", AmountFault::Range),
            ("9999999999999999999999999999999999999999999999", "EUR", AmountFault::Range),
        ] {
            check(text, currency, Err(fault));
        }
    }

    #[test]
    fn whole_numbers_are_amounts_without_decimals() {
        for (text, wanted) in [("116", Ok(116)), ("12.0", Ok(12)), ("1.5", Err(AmountFault::TooFine(0)))] {
            assert_eq!(whole_number(text), wanted, "{text}");
            assert_eq!(minor_units(text, 0), wanted, "{text}");
        }
        assert_eq!(whole_number("12.000000000000002"), Err(AmountFault::TooFine(0)));
    }
}
