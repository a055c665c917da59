//! Which Service and which endpoint of it a request goes to.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use http::{HeaderMap, header};

use crate::annotations::CanaryRule;
use crate::routes::Route;
use crate::upstream::{Backend, Endpoint};

/// The value of a cookie.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    cookies.find(|(known, _)| *known == name).map(|(_, value)| value.trim_matches('"'))
}

/// The endpoint that the client was given before, if it is still there.
pub(super) fn kept(route: &Route, headers: &HeaderMap) -> Option<(Arc<Backend>, Arc<Endpoint>)> {
    let affinity = route.settings.affinity.as_ref()?;
    let mark = cookie(headers, &affinity.cookie)?;
    let backends = route.main.iter().chain(route.canaries.iter().map(|canary| &canary.backend));
    backends.into_iter().find_map(|backend| backend.marked(mark).map(|endpoint| (backend.clone(), endpoint)))
}

/// The Service for a request. A header decides before a cookie, and a cookie before the weights, as ingress-nginx has it.
pub(super) fn backend<'a>(route: &'a Route, headers: &HeaderMap) -> Option<&'a Arc<Backend>> {
    let rules = route.canaries.iter().filter_map(|canary| Some((canary.settings.canary.as_deref()?, &canary.backend)));
    let mut weighted = Vec::new();
    for (rule, backend) in rules {
        match said(rule, headers) {
            Some(true) => return Some(backend),
            Some(false) => {}
            None => weighted.push((rule, backend)),
        }
    }
    for (rule, backend) in weighted {
        if rule.weight > 0 && random() % u64::from(rule.total) < u64::from(rule.weight) {
            return Some(backend);
        }
    }
    route.main.as_ref()
}

/// What the request itself says about a canary.
fn said(rule: &CanaryRule, headers: &HeaderMap) -> Option<bool> {
    let word = |text: &str| match text {
        "always" => Some(true),
        "never" => Some(false),
        _ => None,
    };
    let by_header = rule.header.as_ref().and_then(|(name, value)| {
        let sent = headers.get(name)?.to_str().ok()?;
        match value {
            Some(value) => (**value == *sent).then_some(true),
            None => word(sent),
        }
    });
    by_header.or_else(|| word(cookie(headers, rule.cookie.as_ref()?)?))
}

/// Any number: xorshift, which is enough to share requests out.
pub(super) fn random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::annotations::Settings;
    use crate::routes::Canary;
    use crate::upstream::Protocol;

    fn route(rule: CanaryRule) -> Route {
        let backend = |name| Arc::new(Backend::new("ns", name, Protocol::Http));
        let settings = Arc::new(Settings { canary: Some(Box::new(rule)), ..Settings::default() });
        let canaries = vec![Canary { settings, backend: backend("canary") }];
        Route { settings: Arc::default(), main: Some(backend("main")), canaries, action: None }
    }

    fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
        rows.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_header_decides_before_a_cookie_and_a_cookie_before_the_weight() {
        let by_name = CanaryRule {
            weight: 100,
            total: 100,
            header: Some(("x-canary".parse().unwrap(), None)),
            cookie: Some("canary".into()),
        };
        let by_value = CanaryRule {
            header: Some(("x-canary".parse().unwrap(), Some("beta".into()))),
            total: 100,
            ..CanaryRule::default()
        };
        for (rule, sent, expected) in [
            (&by_name, &[][..], "canary"),
            (&by_name, &[("x-canary", "never")], "main"),
            (&by_name, &[("cookie", "a=1; canary=never")], "main"),
            (&by_name, &[("x-canary", "always"), ("cookie", "canary=never")], "canary"),
            (&by_name, &[("x-canary", "other"), ("cookie", "canary=never")], "main"),
            (&by_value, &[("x-canary", "beta")], "canary"),
            (&by_value, &[("x-canary", "always")], "main"),
            (&by_value, &[], "main"),
        ] {
            let route = route(rule.clone());
            assert_eq!(backend(&route, &headers(sent)).unwrap().service(), expected, "{rule:?} {sent:?}");
        }
    }

    #[test]
    fn weights_share_requests_out() {
        let route = route(CanaryRule { weight: 20, total: 100, ..CanaryRule::default() });
        let count = (0..10_000).filter(|_| backend(&route, &HeaderMap::new()).unwrap().service() == "canary").count();
        // Six standard deviations.
        assert!((1_760..=2_240).contains(&count), "{count}");
    }

    #[test]
    fn a_cookie_leads_back_to_its_endpoint_for_as_long_as_that_is_there() {
        let mut route = route(CanaryRule::default());
        let affinity = crate::annotations::Affinity { cookie: "R".into(), attributes: "".into() };
        route.settings = Arc::new(Settings { affinity: Some(Box::new(affinity)), ..Settings::default() });
        let main = route.main.clone().unwrap();
        main.set(Protocol::Http, vec![([10, 0, 0, 1], 80).into(), ([10, 0, 0, 2], 80).into()]);
        let endpoint = main.pick(&[]).unwrap();
        let mut sent = HeaderMap::new();
        sent.insert("cookie", format!("a=b; R={}", endpoint.mark()).parse().unwrap());
        assert_eq!(kept(&route, &sent).unwrap().1.address(), endpoint.address());
        main.set(Protocol::Http, vec![([10, 0, 0, 3], 80).into()]);
        assert!(kept(&route, &sent).is_none());
        assert!(kept(&route, &headers(&[("cookie", "R=zz")])).is_none());
    }
}
