//! Numbers as Go's `strconv` writes them.

/// `strconv.FormatFloat(value, 'g', -1, 64)`: the fewest digits that tell it, with an exponent below -4 or from 6 on. `fmt`'s `%v` of
/// a float is this too.
pub(crate) fn shortest(value: f64) -> String {
    general(value, 6)
}

/// The fewest digits, with an exponent below -4 or from `from` on.
pub(crate) fn general(value: f64, from: i32) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if exponent < -4 || exponent >= from { with_exponent(mantissa, exponent) } else { format!("{value}") }
}

/// `1.5e+06`
pub(crate) fn with_exponent(mantissa: &str, exponent: i32) -> String {
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.abs())
}
