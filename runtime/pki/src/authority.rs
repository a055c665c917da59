//! The cluster's CA: made, loaded, and signing.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};

use crate::secret::{hex, random_bytes};
use crate::{Certificate, Csr, PkiError, Signer, key_matches, pem};

/// What a node's user name starts with.
pub const NODE_USER_PREFIX: &str = "system:node:";
/// The group that nodes are in.
pub const NODES_GROUP: &str = "system:nodes";

/// The shortest life that a request may ask for, as in Kubernetes: 10 minutes.
const SHORTEST_LIFETIME: Duration = Duration::from_secs(600);
/// How long a CA is valid: 10 years.
pub const CA_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);
/// How long every other certificate is valid: 1 year.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How far back a certificate's validity starts, for peers whose clocks are behind, and for the time when clocks are put back: a
/// hundredth of its life, but no less than the first and no more than the second. A board may well begin with the time of
/// another zone, make its CA, and then hear what time it is.
const SKEW: [Duration; 2] = [Duration::from_secs(5 * 60), Duration::from_secs(24 * 60 * 60)];

/// A CA that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
    certificate_pem: String,
}

/// A certificate with its private key, both PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// The private key, PKCS#8.
    pub key_pem: String,
}

impl Authority {
    /// A new CA `kiln-ca-<8 hex digits>`, valid for [`CA_LIFETIME`] from `now`.
    ///
    /// # Errors
    /// [`PkiError::Random`] or [`PkiError::Sign`].
    pub fn create(now: SystemTime) -> Result<Self, PkiError> {
        Authority::create_named("kiln-ca", now)
    }

    /// The same under another name than `kiln-ca`, for another purpose.
    ///
    /// # Errors
    /// [`PkiError::Random`] or [`PkiError::Sign`].
    pub fn create_named(name: &str, now: SystemTime) -> Result<Self, PkiError> {
        let key = KeyPair::generate()?;
        let mut params = params(&format!("{name}-{}", hex(&random_bytes::<4>()?)), None)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.use_authority_key_identifier_extension = false;
        set_validity(&mut params, now - skew(CA_LIFETIME), now + CA_LIFETIME);
        let certificate_pem = params.self_signed(&key)?.pem();
        Authority::with_key(certificate_pem, key)
    }

