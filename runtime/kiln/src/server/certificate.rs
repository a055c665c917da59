//! The server's own certificate and the administrator's: made, kept, and made again when addresses or time ask for it.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use kiln_join::AddressWatch;
use kiln_join::tls::{HotCertificate, certified_key};
use kiln_node_config::Cidr;
use kiln_pki::{Authority, Certificate, files, key_matches, kubeconfig::Kubeconfig};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::node;
use crate::service::Report;
use crate::service::status::CertificateStatus;

/// How often the time is compared with the certificates' lives; it may be stepped at any moment.
const CHECK: Duration = Duration::from_secs(60);

/// Names that the API has inside every cluster, beside the one with the cluster's domain.
const CLUSTER_NAMES: [&str; 4] = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];

/// What the server's certificate is for, whatever its addresses.
pub(super) struct Names {
    /// The node's name.
    pub(super) node: String,
    /// Names and addresses from the settings.
    pub(super) extra: Vec<String>,
    /// Addresses of services; the first is the API's.
    pub(super) service_cidr: Cidr,
    /// The cluster's DNS domain.
    pub(super) domain: String,
}

/// The files that hold the administrator's kubeconfig.
pub(super) struct Kubeconfigs {
    /// The server's own, only for its owner.
    pub(super) own: PathBuf,
    /// Another one that was asked for, and its mode.
    pub(super) copy: Option<(PathBuf, u32)>,
}

impl Names {
    /// DNS names for the certificate.
    pub(super) fn dns(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> = CLUSTER_NAMES.iter().map(|n| (*n).to_owned()).collect();
        names.insert(format!("kubernetes.default.svc.{}", self.domain));
        names.insert(self.node.clone());
        names.insert(format!("{}.local", self.node));
        names.extend(self.extra.iter().filter(|n| n.parse::<IpAddr>().is_err()).cloned());
        names
    }

    /// Addresses for the certificate, next to the interfaces' own.
    pub(super) fn addresses(&self, own: &BTreeSet<IpAddr>) -> BTreeSet<IpAddr> {
        let mut addresses = own.clone();
        addresses.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
        addresses.extend(self.service_cidr.nth(1));
        addresses.extend(self.extra.iter().filter_map(|n| n.parse::<IpAddr>().ok()));
        addresses
    }
}

/// The certificates of this server, and all that is needed to replace them.
pub(super) struct Certificates {
    authority: Arc<Authority>,
    names: Names,
    folder: PathBuf,
    admin: Kubeconfigs,
    /// The API's URL for the kubeconfig.
    url: String,
    current: Certificate,
    admin_current: Certificate,
    hot: Arc<HotCertificate>,
    /// The addresses that the certificate is to hold.
    addresses: watch::Sender<BTreeSet<IpAddr>>,
}

impl Certificates {
    /// Takes the certificate that is kept in `folder` if it is still right, else makes one; and writes the administrator's
    /// kubeconfig.
    ///
    /// # Errors
    /// When signing or a file fails.
    pub(super) fn open(
        authority: Arc<Authority>,
        names: Names,
        folder: PathBuf,
        admin: Kubeconfigs,
        url: String,
        now: SystemTime,
    ) -> anyhow::Result<Self> {
        let own = node::addresses()?;
        let (current, key) = match kept(&folder, &authority)? {
            Some((certificate, key)) if !is_due(&certificate, &names, &own, now) => (certificate, key),
            _ => issue(&authority, &names, &own, &folder, now)?,
        };
        let admin_current = write_admin(&authority, &admin, &url, now)?;
        let addresses = watch::Sender::new(names.addresses(&own));
        let hot = HotCertificate::new(key);
        Ok(Certificates { authority, names, folder, admin, url, current, admin_current, hot, addresses })
    }

    /// What TLS takes its certificate from.
    pub(super) fn resolver(&self) -> Arc<HotCertificate> {
        Arc::clone(&self.hot)
    }

    /// The addresses that this server has, now and whenever they change.
    pub(super) fn addresses(&self) -> watch::Receiver<BTreeSet<IpAddr>> {
        self.addresses.subscribe()
    }

    /// For the status.
    pub(super) fn status(&self) -> Vec<CertificateStatus> {
        vec![
            CertificateStatus::new("ca", self.authority.certificate()),
            CertificateStatus::new("server", &self.current),
            CertificateStatus::new("admin", &self.admin_current),
        ]
    }

