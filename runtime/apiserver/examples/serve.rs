//! An API server in memory on 127.0.0.1, with a CA of its own, for trying clients against:
//! `cargo run -p kiln-apiserver --example serve -- 127.0.0.1:7443 /tmp/kubeconfig`. The kubeconfig is an administrator's.

use std::error::Error;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_apiserver::{ApiServer, Config, tls_config};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_util::sync::CancellationToken;

#[derive(Debug)]
struct One(Arc<CertifiedKey>);

impl ResolvesServerCert for One {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (address, path) = args.next().zip(args.next()).ok_or("usage: serve ADDRESS KUBECONFIG")?;

    let mut ca = CertificateParams::new(Vec::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name.push(DnType::CommonName, "example-ca");
    let ca_key = KeyPair::generate()?;
    let ca_cert = ca.self_signed(&ca_key)?;
    let issuer = Issuer::new(ca, ca_key);

    let server_key = KeyPair::generate()?;
    let server =
        CertificateParams::new(vec!["127.0.0.1".into(), "localhost".into()])?.signed_by(&server_key, &issuer)?;
    let mut admin = CertificateParams::new(Vec::new())?;
    admin.distinguished_name.push(DnType::CommonName, "admin");
    admin.distinguished_name.push(DnType::OrganizationName, "system:masters");
    admin.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let admin_key = KeyPair::generate()?;
    let admin = admin.signed_by(&admin_key, &issuer)?;

    let encode = |pem: String| STANDARD.encode(pem);
    let kubeconfig = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters:\n- name: c\n  cluster:\n    server: https://{address}\n    \
         certificate-authority-data: {}\nusers:\n- name: c\n  user:\n    client-certificate-data: {}\n    client-key-data: {}\n\
         contexts:\n- name: c\n  context: {{cluster: c, user: c}}\n",
        encode(ca_cert.pem()),
        encode(admin.pem()),
        encode(admin_key.serialize_pem()),
    );
    std::fs::write(path, kubeconfig)?;

    let mut roots = RootCertStore::empty();
    roots.add(ca_cert.der().clone())?;
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(server_key.serialize_der()));
    let signing = rustls::crypto::ring::sign::any_supported_type(&key)?;
    let tls = tls_config(roots, Arc::new(One(Arc::new(CertifiedKey::new(vec![server.der().clone()], signing)))))?;

    let config = Config { ca_pem: ca_cert.pem(), ..Config::default() };
    let api = ApiServer::build(config, kiln_storage::memory::open()).await?;
    let listener = tokio::net::TcpListener::bind(&address).await?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.cancel();
        }
    });
    api.serve(listener, tls, shutdown).await;
    Ok(())
}
