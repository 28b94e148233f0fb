//! Quantities: whole numbers in the SKU's base unit x 10^scale, never floats. A decimal with more digits than the
//! SKU has is refused, never rounded.

use thiserror::Error;

/// The largest quantity of anything, so that sums of a few can't overflow.
pub const QUANTITY_MAX: i64 = 1_000_000_000_000_000;

/// The most decimal digits that a SKU may have.
pub const SCALE_MAX: u32 = 9;

/// Why a decimal is no quantity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum QuantityError {
    /// Not a decimal number.
    #[error("quantity `{0}` must be a decimal number such as 33.6")]
    Form(String),
    /// More digits than the SKU has.
    #[error("quantity `{quantity}` has more than the {scale} decimal digits of the SKU")]
    Digits {
        /// As given.
        quantity: String,
        /// How many digits there may be.
        scale: u32,
    },
    /// Too large.
    #[error("quantity `{0}` is too large")]
    Range(String),
}

/// Reads a decimal: `("33.6", 1)` is 336.
///
/// # Errors
/// Where it is no number, has too many digits, or is too large.
pub fn parse(text: &str, scale: u32) -> Result<i64, QuantityError> {
    let trimmed = text.trim();
    let (negative, unsigned) = match trimmed.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, trimmed),
    };
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return Err(QuantityError::Form(text.to_owned()));
    }
    let significant = fraction.trim_end_matches('0');
    let missing = (scale as usize).checked_sub(significant.len());
    let missing = missing.ok_or_else(|| QuantityError::Digits { quantity: text.to_owned(), scale })?;
    let range = || QuantityError::Range(text.to_owned());
    let mut number: i64 = 0;
    for digit in whole.bytes().chain(significant.bytes()).chain(std::iter::repeat_n(b'0', missing)) {
        let shifted = number.checked_mul(10).ok_or_else(range)?;
        number = shifted.checked_add(i64::from(digit - b'0')).ok_or_else(range)?;
    }
    if number > QUANTITY_MAX {
        return Err(range());
    }
    Ok(if negative { -number } else { number })
}

/// Writes it: `(336, 1)` is `33.6`.
pub fn format(quantity: i64, scale: u32) -> String {
    if scale == 0 {
        return quantity.to_string();
    }
    let width = scale as usize + 1;
    let digits = format!("{:0>width$}", quantity.unsigned_abs());
    let (whole, fraction) = digits.split_at(digits.len() - scale as usize);
    format!("{}{whole}.{fraction}", if quantity < 0 { "-" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn decimals_keep_every_digit() {
        for (text, scale, expected) in [
            ("3140.0", 1, 31_400),
            ("3106.4", 1, 31_064),
            ("33.60", 1, 336),
            ("7", 0, 7),
            ("-0.5", 2, -50),
            ("2", 3, 2000),
        ] {
            assert_eq!(parse(text, scale), Ok(expected), "{text}");
        }
        assert_eq!(format(31_400 - 31_064, 1), "33.6");
        assert!(matches!(parse("0.25", 1), Err(QuantityError::Digits { scale: 1, .. })));
        assert!(matches!(parse("1000000000000001", 0), Err(QuantityError::Range(_))));
        assert!(matches!(parse("99999999999999999999", 0), Err(QuantityError::Range(_))));
        for wrong in ["", ".", "1e3", "+1", "--1", "1,5", "NaN"] {
            assert!(matches!(parse(wrong, 3), Err(QuantityError::Form(_))), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(quantity in -QUANTITY_MAX..=QUANTITY_MAX, scale in 0..=SCALE_MAX) {
            prop_assert_eq!(parse(&format(quantity, scale), scale), Ok(quantity));
        }
    }
}