    /// Keeps them right until the shutdown: at once when an address comes or goes, and at two thirds of their life.
    pub(super) async fn maintain(mut self, report: Arc<Report>, shutdown: CancellationToken) {
        let mut watch = AddressWatch::start();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = watch.changed() => {}
                () = tokio::time::sleep(CHECK) => {}
            }
            match self.renew(SystemTime::now()) {
                Ok(true) => report.change(|status| status.certificates = self.status()),
                Ok(false) => {}
                Err(error) => tracing::warn!("a certificate can't be replaced: {error:#}"),
            }
        }
    }

    /// Replaces what is due; says whether anything was.
    fn renew(&mut self, now: SystemTime) -> anyhow::Result<bool> {
        let own = node::addresses()?;
        let addresses = self.names.addresses(&own);
        self.addresses.send_if_modified(|known| {
            let changed = *known != addresses;
            *known = addresses;
            changed
        });
        let mut renewed = false;
        if is_due(&self.current, &self.names, &own, now) {
            let (certificate, key) = issue(&self.authority, &self.names, &own, &self.folder, now)?;
            self.hot.replace(key);
            self.current = certificate;
            renewed = true;
        }
        if self.admin_current.renew_at() <= now {
            self.admin_current = write_admin(&self.authority, &self.admin, &self.url, now)?;
            renewed = true;
        }
        Ok(renewed)
    }
}

type Usable = (Certificate, rustls::sign::CertifiedKey);

/// The pair in the folder, if it is one of this CA.
fn kept(folder: &Path, authority: &Authority) -> anyhow::Result<Option<Usable>> {
    let (Some(pem), Some(key)) = (files::read(&folder.join("tls.crt"))?, files::read(&folder.join("tls.key"))?) else {
        return Ok(None);
    };
    // Anything wrong with it is cured by making a new one.
    let usable = Certificate::from_pem(&pem)
        .ok()
        .filter(|c| c.is_signed_by(authority.certificate()) && key_matches(c, &key).unwrap_or(false));
    Ok(usable.and_then(|c| certified_key(&pem, &key).ok().map(|k| (c, k))))
}

fn is_due(certificate: &Certificate, names: &Names, own: &BTreeSet<IpAddr>, now: SystemTime) -> bool {
    let (dns, addresses) = (names.dns(), names.addresses(own));
    certificate.renew_at() <= now
        || now < certificate.not_before
        || !certificate.dns_names.iter().eq(&dns)
        || !certificate.ip_addresses.iter().eq(&addresses)
}

fn issue(
    authority: &Authority,
    names: &Names,
    own: &BTreeSet<IpAddr>,
    folder: &Path,
    now: SystemTime,
) -> anyhow::Result<Usable> {
    let addresses = names.addresses(own);
    let sans: Vec<String> = names.dns().into_iter().chain(addresses.iter().map(ToString::to_string)).collect();
    let issued = authority.issue_server("kiln-server", &sans, now).context("signing the server's certificate")?;
    files::write_private(&folder.join("tls.key"), &issued.key_pem)?;
    files::write_public(&folder.join("tls.crt"), &issued.certificate_pem)?;
    let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    tracing::info!(addresses = addresses.join(" "), "the server has a new certificate");
    let key = certified_key(&issued.certificate_pem, &issued.key_pem)?;
    Ok((Certificate::from_pem(&issued.certificate_pem)?, key))
}

fn write_admin(authority: &Authority, to: &Kubeconfigs, url: &str, now: SystemTime) -> anyhow::Result<Certificate> {
    let issued = authority.issue_client("kubernetes-admin", Some("system:masters"), now)?;
    let kubeconfig = Kubeconfig {
        name: "kiln",
        server: url,
        ca_pem: authority.certificate_pem(),
        client_cert_pem: &issued.certificate_pem,
        client_key_pem: &issued.key_pem,
    };
    files::write_private(&to.own, &kubeconfig.render())?;
    if let Some((path, mode)) = &to.copy {
        files::write(path, &kubeconfig.render(), *mode)?;
    }
    Ok(Certificate::from_pem(&issued.certificate_pem)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        Names {
            node: "pi".to_owned(),
            extra: vec!["kube.example.org".to_owned(), "10.0.2.2".to_owned()],
            service_cidr: "10.43.0.0/16".parse().unwrap(),
            domain: "cluster.local".to_owned(),
        }
    }

    #[test]
    fn the_certificate_holds_cluster_names_settings_and_addresses() {
        let own = BTreeSet::from(["192.168.1.7".parse().unwrap()]);
        for name in [
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            "localhost",
            "pi",
            "pi.local",
            "kube.example.org",
        ] {
            assert!(names().dns().contains(name), "{name}");
        }
        for address in ["127.0.0.1", "::1", "10.43.0.1", "10.0.2.2", "192.168.1.7"] {
            assert!(names().addresses(&own).contains(&address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn it_is_made_anew_when_an_address_comes_or_goes_and_at_two_thirds_of_its_life() {
        let now = SystemTime::now();
        let authority = Authority::create(now).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let own = BTreeSet::from(["192.168.1.7".parse().unwrap()]);
        let (certificate, _) = issue(&authority, &names(), &own, dir.path(), now).unwrap();
        assert!(!is_due(&certificate, &names(), &own, now));
        assert!(is_due(&certificate, &names(), &BTreeSet::new(), now));
        assert!(is_due(&certificate, &names(), &own, now + kiln_pki::LEAF_LIFETIME * 2 / 3));
        assert!(kept(dir.path(), &authority).unwrap().is_some());
        assert!(kept(dir.path(), &Authority::create(now).unwrap()).unwrap().is_none());
    }
}
