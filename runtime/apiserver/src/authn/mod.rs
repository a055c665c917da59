//! Who makes a request: a client certificate, a bearer token, or nobody in particular.

pub(crate) mod certificate;
pub(crate) mod impersonation;
pub(crate) mod token;

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use kiln_apimachinery::Status;

use crate::server::ApiServer;
use crate::user::UserInfo;

/// Finds the user of a request. Wrong credentials are a 401, not anonymity.
pub(crate) async fn authenticate(
    server: &ApiServer,
    peer: Option<&UserInfo>,
    headers: &HeaderMap,
) -> Result<UserInfo, Status> {
    if let Some(user) = peer {
        return Ok(user.clone());
    }
    let Some(header) = headers.get(AUTHORIZATION) else { return Ok(UserInfo::anonymous()) };
    let token = header
        .to_str()
        .ok()
        .and_then(|h| h.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    match token {
        Some((_, token)) => token::bootstrap(server, token.trim()).await?.ok_or_else(Status::unauthorized),
        None => Err(Status::unauthorized()),
    }
}
