//! Certificates from an ACME server: from an Ingress that asks for one to the certificate that clients are shown.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use kiln_client::testing::FakeApi;
use kiln_client::{Clock, ListParams};
use kiln_controllers::acme;
use kiln_pki::Certificate;
use serde_json::{Value, json};

use crate::acme_server::AcmeServer;
use crate::secure::{made, secret, shown, until_shown};
use crate::support::{LONG, World, api, echo, ingress, nowhere, rule, service};

const SECRET: &str = "/api/v1/namespaces/ns/secrets/web-tls";
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A world with an ACME server and the controller.
struct Acme {
    world: World,
    api: FakeApi,
    server: AcmeServer,
}

impl Acme {
    async fn start(api: FakeApi) -> Self {
        service(&api, "web", &[echo("web").await], None);
        let world = World::start(api.clone()).await;
        let clock = Clock::from_tokio(Timestamp::now());
        let server = AcmeServer::start(world.http, clock.clone()).await;
        let (client, shutdown, config) = (api.client(), world.shutdown.clone(), server.config());
        let build = move |informers: &mut _, context: &_| acme::build(informers, context, config);
        tokio::spawn(kiln_controllers::alone(client, clock, shutdown, build));
        Self { world, api, server }
    }

    /// An Ingress for hosts that asks for a certificate, and lets nobody in without TLS.
    fn ask(&self, hosts: &[&str]) {
        let rules: Vec<_> = hosts.iter().map(|host| rule(host, &[("Prefix", "/", "web")])).collect();
        let annotations = json!({
            "kiln.dev/tls-acme": "true",
            "kiln.dev/ssl-redirect": "true",
            "kiln.dev/allowlist-source-range": "192.0.2.0/24",
        });
        let spec = json!({"rules": rules, "tls": [{"secretName": "web-tls", "hosts": hosts}]});
        ingress(&self.api, "web", annotations, spec);
    }

