//! Copies of requests for other Services. Nobody waits for them, and their answers are nobody's.

use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http_body_util::BodyExt as _;

use super::body::RequestBody;
use super::forward::Forward;
use super::target::Target;
use super::{Proxy, choose};
use crate::routes::Route;

/// How many are under way at most; a request that comes meanwhile has none.
pub(super) const MOST: usize = 1_000;
/// How long one may take, its answer included.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends copies of a request to whom its rule has get one. `body` tells them of its parts as it is read.
pub(super) fn send(proxy: &Arc<Proxy>, route: &Arc<Route>, parts: &Parts, target: &Target, body: &mut RequestBody) {
    for mirror in route.action.iter().flat_map(|action| &action.mirrors) {
        if !mirror.takes(choose::random()) {
            continue;
        }
        let Ok(permit) = proxy.copies.clone().try_acquire_owned() else { return };
        let (proxy, route, backend) = (proxy.clone(), route.clone(), mirror.backend.clone());
        let (parts, target, body) = (parts.clone(), target.clone(), body.copy());
        tokio::spawn(async move {
            let backend = Some(&backend);
            let forward = Forward { proxy: &proxy, route: &route, parts, target, body, upgrade: None, backend };
            let sending = async {
                let Ok(answer) = forward.run(&mut None).await else { return };
                let mut answer = answer.into_body();
                // Read to its end, so that the connection can be used again.
                while let Some(Ok(_)) = answer.frame().await {}
            };
            // What takes too long is broken off, as is what fails: the request itself has its own answer.
            _ = tokio::time::timeout(LIMIT, sending).await;
            drop(permit);
        });
    }
}
