//! What TLS believes where it is not one CA's chains.

use rustls::RootCertStore;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::files;

/// The CAs that this system trusts; `None` if there are none where systems keep them. What of them can't be read is passed over.
pub fn system_roots() -> Option<RootCertStore> {
    let pem = files::system_cas()?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    Some(roots)
}
