//! Which certificates of webhooks and of servers of aggregated APIs are taken: those of a bundle of CAs, or of the system's, and,
//! as the reference does, one that is itself in the bundle.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kiln_pki::tls::system_roots;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WantsClientCert, WebPkiServerVerifier, verify_server_name};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Settings of TLS that trust a bundle, PEM in base64, or the system's CAs if it is empty, up to what is shown to the peer.
pub(crate) fn builder(bundle: &str) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let (roots, own) = if bundle.is_empty() {
        (system_roots().ok_or("unable to load root certificates: this system has none")?, Vec::new())
    } else {
        let pem = STANDARD.decode(bundle).map_err(|e| format!("unable to load root certificates: {e}"))?;
        let own: Vec<_> = CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok).collect();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(own.iter().cloned());
        if roots.is_empty() {
            return Err("unable to load root certificates: unable to parse bytes as PEM block".into());
        }
        (roots, own)
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build();
    let verifier = Bundle { by_chain: by_chain.map_err(|e| e.to_string())?, own };
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    Ok(builder.map_err(|e| e.to_string())?.dangerous().with_custom_certificate_verifier(Arc::new(verifier)))
}

/// Trusts a chain to a certificate of the bundle, and a server that shows a certificate of the bundle: many webhooks sign their
/// own, as a CA's.
#[derive(Debug)]
struct Bundle {
    by_chain: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for Bundle {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.by_chain.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Err(Error::InvalidCertificate(CertificateError::Other(_))) if self.own.contains(certificate) => {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
                is_valid(certificate, now).map(|()| ServerCertVerified::assertion())
            }
            judged => judged,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}

/// Whether a certificate's time has come and is not over.
fn is_valid(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), Error> {
    let refused = |why| Err(Error::InvalidCertificate(why));
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else {
        return refused(CertificateError::BadEncoding);
    };
    let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    if now < parsed.validity().not_before.timestamp() {
        return refused(CertificateError::NotValidYet);
    }
    if now > parsed.validity().not_after.timestamp() {
        return refused(CertificateError::Expired);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    use super::*;

    fn verdict(year: i32, name: &str, trusted: bool) -> Result<(), Error> {
        let mut params = CertificateParams::new(vec!["hook.default.svc".into()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(made.der().clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let by_chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
        let own = if trusted { vec![made.der().clone()] } else { Vec::new() };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verifier = Bundle { by_chain, own };
        verifier.verify_server_cert(made.der(), &[], &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_ca_that_is_trusted_may_serve_itself_by_its_name_and_in_its_time() {
        assert_eq!(verdict(2100, "hook.default.svc", true), Ok(()));
        assert!(verdict(2100, "hook.default.svc", false).is_err());
        assert!(verdict(2100, "other.default.svc", true).is_err());
        assert!(verdict(2020, "hook.default.svc", true).is_err());
    }
}
