//! What a rule of an HTTPRoute does with its requests.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::Cors;
use crate::upstream::Backend;

/// What is done.
#[derive(Debug, Default)]
pub(crate) struct Action {
    /// The client is to ask elsewhere, and nothing else happens.
    pub(crate) redirect: Option<Redirect>,
    /// What scripts of other origins may.
    pub(crate) cors: Option<Cors>,
    /// The host that the endpoint is told.
    pub(crate) host: Option<HeaderValue>,
    /// The path that the endpoint is told.
    pub(crate) path: Option<PathChange>,
    /// Changes of the request's headers.
    pub(crate) request: HeaderChanges,
    /// Changes of the answer's headers.
    pub(crate) response: HeaderChanges,
    /// Where requests go.
    pub(crate) shares: Vec<Share>,
    /// Who gets copies of them.
    pub(crate) mirrors: Vec<Mirror>,
    /// When they are sent again.
    pub(crate) retry: Option<Retry>,
}

/// Where a client is to ask instead.
#[derive(Debug)]
pub(crate) struct Redirect {
    pub(crate) scheme: Option<Box<str>>,
    pub(crate) host: Option<Box<str>>,
    pub(crate) port: Option<u16>,
    pub(crate) path: Option<PathChange>,
    pub(crate) status: StatusCode,
}

/// A change of a path.
#[derive(Debug)]
pub(crate) enum PathChange {
    /// All of it.
    Whole(Box<str>),
    /// What the rule covers of it.
    Prefix(Box<str>),
}

/// Changes of headers, in this order.
#[derive(Debug, Default)]
pub(crate) struct HeaderChanges {
    pub(crate) set: Vec<(HeaderName, HeaderValue)>,
    pub(crate) add: Vec<(HeaderName, HeaderValue)>,
    pub(crate) remove: Vec<HeaderName>,
}

/// A Service with its share of the requests.
#[derive(Debug)]
pub(crate) struct Share {
    pub(crate) weight: u32,
    /// None if what is named is not there or may not be named.
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) request: HeaderChanges,
    pub(crate) response: HeaderChanges,
}

/// When requests are sent again.
#[derive(Debug)]
pub(crate) struct Retry {
    /// After answers with these statuses, and where none came.
    pub(crate) codes: Vec<u16>,
    /// How often at most.
    pub(crate) attempts: u32,
    /// How long that waits.
    pub(crate) backoff: Duration,
    /// How long all of it may take.
    pub(crate) within: Duration,
}

/// A Service that gets copies of requests.
#[derive(Debug)]
pub(crate) struct Mirror {
    pub(crate) backend: Arc<Backend>,
    /// Of how many requests how many.
    pub(crate) numerator: u32,
    pub(crate) denominator: u32,
}

impl Mirror {
    /// Whether it gets a request, by any number.
    pub(crate) fn takes(&self, number: u64) -> bool {
        number.checked_rem(u64::from(self.denominator)).is_some_and(|rest| rest < u64::from(self.numerator))
    }
}

impl HeaderChanges {
    /// Makes them.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

impl Action {
    /// The Service that a request goes to, by any number; none if there is none with a weight.
    pub(crate) fn pick(&self, number: u64) -> Option<&Share> {
        let total: u64 = self.shares.iter().map(|share| u64::from(share.weight)).sum();
        let mut left = number.checked_rem(total)?;
        self.shares.iter().find(|share| {
            let weight = u64::from(share.weight);
            let is_it = left < weight;
            left = left.saturating_sub(weight);
            is_it
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Protocol;

    #[test]
    fn shares_are_as_large_as_their_weights() {
        let share = |weight| Share {
            weight,
            backend: None,
            request: HeaderChanges::default(),
            response: HeaderChanges::default(),
        };
        let action =
            |weights: &[u32]| Action { shares: weights.iter().map(|w| share(*w)).collect(), ..Action::default() };
        let picked = |action: &Action, number| action.pick(number).map(|share| share.weight);
        let three = action(&[3, 0, 1]);
        assert_eq!((0..8).map(|n| picked(&three, n)).collect::<Vec<_>>(), [3, 3, 3, 1, 3, 3, 3, 1].map(Some));
        assert_eq!((picked(&action(&[]), 7), picked(&action(&[0, 0]), 7)), (None, None));
    }

    #[test]
    fn a_mirror_gets_its_part_of_the_requests() {
        let backend = Arc::new(Backend::new("ns", "copies", Protocol::Http));
        for (numerator, denominator, expected) in
            [(1, 1, 8), (0, 100, 0), (1, 4, 2), (3, 4, 6), (100, 100, 8), (1, 0, 0)]
        {
            let mirror = Mirror { backend: backend.clone(), numerator, denominator };
            assert_eq!((0..8).filter(|number| mirror.takes(*number)).count(), expected, "{numerator}/{denominator}");
        }
    }
}
