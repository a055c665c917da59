//! How levels lend each other seats that they do not need (KEP-1040, "Seat borrowing").
//!
//! Each limited level has a number of seats of its own. Part of them it may lend, and so many it may borrow. Every period all
//! seats are dealt anew: a level gets at least what it can't lend or has just used of its own, and beyond that as much as the
//! others for each seat that it wants.

use super::demand::Wanted;

/// A demand of nothing still has a share.
const LEAST: f64 = 0.001;
/// Halvings in the search for the fair part: more than the digits of a float.
const STEPS: usize = 64;

/// What a level's configuration makes of its seats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bounds {
    /// It takes what it wants, without a limit.
    pub(super) exempt: bool,
    /// Its own.
    pub(super) nominal: usize,
    /// Its own without those that it may lend.
    pub(super) least: usize,
    /// Its own with those that it may borrow.
    pub(super) most: usize,
}

impl Bounds {
    /// What a new level begins with.
    pub(super) fn initial(self) -> usize {
        self.nominal - (self.nominal - self.least) / 2
    }
}

/// A level when seats are dealt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Party {
    pub(super) bounds: Bounds,
    pub(super) wanted: Wanted,
    /// What it has until now.
    pub(super) current: usize,
}

impl Party {
    /// The fewest that it is left with.
    fn floor(&self) -> usize {
        let Bounds { exempt, nominal, least, .. } = self.bounds;
        let used = if exempt { self.wanted.most } else { self.wanted.most.min(nominal) };
        least.max(used)
    }
}

/// The seats of each level for the next period, in the same order.
pub(super) fn deal(parties: &[Party]) -> Vec<usize> {
    let limited = || parties.iter().filter(|p| !p.bounds.exempt);
    let all: usize = parties.iter().map(|p| p.bounds.nominal).sum();
    let exempt: usize = parties.iter().filter(|p| p.bounds.exempt).map(Party::floor).sum();
    let left = all.saturating_sub(exempt);
    let least: usize = limited().map(|p| p.bounds.least).sum();
    let floors: usize = limited().map(Party::floor).sum();
    let claims: Vec<Claim> = limited().map(Claim::of).collect();
    let part = if left > floors { fair(all, &claims) } else { None };
    let seats = |party: &Party| {
        let Bounds { exempt, least: own, .. } = party.bounds;
        match part {
            _ if exempt => party.floor(),
            _ if left <= least => own,
            _ if left <= floors => {
                // What is left above the least goes to those who have used more, in proportion.
                let share = (left - least) as f64 / (floors - least) as f64;
                own + round((party.floor() - own) as f64 * share)
            }
            Some(part) => round(Claim::of(party).at(part)),
            // Nothing fits: a change of the configuration will follow.
            None => party.current,
        }
    };
    parties.iter().map(seats).collect()
}

/// What a level may get, and what it would.
struct Claim {
    low: f64,
    high: f64,
    target: f64,
}

impl Claim {
    fn of(party: &Party) -> Self {
        let low = party.floor() as f64;
        Self { low, high: (party.bounds.most as f64).max(low), target: party.wanted.smoothed.max(low).max(LEAST) }
    }

    fn at(&self, part: f64) -> f64 {
        (part * self.target).clamp(self.low, self.high)
    }
}

/// The part of each target at which all seats are dealt; `None` if the bounds do not allow it.
fn fair(seats: usize, claims: &[Claim]) -> Option<f64> {
    let seats = seats as f64;
    let sum = |part: f64| claims.iter().map(|claim| claim.at(part)).sum::<f64>();
    let (mut low, mut high) = (0.0, claims.iter().map(|c| c.high / c.target).fold(0.0, f64::max));
    if sum(low) > seats || sum(high) < seats {
        return None;
    }
    for _ in 0..STEPS {
        let middle = (low + high) / 2.0;
        if sum(middle) < seats { low = middle } else { high = middle }
    }
    Some(high)
}

/// A number of seats is small and not negative.
fn round(seats: f64) -> usize {
    seats.round() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn party(least: usize, nominal: usize, most: usize, high: usize, smoothed: f64) -> Party {
        let bounds = Bounds { exempt: false, nominal, least, most };
        Party { bounds, wanted: Wanted { most: high, smoothed }, current: nominal }
    }

    #[test]
    fn who_wants_more_borrows_from_who_wants_less_within_the_bounds() {
        let rows = [
            // Nobody wants anything: equal parts, within the bounds.
            (vec![party(5, 10, 30, 0, 0.0), party(5, 10, 30, 0, 0.0)], vec![10, 10]),
            // One wants all, the other lends what it may.
            (vec![party(5, 10, 30, 20, 20.0), party(5, 10, 30, 0, 0.0)], vec![15, 5]),
            // No more is borrowed than is allowed.
            (vec![party(5, 10, 12, 20, 20.0), party(5, 10, 30, 0, 0.0)], vec![12, 8]),
            // What it has just used of its own, a level keeps.
            (vec![party(5, 10, 30, 40, 40.0), party(0, 10, 30, 8, 1.0)], vec![12, 8]),
            // By the demand of each.
            (vec![party(0, 10, 40, 3, 3.0), party(0, 10, 40, 1, 1.0)], vec![15, 5]),
        ];
        for (parties, seats) in rows {
            assert_eq!(deal(&parties), seats, "{parties:?}");
        }
    }

    #[test]
    fn exempt_requests_take_from_what_is_dealt() {
        let exempt = |high: usize| Party {
            bounds: Bounds { exempt: true, nominal: 0, least: 0, most: 20 },
            wanted: Wanted { most: high, smoothed: 0.0 },
            current: 0,
        };
        let pair = [party(2, 10, 30, 10, 10.0), party(2, 10, 30, 6, 6.0)];
        assert_eq!(deal(&[exempt(18), pair[0], pair[1]]), [18, 2, 2], "the least is left");
        // Ten are left, four of them the least: half of what was used above it.
        assert_eq!(deal(&[exempt(10), pair[0], pair[1]]), [10, 6, 4]);
    }
}
