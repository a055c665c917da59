//! Certificate requests: a node's own, and reading those of others.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::{FromDer as _, X509CertificationRequest};

use crate::authority::alt_names;
use crate::certificate::{AltNames, subject};
use crate::{PkiError, pem};

/// A private key that certificates are asked for.
pub struct PrivateKey(KeyPair);

impl PrivateKey {
    /// A new ECDSA P-256 key.
    ///
    /// # Errors
    /// [`PkiError::Sign`] where the system has no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        Ok(PrivateKey(KeyPair::generate()?))
    }

    /// The key of a PEM text.
    ///
    /// # Errors
    /// [`PkiError::Decode`].
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(text);
        key.map(PrivateKey).map_err(|e| PkiError::Decode { what: "private key", why: e.to_string() })
    }

    /// The key as PKCS#8 PEM.
    pub fn to_pem(&self) -> String {
        self.0.serialize_pem()
    }

    /// A request for this key, PEM: user (common name), group (organization), and names or addresses to serve under.
    ///
    /// # Errors
    /// [`PkiError::Name`] for a name that X.509 can't hold, or a failure to sign.
    pub fn request(&self, user: &str, group: Option<&str>, sans: &[String]) -> Result<String, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.distinguished_name.push(DnType::CommonName, user);
        Ok(pem::encode("CERTIFICATE REQUEST", &self.signed(params, sans)?))
    }

    /// A request for this key, DER: names or addresses to serve under, and nothing else.
    ///
    /// # Errors
    /// As [`Self::request`].
    pub fn names_request(&self, sans: &[String]) -> Result<Vec<u8>, PkiError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        self.signed(params, sans)
    }

    fn signed(&self, mut params: CertificateParams, sans: &[String]) -> Result<Vec<u8>, PkiError> {
        params.subject_alt_names = alt_names(sans)?;
        Ok(params.serialize_request(&self.0)?.der().to_vec())
    }
}

/// A request as read, its signature verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csr {
    /// Common name of the subject.
    pub common_name: String,
    /// Organizations of the subject.
    pub organizations: Vec<String>,
    /// DNS names asked for.
    pub dns_names: Vec<String>,
    /// Addresses asked for.
    pub ip_addresses: Vec<IpAddr>,
    /// How many other names were asked for (mail, URI and so on).
    pub other_names: usize,
    /// Whether it asks to be a CA.
    pub wants_ca: bool,
    /// DER of the public key (SubjectPublicKeyInfo).
    pub public_key_der: Vec<u8>,
}

impl Csr {
    /// Reads a request (PEM) and verifies that its maker holds the private key.
    ///
    /// # Errors
    /// [`PkiError::Pem`], [`PkiError::Decode`] or [`PkiError::Signature`].
    pub fn from_pem(text: &str) -> Result<Self, PkiError> {
        let der = pem::request_der(text)?;
        let fail = |why: String| PkiError::Decode { what: "certificate request", why };
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|e| fail(e.to_string()))?;
        if !rest.is_empty() {
            return Err(fail("bytes follow it".to_owned()));
        }
        request.verify_signature().map_err(|_| PkiError::Signature("certificate request"))?;
        let info = &request.certification_request_info;
        let (common_name, organizations) = subject(&info.subject)?;
        let mut names = AltNames::default();
        let mut wants_ca = false;
        for attribute in info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in &asked.extensions {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(san) => names.add(&san.general_names),
                    ParsedExtension::BasicConstraints(b) => wants_ca |= b.ca,
                    _ => {}
                }
            }
        }
        Ok(Csr {
            common_name,
            organizations,
            dns_names: names.dns,
            ip_addresses: names.ips,
            other_names: names.others,
            wants_ca,
            public_key_der: info.subject_pki.raw.to_vec(),
        })
    }
}
