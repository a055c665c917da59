//! Certificates apart from the cluster's CA, as charts ask for them.

use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::authority::{Issued, alt_names, params, set_validity};
use crate::{PkiError, certificate_der};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// The longest life, 100 years.
const LONGEST: i64 = 36_500;

/// What a certificate is to say.
#[derive(Debug, Clone)]
pub struct Wish<'a> {
    /// The subject's common name.
    pub common_name: &'a str,
    /// Host names and addresses.
    pub names: Vec<String>,
    /// Its life.
    pub days: i64,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Certificate and key, PEM, of who signs it; itself, if nobody.
    pub issuer: Option<(&'a str, &'a str)>,
}

/// Makes a certificate with a new key.
///
/// # Errors
/// When a name is none, or the issuer cannot be read.
pub fn issue(wish: &Wish<'_>, now: SystemTime) -> Result<Issued, PkiError> {
    let key = KeyPair::generate()?;
    let mut params = params(wish.common_name, None)?;
    params.subject_alt_names = alt_names(&wish.names)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if wish.is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    let days = u32::try_from(wish.days.clamp(0, LONGEST)).unwrap_or_default();
    set_validity(&mut params, now, now + DAY * days);
    let certificate_pem = match wish.issuer {
        None => params.self_signed(&key)?.pem(),
        Some((certificate, issuer_key)) => {
            let issuer = Issuer::from_ca_cert_der(&certificate_der(certificate)?, KeyPair::from_pem(issuer_key)?)?;
            params.signed_by(&key, &issuer)?.pem()
        }
    };
    Ok(Issued { certificate_pem, key_pem: key.serialize_pem() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

    use super::*;
    use crate::Certificate;

    #[test]
    fn a_chain_is_made_of_a_ca_and_what_it_signs() {
        let now = SystemTime::UNIX_EPOCH + DAY * 20_000;
        let wish = Wish { common_name: "ca", names: Vec::new(), days: 10, is_ca: true, issuer: None };
        let ca = issue(&wish, now).unwrap();
        let issuer = Some((ca.certificate_pem.as_str(), ca.key_pem.as_str()));
        let names = vec!["a.example".to_owned(), "10.0.0.1".to_owned()];
        let leaf = issue(&Wish { common_name: "a", names, days: 5, is_ca: false, issuer }, now).unwrap();
        let [ca, leaf] = [ca, leaf].map(|issued| Certificate::from_pem(&issued.certificate_pem).unwrap());
        assert!(leaf.is_signed_by(&ca) && leaf.is_valid_at(now + DAY * 4) && !leaf.is_valid_at(now + DAY * 6));
    }
}
