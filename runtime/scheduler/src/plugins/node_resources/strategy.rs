//! How full a node is best.

use super::Amounts;
use crate::config::args::{ScoringStrategy, ShapePoint, StrategyType};
use crate::framework::MAX_SCORE;

/// Points that a shape may give, at most.
const MAX_SHAPE_SCORE: i64 = 10;

/// The points of a node that has and uses these amounts.
pub(super) fn points(strategy: &ScoringStrategy, amounts: impl Iterator<Item = Amounts>) -> i64 {
    let (mut sum, mut weights) = (0, 0);
    for amount in amounts {
        let (used, all) = (amount.used + amount.asked, amount.allocatable);
        let points = match strategy.kind {
            StrategyType::LeastAllocated if used > all => 0,
            StrategyType::LeastAllocated => part(all - used, all),
            StrategyType::MostAllocated => part(used.min(all), all),
            StrategyType::RequestedToCapacityRatio => {
                let utilization = if used > all { 100 } else { part(used, all) };
                let points = shaped(&strategy.shape, utilization);
                if points <= 0 {
                    continue;
                }
                points
            }
        };
        sum += points * amount.weight;
        weights += amount.weight;
    }
    match (weights, strategy.kind) {
        (0, _) => 0,
        (_, StrategyType::RequestedToCapacityRatio) => (2 * sum + weights) / (2 * weights),
        _ => sum / weights,
    }
}

/// A part of a whole on the scale of scores.
fn part(part: i64, whole: i64) -> i64 {
    let scaled = i128::from(part) * i128::from(MAX_SCORE) / i128::from(whole.max(1));
    i64::try_from(scaled).unwrap_or(i64::MAX)
}

/// The value at a place of a function that is straight between its points.
fn shaped(shape: &[ShapePoint], at: i64) -> i64 {
    let points = |point: &ShapePoint| point.score * (MAX_SCORE / MAX_SHAPE_SCORE);
    let Some(next) = shape.iter().position(|point| at <= point.utilization) else {
        return shape.last().map_or(0, points);
    };
    if next == 0 {
        return points(&shape[0]);
    }
    let (from, to) = (&shape[next - 1], &shape[next]);
    points(from) + (points(to) - points(from)) * (at - from.utilization) / (to.utilization - from.utilization).max(1)
}
