//! Reading certificates.

use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{KeyPair, PublicKeyData as _};
use rustls_pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate, X509Name};

use crate::{PkiError, pem};

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate itself.
    pub der: CertificateDer<'static>,
    /// Common name of the subject; to Kubernetes the user.
    pub common_name: String,
    /// Organizations of the subject; to Kubernetes the groups.
    pub organizations: Vec<String>,
    /// DNS names it is for.
    pub dns_names: Vec<String>,
    /// Addresses it is for.
    pub ip_addresses: Vec<IpAddr>,
    /// Whether it may sign others.
    pub is_ca: bool,
    /// Start of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
    /// DER of the public key (SubjectPublicKeyInfo).
    pub public_key_der: Vec<u8>,
}

impl Certificate {
    /// Reads the first certificate of a PEM text.
    ///
    /// # Errors
    /// [`PkiError::Pem`] or [`PkiError::Decode`].
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        Certificate::from_der(&pem::certificate_der(text)?)
    }

    /// Reads a certificate.
    ///
    /// # Errors
    /// [`PkiError::Decode`].
    pub fn from_der(der: &[u8]) -> Result<Self, PkiError> {
        let parsed = parse(der)?;
        let mut names = AltNames::default();
        if let Ok(Some(extension)) = parsed.subject_alternative_name() {
            names.add(&extension.value.general_names);
        }
        let (common_name, organizations) = subject(&parsed.subject)?;
        Ok(Certificate {
            der: CertificateDer::from(der.to_vec()),
            common_name,
            organizations,
            dns_names: names.dns,
            ip_addresses: names.ips,
            is_ca: parsed.is_ca(),
            not_before: time(parsed.validity.not_before.timestamp()),
            not_after: time(parsed.validity.not_after.timestamp()),
            public_key_der: parsed.public_key().raw.to_vec(),
        })
    }

    /// Whether this certificate's signature was made by `ca`'s key. Says nothing of validity in time.
    pub fn is_signed_by(&self, ca: &Certificate) -> bool {
        let (Ok(this), Ok(ca)) = (parse(&self.der), parse(&ca.der)) else {
            return false;
        };
        this.issuer() == ca.subject() && this.verify_signature(Some(ca.public_key())).is_ok()
    }

    /// Whether it is valid at `now`.
    pub fn is_valid_at(&self, now: SystemTime) -> bool {
        self.not_before <= now && now <= self.not_after
    }

    /// When two thirds of its life are over and it should be replaced.
    pub fn renew_at(&self) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        self.not_before + life / 3 * 2
    }
}

/// Whether a private key (PEM) is the one of this certificate.
///
/// # Errors
/// [`PkiError::Decode`] where the key can't be read.
pub fn key_matches(certificate: &Certificate, key_pem: &str) -> Result<bool, PkiError> {
    let key = KeyPair::from_pem(key_pem).map_err(|e| PkiError::Decode { what: "private key", why: e.to_string() })?;
    Ok(key.subject_public_key_info() == certificate.public_key_der)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, PkiError> {
    let fail = |why: String| PkiError::Decode { what: "certificate", why };
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| fail(e.to_string()))?;
    if rest.is_empty() { Ok(parsed) } else { Err(fail("bytes follow it".to_owned())) }
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// Common name and organizations; other attributes are not carried into what is signed here.
pub(crate) fn subject(name: &X509Name<'_>) -> Result<(String, Vec<String>), PkiError> {
    let text = |a: &x509_parser::x509::AttributeTypeAndValue<'_>| {
        a.as_str().map(str::to_owned).map_err(|e| PkiError::Decode { what: "subject", why: e.to_string() })
    };
    let common_names: Vec<String> = name.iter_common_name().map(text).collect::<Result<_, _>>()?;
    let organizations = name.iter_organization().map(text).collect::<Result<_, _>>()?;
    match <[String; 1]>::try_from(common_names) {
        Ok([common_name]) => Ok((common_name, organizations)),
        Err(names) if names.is_empty() => Ok((String::new(), organizations)),
        Err(_) => Err(PkiError::Decode { what: "subject", why: "it has several common names".to_owned() }),
    }
}

/// Subject alternative names, sorted by kind.
#[derive(Default)]
pub(crate) struct AltNames {
    pub(crate) dns: Vec<String>,
    pub(crate) ips: Vec<IpAddr>,
    /// How many were of another kind (mail, URI and so on).
    pub(crate) others: usize,
}

impl AltNames {
    pub(crate) fn add(&mut self, names: &[GeneralName<'_>]) {
        for name in names {
            match name {
                GeneralName::DNSName(dns) => self.dns.push((*dns).to_owned()),
                GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
                    (Ok(v4), _) => self.ips.push(v4.into()),
                    (_, Ok(v6)) => self.ips.push(v6.into()),
                    _ => self.others += 1,
                },
                _ => self.others += 1,
            }
        }
    }
}
