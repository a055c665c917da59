//! Amounts of resources: `100m`, `1.5Gi`, `2e3`. An amount is a number of nano-units and the family of suffixes that it is
//! written with. Digits below nano are rounded up, away from nothing asked for.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// Nano-units in one.
const NANO: i128 = 1_000_000_000;
/// Most that an amount with a binary suffix can be.
const MAX_BINARY: i128 = i64::MAX as i128 * NANO;
/// Most that any amount can be: room for sums is left above it.
const MAX: i128 = i128::MAX / 1024;

/// The suffixes that an amount is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `n`, `u`, `m`, nothing, `k`, `M`, `G`, `T`, `P`, `E`.
    DecimalSi,
    /// Nothing, `Ki`, `Mi`, `Gi`, `Ti`, `Pi`, `Ei`.
    BinarySi,
    /// `e3`, `e6`, ...
    DecimalExponent,
}

/// An amount that can't be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// It has not the form of a number and a suffix.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    /// There is no such suffix.
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// An amount. Two are equal if they amount to the same, whatever their suffixes.
#[derive(Clone, Copy, Debug)]
pub struct Quantity {
    nanos: i128,
    format: Format,
}

impl Quantity {
    /// Nothing.
    pub const ZERO: Self = Self { nanos: 0, format: Format::DecimalSi };

    /// A whole number.
    pub const fn whole(n: i64) -> Self {
        Self { nanos: n as i128 * NANO, format: Format::DecimalSi }
    }

    /// Reads an amount.
    pub fn parse(text: &str) -> Result<Self, QuantityError> {
        let (negative, rest) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            Some(_) => (false, text),
            None => return Err(QuantityError::Format),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if fraction.contains('.') || !well_formed(suffix) {
            return Err(QuantityError::Format);
        }
        let (format, exponent) = suffix_of(suffix).ok_or(QuantityError::Suffix)?;
        let nanos = match format {
            Format::BinarySi => binary(whole, fraction, exponent).min(MAX_BINARY),
            _ => decimal(whole, fraction, exponent).min(MAX),
        };
        // What is less than one is written with a decimal suffix, to be understood.
        let format = if format == Format::BinarySi && nanos > 0 && nanos < NANO { Format::DecimalSi } else { format };
        Ok(Self { nanos: if negative { -nanos } else { nanos }, format })
    }

    /// Reads an amount as it stands in an object: a text, or a number.
    pub fn from_value(value: &Value) -> Result<Self, QuantityError> {
        match value {
            Value::String(text) => Self::parse(text.trim()),
            Value::Number(number) => Self::parse(&number.to_string()),
            _ => Err(QuantityError::Format),
        }
    }

    /// The amount in whole units, rounded up.
    pub fn value(self) -> i64 {
        saturate(div_up(self.nanos, NANO))
    }

    /// The amount in thousandths, rounded up.
    pub fn milli_value(self) -> i64 {
        saturate(div_up(self.nanos, NANO / 1000))
    }

    /// This amount, rounded up to thousandths.
    pub fn rounded_to_milli(self) -> Self {
        Self { nanos: div_up(self.nanos, NANO / 1000) * (NANO / 1000), ..self }
    }

    /// True for nothing.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// True for less than nothing.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    /// The sum, in this amount's suffixes, or in the other's if this is nothing.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self { nanos: (self.nanos + other.nanos).clamp(-MAX, MAX), format }
    }

    /// The difference, likewise.
    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        self.plus(Self { nanos: -other.nanos, ..other })
    }

    /// How it is written.
    pub fn format(self) -> Format {
        self.format
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.nanos == other.nanos
    }
}

impl Eq for Quantity {}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nanos.cmp(&other.nanos)
    }
}

