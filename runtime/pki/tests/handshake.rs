//! Handshakes with peers whose certificates nobody can know.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

use std::sync::Arc;

use kiln_pki::{certificates_der, private_key_der, tls};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::server::ResolvesServerCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConnection, ConnectionCommon, Error, ServerConfig, ServerConnection, SideData,
    SupportedProtocolVersion,
};

/// A certificate of X.509's version 1, with its key, as `openssl x509 -req` makes them.
const VERSION_1: &str = include_str!("testdata/version-1.pem");

/// Sends all that one side has to say.
fn pass<A: SideData, B: SideData>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) -> Result<(), Error> {
    let mut sent = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut sent).unwrap();
    }
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// How a client that takes any certificate gets on with a server that shows this chain and signs with this key.
fn shake(
    version: &'static SupportedProtocolVersion,
    chain: Vec<CertificateDer<'static>>,
    key_pem: &str,
) -> Result<(), Error> {
    let provider = Arc::new(default_provider());
    let key = provider.key_provider.load_private_key(private_key_der(key_pem).unwrap()).unwrap();
    let shown: Arc<dyn ResolvesServerCert> = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    let server = ServerConfig::builder_with_provider(provider.clone()).with_protocol_versions(&[version]).unwrap();
    let server = server.with_no_client_auth().with_cert_resolver(shown);
    let client = tls::any_certificate(provider).unwrap().with_no_client_auth();
    let mut client = ClientConnection::new(Arc::new(client), "whoever".try_into().unwrap()).unwrap();
    let mut server = ServerConnection::new(Arc::new(server)).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    assert_eq!(client.protocol_version(), Some(version.version));
    Ok(())
}

#[test]
fn any_certificate_is_taken_from_who_holds_its_key() {
    let made = |name: &str| rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let (one, other) = (made("one"), made("other"));
    let rows = [
        (vec![one.cert.der().clone()], one.signing_key.serialize_pem(), true),
        (certificates_der(VERSION_1).unwrap(), VERSION_1.to_owned(), true),
        (vec![one.cert.der().clone()], other.signing_key.serialize_pem(), false),
        (certificates_der(VERSION_1).unwrap(), other.signing_key.serialize_pem(), false),
    ];
    for (row, (chain, key, holds)) in rows.into_iter().enumerate() {
        for version in [&TLS12, &TLS13] {
            let expected = if holds { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::BadSignature)) };
            assert_eq!(shake(version, chain.clone(), &key), expected, "row {row}, {version:?}");
        }
    }
}
