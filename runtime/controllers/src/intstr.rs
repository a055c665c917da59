//! Numbers that may be percentages.

use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The number itself, or the part of `total` that a percentage is, rounded up or down. What is neither is nothing, as
/// validation lets none in.
pub(crate) fn scaled(value: &IntOrString, total: i32, round_up: bool) -> i32 {
    match value {
        IntOrString::Int(number) => *number,
        IntOrString::String(text) => {
            let percent: Option<i64> = text.strip_suffix('%').and_then(|number| number.parse().ok());
            let part = percent.unwrap_or(0).saturating_mul(total.into());
            let whole = if round_up { (part + 99).div_euclid(100) } else { part.div_euclid(100) };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentages_are_rounded_up_for_surges_and_down_for_what_may_lack() {
        let percent = |text: &str| IntOrString::String(text.to_owned());
        for (value, total, up, down) in [
            (percent("25%"), 10, 3, 2),
            (percent("25%"), 4, 1, 1),
            (percent("0%"), 10, 0, 0),
            (percent("100%"), 7, 7, 7),
            (percent("1%"), 1, 1, 0),
            (IntOrString::Int(5), 3, 5, 5),
        ] {
            assert_eq!((scaled(&value, total, true), scaled(&value, total, false)), (up, down), "{value:?} of {total}");
        }
    }
}