impl fmt::Display for Quantity {
    /// The canonical form: no fraction, and the largest suffix that needs none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let whole = self.nanos % NANO == 0;
        if self.format == Format::BinarySi && whole && self.nanos.abs() >= 1024 * NANO {
            let (mut number, mut power) = (self.nanos / NANO, 0);
            while number % 1024 == 0 && power < BINARY.len() - 1 {
                number /= 1024;
                power += 1;
            }
            return write!(f, "{number}{}", BINARY[power]);
        }
        let (mut number, mut exponent) = (self.nanos, -9);
        let last = if self.format == Format::DecimalExponent { i32::MAX } else { 18 };
        while number % 1000 == 0 && exponent < last {
            number /= 1000;
            exponent += 3;
        }
        match (self.format, exponent) {
            (_, 0) => write!(f, "{number}"),
            (Format::DecimalExponent, _) => write!(f, "{number}e{exponent}"),
            _ => {
                let found = DECIMAL.iter().find(|(_, e)| *e == exponent);
                write!(f, "{number}{}", found.map_or("", |(s, _)| s))
            }
        }
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// True for letters of suffixes, a sign and digits, each of them if it likes.
fn well_formed(suffix: &str) -> bool {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    rest.bytes().all(|b| b.is_ascii_digit())
}

/// The family of a suffix, and the power of two or ten that it stands for.
fn suffix_of(suffix: &str) -> Option<(Format, i32)> {
    if let Some((_, exponent)) = DECIMAL.iter().find(|(s, _)| *s == suffix) {
        return Some((Format::DecimalSi, *exponent));
    }
    if let Some(power) = BINARY.iter().skip(1).position(|s| *s == suffix) {
        return Some((Format::BinarySi, 10 * (i32::try_from(power).ok()? + 1)));
    }
    let digits = suffix.strip_prefix(['e', 'E'])?;
    digits.parse().ok().map(|exponent| (Format::DecimalExponent, exponent))
}

/// Nano-units of decimal digits with a power of ten.
fn decimal(whole: &str, fraction: &str, exponent: i32) -> i128 {
    // The digits' place that is one nano-unit, counted from the first digit of the fraction.
    let keep = 9i64.saturating_add(i64::from(exponent));
    let digits = whole.bytes().chain(fraction.bytes());
    let kept = i64::try_from(whole.len()).unwrap_or(i64::MAX).saturating_add(keep);
    let (mut nanos, mut more) = (0i128, false);
    let mut count = 0i64;
    for digit in digits {
        if count < kept {
            nanos = nanos.saturating_mul(10).saturating_add(i128::from(digit - b'0'));
        } else {
            more |= digit != b'0';
        }
        count += 1;
    }
    while count < kept && nanos != 0 && nanos < MAX {
        nanos = nanos.saturating_mul(10);
        count += 1;
    }
    nanos.saturating_add(i128::from(more))
}

/// Nano-units of decimal digits with a power of two.
fn binary(whole: &str, fraction: &str, exponent: i32) -> i128 {
    /// Digits of a fraction that count one by one; what follows can only round up.
    const PLACES: usize = 18;
    let number =
        |digits: &str| digits.bytes().fold(0i128, |n, d| n.saturating_mul(10).saturating_add(i128::from(d - b'0')));
    let unit = 1i128 << exponent;
    let whole = number(whole).saturating_mul(unit).saturating_mul(NANO);
    let (head, tail) = fraction.split_at(fraction.len().min(PLACES));
    let scaled = number(&format!("{head:0<PLACES$}")) * unit;
    let more = tail.bytes().any(|d| d != b'0');
    // A fraction in 10^-18 makes a nano-unit of every 10^9.
    whole.saturating_add(div_up(scaled, NANO)).saturating_add(i128::from(more && scaled % NANO == 0))
}

/// Division that rounds away from zero.
fn div_up(n: i128, by: i128) -> i128 {
    n / by + (n % by).signum()
}

fn saturate(n: i128) -> i64 {
    i64::try_from(n).unwrap_or(if n < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn q(text: &str) -> Quantity {
        Quantity::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"))
    }

    #[test]
    fn amounts_are_written_in_their_canonical_form() {
        let cases = [
            ("1000m", "1"),
            ("0.5", "500m"),
            ("1.5Gi", "1536Mi"),
            ("1024", "1024"),
            ("1024Ki", "1Mi"),
            ("1025Ki", "1025Ki"),
            ("1000", "1k"),
            ("100000", "100k"),
            ("1e3", "1e3"),
            ("1500e0", "1500"),
            ("12E6", "12e6"),
            ("1E", "1E"),
            ("0", "0"),
            ("0.0Mi", "0"),
            ("-1000m", "-1"),
            ("+2", "2"),
            ("0.1n", "1n"),
            ("0.0001Ki", "102400u"),
            ("0.5Ki", "512"),
            (".5", "500m"),
            ("5.", "5"),
            ("9223372036854775807", "9223372036854775807"),
            ("10Ei", "9223372036854775807"),
            ("100m", "100m"),
            ("2000Mi", "2000Mi"),
            ("2e-3", "2e-3"),
        ];
        for (text, canonical) in cases {
            assert_eq!(q(text).to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_told_apart() {
        for text in ["", "1.2.3", "1 ", "a", "1m2x", "1Gib"] {
            assert_eq!(Quantity::parse(text).unwrap_err(), QuantityError::Format, "{text}");
        }
        for text in ["--1", "1mm", "1K", "1i", "1ki", "1m3", "1e"] {
            assert_eq!(Quantity::parse(text).unwrap_err(), QuantityError::Suffix, "{text}");
        }
    }

    /// Numbers that look like chance, the same in every run.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % below
        }

        fn amount(&mut self) -> String {
            let suffixes = ["", "n", "u", "m", "k", "M", "G", "Ki", "Mi", "Gi", "Ti", "e3", "e-2", "E1"];
            let sign = ["", "-", "+"][self.next(3) as usize];
            let whole = self.next(10u64.pow(1 + self.0 as u32 % 6));
            let fraction = match self.next(3) {
                0 => format!(".{}", self.next(1_000_000_000_000)),
                _ => String::new(),
            };
            let at = self.next(suffixes.len() as u64) as usize;
            format!("{sign}{whole}{fraction}{}", suffixes[at])
        }
    }

    #[test]
    fn the_canonical_form_amounts_to_the_same_and_is_its_own() {
        let mut numbers = Numbers(0x9e37_79b9_7f4a_7c15);
        for _ in 0..20_000 {
            let text = numbers.amount();
            let (read, again) = (q(&text), q(&q(&text).to_string()));
            assert_eq!(read, again, "{text}");
            assert_eq!(read.to_string(), again.to_string(), "{text}");
        }
    }

    #[test]
    fn order_and_sums_agree() {
        let mut numbers = Numbers(42);
        for _ in 0..20_000 {
            let (a, b) = (q(&numbers.amount()), q(&numbers.amount()));
            assert_eq!(a.cmp(&b), a.minus(b).cmp(&Quantity::ZERO), "{a} {b}");
            assert_eq!(a.plus(b).minus(b), a, "{a} {b}");
            assert_eq!(a.plus(b), b.plus(a), "{a} {b}");
        }
    }

    #[test]
    fn whole_units_are_rounded_up() {
        assert_eq!((q("1500m").value(), q("1500m").milli_value()), (2, 1500));
        assert_eq!((q("1Gi").value(), q("100u").milli_value()), (1 << 30, 1));
        assert_eq!(q("100u").rounded_to_milli().to_string(), "1m");
        assert_eq!(Quantity::from_value(&serde_json::json!(2)).map(|q| q.to_string()), Ok("2".into()));
    }
}
