//! To whom the token's secret is shown, and what is believed before it is.

#![allow(clippy::unwrap_used, reason = "a helper that unwraps fails the test with the place")]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_join::{Clock, JoinError, Settings, fetch_ca, join, server_time};
use kiln_node_config::{ServerAddress, Token};
use kiln_pki::Authority;
use support::{Reports, TestServer};

const SECRET: &str = "s3cr3ts3cr3ts3cr";

struct At(SystemTime);

impl Clock for At {
    fn now(&self) -> SystemTime {
        self.0
    }
}

fn settings(server: &TestServer, ca_hash: &str, now: SystemTime, folder: &std::path::Path) -> Settings {
    Settings {
        server: ServerAddress::Url(server.url().parse().unwrap()),
        token: Some(Token::new(ca_hash, "abcdef", SECRET).unwrap()),
        node_name: "pi".to_owned(),
        board_id: "board".to_owned(),
        folder: folder.to_owned(),
        clock: Box::new(At(now)),
    }
}

/// Joins until the first failure; what it was, and all that the server was sent.
async fn fails(server: &TestServer, settings: Settings) -> (JoinError, String) {
    let (reports, mut failures) = Reports::new();
    let reports = Arc::new(reports);
    let task = tokio::spawn(async move { join(&settings, reports.as_ref()).await.credentials().server.clone() });
    let failure = failures.recv().await.unwrap();
    task.abort();
    (failure, server.received())
}

#[tokio::test]
async fn a_server_with_another_ca_never_sees_the_secret() {
    let now = SystemTime::now();
    let (mine, other) = (Authority::create(now).unwrap(), Authority::create(now).unwrap());
    let rogue = TestServer::start(&other, other.certificate_pem(), now).await;
    let folder = tempfile::tempdir().unwrap();
    let (error, received) = fails(&rogue, settings(&rogue, &mine.hash(), now, folder.path())).await;
    assert!(matches!(&error, JoinError::CaHash { found, .. } if *found == other.hash()), "{error}");
    assert!(error.to_string().contains("the secret was not sent") && error.needs_a_person());
    assert!(received.contains("GET /cacerts") && !received.contains(SECRET), "{received}");
}

#[tokio::test]
async fn a_server_that_shows_the_right_ca_without_its_certificate_never_sees_the_secret() {
    // The CA's certificate is public: anybody in between can show it.
    let now = SystemTime::now();
    let (mine, other) = (Authority::create(now).unwrap(), Authority::create(now).unwrap());
    let rogue = TestServer::start(&other, mine.certificate_pem(), now).await;
    let folder = tempfile::tempdir().unwrap();
    let (error, received) = fails(&rogue, settings(&rogue, &mine.hash(), now, folder.path())).await;
    assert!(matches!(error, JoinError::Tls { .. }), "{error}");
    assert!(received.contains("GET /cacerts") && !received.contains(SECRET), "{received}");
}

#[tokio::test]
async fn the_time_is_learnt_from_the_pinned_server_whatever_the_local_clock_says() {
    let later = SystemTime::now() + Duration::from_secs(20 * 365 * 24 * 3600);
    let ca = Authority::create(later).unwrap();
    let server = TestServer::start(&ca, ca.certificate_pem(), later).await;
    let pem = fetch_ca(&server.endpoint(), &ca.hash()).await.unwrap();
    let time = server_time(&server.endpoint(), &pem).await.unwrap();
    let seconds = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    assert_eq!(seconds(time), seconds(later));
}

#[tokio::test]
async fn the_time_is_not_taken_from_a_server_of_another_ca() {
    let now = SystemTime::now();
    let (mine, other) = (Authority::create(now).unwrap(), Authority::create(now).unwrap());
    let rogue = TestServer::start(&other, mine.certificate_pem(), now).await;
    let error = server_time(&rogue.endpoint(), mine.certificate_pem()).await.unwrap_err();
    assert!(matches!(error, JoinError::Tls { .. }), "{error}");
}

#[tokio::test]
async fn a_clock_at_1970_is_reported_and_waited_for_before_the_secret_is_sent() {
    let now = SystemTime::now();
    let ca = Authority::create(now).unwrap();
    let server = TestServer::start(&ca, ca.certificate_pem(), now).await;
    let folder = tempfile::tempdir().unwrap();
    let (reports, failures) = Reports::new();
    let settings = settings(&server, &ca.hash(), SystemTime::UNIX_EPOCH, folder.path());
    let reports = Arc::new(reports);
    let seen = Arc::clone(&reports);
    let task = tokio::spawn(async move { join(&settings, seen.as_ref()).await.credentials().server.clone() });
    reports.time_reported.notified().await;
    assert!(failures.is_empty());
    assert!(!server.received().contains(SECRET));
    task.abort();
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_to_do() {
    let now = SystemTime::now();
    let ca = Authority::create(now).unwrap();
    let server = TestServer::start(&ca, ca.certificate_pem(), now).await;
    let folder = tempfile::tempdir().unwrap();
    let mut settings = settings(&server, &ca.hash(), now, folder.path());
    // Port 1 of loopback has no listener.
    settings.server = ServerAddress::Url("https://127.0.0.1:1".parse().unwrap());
    let (error, _) = fails(&server, settings).await;
    assert!(error.to_string().starts_with("https://127.0.0.1:1: "), "{error}");
    assert!(error.help().contains("cluster.server"));
}
