//! A CA of its own, a server's certificate of it and an administrator's.

use std::error::Error;
use std::sync::Arc;

use kiln_pki::tls;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Everything that a server on 127.0.0.1 and its administrator need.
pub(crate) struct Identities {
    pub(crate) ca: CertificateDer<'static>,
    pub(crate) ca_pem: String,
    pub(crate) tls: Arc<ServerConfig>,
    pub(crate) admin: CertificateDer<'static>,
    pub(crate) admin_pem: String,
    pub(crate) admin_key: KeyPair,
}

impl Identities {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let mut ca = CertificateParams::new(Vec::new())?;
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name.push(DnType::CommonName, "example-ca");
        let ca_key = KeyPair::generate()?;
        let ca_cert = ca.self_signed(&ca_key)?;
        let issuer = Issuer::new(ca, ca_key);

        let server_key = KeyPair::generate()?;
        let names = vec!["127.0.0.1".into(), "localhost".into()];
        let server = CertificateParams::new(names)?.signed_by(&server_key, &issuer)?;
        let mut admin = CertificateParams::new(Vec::new())?;
        admin.distinguished_name.push(DnType::CommonName, "admin");
        admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
        admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let admin_key = KeyPair::generate()?;
        let admin = admin.signed_by(&admin_key, &issuer)?;

        let mut roots = RootCertStore::empty();
        roots.add(ca_cert.der().clone())?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
        let signing = rustls::crypto::ring::sign::any_supported_type(&key)?;
        let tls = tls::server(roots, Arc::new(One(Arc::new(CertifiedKey::new(vec![server.der().clone()], signing)))))?;
        Ok(Self {
            ca: ca_cert.der().clone(),
            ca_pem: ca_cert.pem(),
            tls,
            admin: admin.der().clone(),
            admin_pem: admin.pem(),
            admin_key,
        })
    }
}
