//! Users out of client certificates, which the TLS layer has checked: the common name is the user, organisations are groups.

use sha2::{Digest as _, Sha256};
use x509_parser::der_parser::oid;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::accounts::CREDENTIAL_ID;
use super::token::hex;
use crate::user::UserInfo;

/// The user of a verified certificate; `None` if it names nobody.
pub(crate) fn user(der: &[u8]) -> Option<UserInfo> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let name = subject.iter_common_name().next()?.as_str().ok().filter(|n| !n.is_empty())?.to_owned();
    let groups: Vec<&str> = subject.iter_organization().filter_map(|o| o.as_str().ok()).collect();
    let mut user = UserInfo::new(name, &groups);
    // Kubernetes' own attribute for the uid of a user.
    let uids: Vec<_> = subject.iter_by_oid(&oid!(1.3.6.1.4.1.57683.2)).collect();
    match uids.as_slice() {
        [] => {}
        [uid] => user.uid = uid.as_str().ok().filter(|u| !u.is_empty())?.to_owned(),
        _ => return None,
    }
    user.extra.insert(CREDENTIAL_ID.into(), vec![format!("X509SHA256={}", hex(&Sha256::digest(der)))]);
    Some(user)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in names {
            params.distinguished_name.push(kind.clone(), *value);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn a_certificate_names_its_user_group_uid_and_itself() {
        let uid = DnType::CustomDnType(vec![1, 3, 6, 1, 4, 1, 57683, 2]);
        let der = certificate(&[(DnType::CommonName, "bob"), (DnType::OrganizationName, "ops"), (uid, "u1")]);
        let found = user(&der).unwrap();
        assert_eq!((found.name.as_str(), found.uid.as_str()), ("bob", "u1"));
        assert_eq!(found.groups, ["ops", "system:authenticated"]);
        assert!(found.extra[CREDENTIAL_ID][0].starts_with("X509SHA256="));
        assert_eq!(user(&certificate(&[(DnType::OrganizationName, "ops")])), None);
    }
}
