//! Users out of client certificates, which the TLS layer has checked: the common name is the user, organisations are groups.

use x509_parser::prelude::{FromDer, X509Certificate};

use crate::user::UserInfo;

/// The user of a verified certificate; `None` if it names nobody.
pub(crate) fn user(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|n| !n.is_empty())?.to_owned();
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    Some(UserInfo::new(name, &groups))
}
