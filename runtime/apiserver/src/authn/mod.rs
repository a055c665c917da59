//! Who makes a request: a client certificate, a bearer token, or nobody in particular.

pub(crate) mod accounts;
pub(crate) mod certificate;
pub(crate) mod impersonation;
pub(crate) mod jwt;
pub(crate) mod oidc;
pub(crate) mod token;

use ::http::HeaderMap;
use ::http::header::AUTHORIZATION;
use kiln_apimachinery::Status;

use crate::server::ApiServer;
use crate::user::UserInfo;

/// The user of a token, and for whom of the audiences asked for it is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authenticated {
    pub(crate) user: UserInfo,
    pub(crate) audiences: Vec<String>,
}

/// The judgement on a token; the error says what is wrong with it.
pub(crate) type Verdict = Result<Authenticated, String>;

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
    let Some((_, token)) = token else { return Err(Status::unauthorized()) };
    match bearer(server, token.trim(), &server.accounts().config.audiences).await? {
        Ok(found) => Ok(found.user),
        Err(why) => {
            tracing::debug!(why, "a bearer token was refused");
            Err(Status::unauthorized())
        }
    }
}

/// Judges a bearer token for these audiences.
pub(crate) async fn bearer(server: &ApiServer, token: &str, audiences: &[String]) -> Result<Verdict, Status> {
    if let Some(verdict) = server.accounts().authenticate(server, token, audiences).await? {
        return Ok(verdict);
    }
    if let Some(user) = token::bootstrap(server, token).await? {
        // Such tokens name no audience: they are meant for this server.
        let own: Vec<&str> = server.accounts().config.audiences.iter().map(String::as_str).collect();
        let audiences = common(&own, audiences);
        if !audiences.is_empty() {
            return Ok(Ok(Authenticated { user, audiences }));
        }
    }
    if let Some(oidc) = server.oidc() {
        // Tokens of the issuer's are meant for its client, which this server is.
        let own: Vec<&str> = server.accounts().config.audiences.iter().map(String::as_str).collect();
        let audiences = common(&own, audiences);
        if !audiences.is_empty()
            && let Some(verdict) = oidc.authenticate(token, &audiences, server.now()).await
        {
            return Ok(verdict);
        }
    }
    Ok(Err(String::new()))
}

/// Those of `own` that are among `wanted`.
pub(crate) fn common(own: &[&str], wanted: &[String]) -> Vec<String> {
    own.iter().filter(|a| wanted.iter().any(|w| w == *a)).map(|a| (*a).to_owned()).collect()
}

/// Texts as messages of the reference show a list.
pub(crate) fn go_list<T: AsRef<str>>(texts: &[T]) -> String {
    let quoted: Vec<String> = texts.iter().map(|t| format!("{:?}", t.as_ref())).collect();
    format!("[{}]", quoted.join(" "))
}