    /// Waits until the Secret is as it is to be.
    async fn until(&self, expected: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                match self.api.object(SECRET) {
                    Some(secret) if expected(&secret) => return secret,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("the Secret")
    }

    /// Waits until there is a certificate other than this one, and it is shown.
    async fn issued(&self, host: &str, other: &[u8]) -> Certificate {
        let secret = self.until(|secret| certificate(secret).is_some_and(|found| *found.der != *other)).await;
        assert_eq!(secret["type"], "kubernetes.io/tls");
        let annotations: Vec<_> = secret["metadata"]["annotations"].as_object().unwrap().keys().collect();
        assert_eq!(annotations, ["kiln.dev/acme-directory"]);
        let found = certificate(&secret).unwrap();
        let waiting = async {
            while shown(&self.world, host).await != found.der.to_vec() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("the certificate");
        found
    }

    /// Waits for an Event of the Ingress; answers what it says.
    async fn told(&self, reason: &str) -> String {
        let client = self.api.client();
        let waiting = async {
            loop {
                let events =
                    client.list::<Value>("/api/v1/namespaces/ns/events", &ListParams::default()).await.unwrap();
                let mut found = events.items.iter().filter(|event| event["reason"] == reason);
                match found.next() {
                    Some(event) => return event["message"].as_str().unwrap().to_owned(),
                    None => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(LONG, waiting).await.expect("the Event")
    }

    /// Does something; answers when the controller has looked at the Secret thereafter.
    async fn looked_after(&self, deed: impl Future<Output = ()>) {
        self.api.requests();
        deed.await;
        let looked = async {
            while !self.api.requests().iter().any(|request| *request == format!("GET {SECRET}")) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, looked).await.expect("a look at the Secret");
    }
}

/// Lets time pass at once.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

fn certificate(secret: &Value) -> Option<Certificate> {
    let pem = BASE64_STANDARD.decode(secret["data"]["tls.crt"].as_str()?).ok()?;
    Certificate::from_pem(std::str::from_utf8(&pem).ok()?).ok()
}

#[tokio::test]
async fn an_ingress_that_asks_gets_one_certificate_for_its_hosts_and_a_new_one_in_time() {
    let acme = Acme::start(api()).await;
    // One that does not ask.
    let spec = json!({"rules": [rule("c.com", &[])], "tls": [{"secretName": "c-tls", "hosts": ["c.com"]}]});
    ingress(&acme.api, "c", json!(null), spec);
    acme.ask(&["a.com", "b.com"]);
    let first = acme.issued("a.com", &[]).await;
    assert_eq!(first.dns_names, ["a.com", "b.com"]);
    assert_eq!(shown(&acme.world, "b.com").await, first.der.to_vec());
    assert!(acme.told("CertificateIssued").await.starts_with("secret ns/web-tls: certificate for a.com, b.com until "));
    assert!(acme.api.object("/api/v1/namespaces/ns/secrets/c-tls").is_none());
    assert!(acme.api.object("/api/v1/namespaces/kube-system/secrets/kiln-acme-account").is_some());

    acme.looked_after(pass(59 * DAY)).await;
    assert_eq!(acme.server.counts(), (1, 1));
    pass(DAY + Duration::from_secs(60)).await;
    let second = acme.issued("b.com", &first.der).await;
    assert!(second.public_key_der != first.public_key_der, "each certificate has a key of its own");
    assert_eq!(acme.server.counts(), (1, 2));

    // A further host is not put off.
    acme.ask(&["a.com", "b.com", "d.com"]);
    assert_eq!(acme.issued("d.com", &second.der).await.dns_names, ["a.com", "b.com", "d.com"]);
}

#[tokio::test]
async fn a_nonce_that_is_refused_is_replaced() {
    let acme = Acme::start(api()).await;
    acme.server.refuse_nonces(2);
    acme.ask(&["a.com"]);
    acme.issued("a.com", &[]).await;
    assert_eq!(acme.server.refuse_nonces(0), 0);
    assert_eq!(acme.server.counts(), (1, 1));
}

#[tokio::test]
async fn a_name_that_leads_elsewhere_is_told_and_tried_again_later() {
    let acme = Acme::start(api()).await;
    acme.server.lead_to(nowhere().await);
    acme.ask(&["a.com"]);
    let told = acme.told("CertificateFailed").await;
    assert!(
        told.starts_with("secret ns/web-tls: a.com could not be proven: ") && told.contains("(connection)"),
        "{told}"
    );
    let failed = |secret: &Value| secret["metadata"]["annotations"].get("kiln.dev/acme-challenges").is_none();
    let secret = acme.until(failed).await;
    let attempt = secret["metadata"]["annotations"]["kiln.dev/acme-attempt"].as_str().unwrap();
    assert!(attempt.contains(r#""tries":1"#), "{attempt}");

    // No change has the server asked again before its time.
    acme.server.lead_to(acme.world.http);
    let change = async { acme.api.edit(SECRET, |secret| secret["metadata"]["labels"] = json!({"a": "b"})) };
    acme.looked_after(change).await;
    assert_eq!(acme.server.counts(), (1, 1));
    pass(Duration::from_secs(301)).await;
    acme.issued("a.com", &[]).await;
    assert_eq!(acme.server.counts(), (1, 2));
}

#[tokio::test]
async fn a_secret_of_somebody_else_is_left_alone_until_it_goes() {
    let api = api();
    let own = made("a.com");
    secret(&api, "web-tls", &own.cert.pem(), &own.signing_key.serialize_pem());
    let acme = Acme::start(api).await;
    let before = acme.api.object(SECRET);
    acme.ask(&["a.com"]);
    let told = acme.told("CertificateRefused").await;
    assert!(told.contains("ns/web-tls is there and lacks the annotation kiln.dev/acme-directory"), "{told}");
    until_shown(&acme.world, "a.com", &own).await;
    assert_eq!((acme.api.object(SECRET), acme.server.counts()), (before, (0, 0)));
    acme.api.remove(SECRET);
    acme.issued("a.com", &[]).await;
}

#[tokio::test]
async fn a_wildcard_is_refused_and_its_server_not_asked() {
    let acme = Acme::start(api()).await;
    acme.ask(&["a.com", "*.a.com"]);
    let told = acme.told("CertificateRefused").await;
    assert!(told.contains("*.a.com can't be proven over HTTP"), "{told}");
    assert_eq!((acme.api.object(SECRET), acme.server.counts()), (None, (0, 0)));
}
