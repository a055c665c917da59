//! What scores have in common.

/// The most points of a node by one plugin.
pub(crate) const MAX_SCORE: i64 = 100;

/// Scales points so that the most become [`MAX_SCORE`]; reversed, so that none become that.
pub(crate) fn normalize(scores: &mut [i64], reverse: bool) {
    let most = scores.iter().copied().max().unwrap_or(0);
    if most <= 0 {
        if reverse {
            scores.fill(MAX_SCORE);
        }
        return;
    }
    for score in scores {
        *score = MAX_SCORE * *score / most;
        if reverse {
            *score = MAX_SCORE - *score;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_scaled_to_a_hundred_either_way() {
        let rows: [(&[i64], bool, &[i64]); 5] = [
            (&[1, 2, 3, 4], false, &[25, 50, 75, 100]),
            (&[1, 2, 3, 4], true, &[75, 50, 25, 0]),
            (&[0, 0], false, &[0, 0]),
            (&[0, 0], true, &[100, 100]),
            (&[1000, 10, 20, 30], false, &[100, 1, 2, 3]),
        ];
        for (scores, reverse, expected) in rows {
            let mut normalized = scores.to_vec();
            normalize(&mut normalized, reverse);
            assert_eq!(normalized, expected, "{scores:?} {reverse}");
        }
    }
}