    /// A CA from its two PEM texts.
    ///
    /// # Errors
    /// [`PkiError::KeyMismatch`], [`PkiError::NotCa`], or why a text can't be read.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, PkiError> {
        let key = KeyPair::from_pem(key_pem)
            .map_err(|e| PkiError::Decode { what: "private key of the CA", why: e.to_string() })?;
        Authority::with_key(certificate_pem.to_owned(), key)
    }

    fn with_key(certificate_pem: String, key: KeyPair) -> Result<Self, PkiError> {
        let der = pem::certificate_der(&certificate_pem)?;
        let certificate = Certificate::from_der(&der)?;
        if !certificate.is_ca {
            return Err(PkiError::NotCa(certificate.common_name));
        }
        if !key_matches(&certificate, &key.serialize_pem())? {
            return Err(PkiError::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&der, key)
            .map_err(|e| PkiError::Decode { what: "CA certificate", why: e.to_string() })?;
        Ok(Authority { issuer, certificate, certificate_pem })
    }

    /// The CA's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's certificate, read.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The CA's private key, PKCS#8 PEM.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// The hash that tokens carry; see [`crate::ca_hash`].
    pub fn hash(&self) -> String {
        crate::ca_hash(&self.certificate.der)
    }

    /// A server's certificate for these host names and IP addresses, with a new key, valid for [`LEAF_LIFETIME`].
    ///
    /// # Errors
    /// [`PkiError::Name`] for a name that X.509 can't hold, or a failure to sign.
    pub fn issue_server(&self, common_name: &str, sans: &[String], now: SystemTime) -> Result<Issued, PkiError> {
        let mut params = params(common_name, None)?;
        params.subject_alt_names = alt_names(sans)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(params, now)
    }

    /// A client's certificate, with a new key, valid for [`LEAF_LIFETIME`]: the common name is the user, the organization
    /// its group.
    ///
    /// # Errors
    /// [`PkiError::Random`] or [`PkiError::Sign`].
    pub fn issue_client(&self, user: &str, group: Option<&str>, now: SystemTime) -> Result<Issued, PkiError> {
        let mut params = params(user, group)?;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(params, now)
    }

    fn issue(&self, mut params: CertificateParams, now: SystemTime) -> Result<Issued, PkiError> {
        let key = KeyPair::generate()?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let certificate_pem = self.sign_params(params, &key, now, LEAF_LIFETIME)?;
        Ok(Issued { certificate_pem, key_pem: key.serialize_pem() })
    }

    /// Signs a request after `signer`'s rules (see [`Signer::check`]); the certificate has the request's subject, names and
    /// key, the usages `usages` (as Kubernetes spells them), and is valid for `lifetime` at most.
    ///
    /// # Errors
    /// [`PkiError::Refused`] with the rule that the request breaks, or a failure to sign.
    pub fn sign(
        &self,
        csr: &Csr,
        signer: Signer,
        usages: &[String],
        lifetime: Duration,
        now: SystemTime,
    ) -> Result<String, PkiError> {
        signer.check(csr, usages)?;
        let group = csr.organizations.first().map(String::as_str);
        let mut params = params(&csr.common_name, group)?;
        let names: Vec<String> =
            csr.dns_names.iter().cloned().chain(csr.ip_addresses.iter().map(ToString::to_string)).collect();
        params.subject_alt_names = alt_names(&names)?;
        for usage in usages {
            match usage.as_str() {
                "digital signature" => params.key_usages.push(KeyUsagePurpose::DigitalSignature),
                "key encipherment" => params.key_usages.push(KeyUsagePurpose::KeyEncipherment),
                "client auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth),
                "server auth" => params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth),
                // `check` lets no other through.
                other => {
                    return Err(PkiError::Refused(format!("usage `{other}` is not signed here")));
                }
            }
        }
        let key = rcgen::SubjectPublicKeyInfo::from_der(&csr.public_key_der)
            .map_err(|e| PkiError::Decode { what: "public key of the certificate request", why: e.to_string() })?;
        self.sign_params(params, &key, now, lifetime)
    }

    fn sign_params(
        &self,
        mut params: CertificateParams,
        key: &impl PublicKeyData,
        now: SystemTime,
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        // A leaf never outlives its CA, nor is it older: a server whose clock starts at the CA's own date still signs.
        let start = (now - skew(lifetime)).max(self.certificate.not_before);
        let end = (now + lifetime.max(SHORTEST_LIFETIME)).min(self.certificate.not_after);
        set_validity(&mut params, start, end);
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(key, &self.issuer)?.pem())
    }
}

fn skew(lifetime: Duration) -> Duration {
    let [least, most] = SKEW;
    (lifetime / 100).clamp(least, most)
}

pub(crate) fn params(common_name: &str, organization: Option<&str>) -> Result<CertificateParams, PkiError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if let Some(organization) = organization {
        params.distinguished_name.push(DnType::OrganizationName, organization);
    }
    params.distinguished_name.push(DnType::CommonName, common_name);
    let mut serial = random_bytes::<16>()?;
    // Positive, and never shorter than 16 bytes.
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

/// In whole seconds, as X.509 has them. Times before 1970 become 1970.
pub(crate) fn set_validity(params: &mut CertificateParams, start: SystemTime, end: SystemTime) {
    let since_1970 = |t: SystemTime| Duration::from_secs(t.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + since_1970(start);
    params.not_after = rcgen::date_time_ymd(1970, 1, 1) + since_1970(end);
}

pub(crate) fn alt_names(names: &[String]) -> Result<Vec<SanType>, PkiError> {
    let mut out: Vec<SanType> = Vec::new();
    for name in names {
        let san = match name.parse() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(name.as_str().try_into().map_err(|_| PkiError::Name(name.clone()))?),
        };
        if !out.contains(&san) {
            out.push(san);
        }
    }
    Ok(out)
}
