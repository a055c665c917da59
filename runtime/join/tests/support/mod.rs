//! A TLS server that shows a CA and remembers all that it was sent, and a listener to a join's reports.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use kiln_join::{Credentials, Endpoint, JoinError, Progress, Step, tls};
use kiln_pki::Authority;
use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::{Notify, mpsc};
use tokio_rustls::TlsAcceptor;

pub(crate) struct TestServer {
    address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl TestServer {
    /// A server with a certificate of `authority` that shows `ca_pem` at every path and says it is `time`.
    pub(crate) async fn start(authority: &Authority, ca_pem: &str, time: SystemTime) -> Self {
        let issued = authority.issue_server("server", &["127.0.0.1".to_owned()], time).unwrap();
        let key = tls::certified_key(&issued.certificate_pem, &issued.key_pem).unwrap();
        let config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(tls::HotCertificate::new(key));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&received);
        let date = jiff::fmt::rfc2822::DateTimePrinter::new()
            .timestamp_to_rfc9110_string(&jiff::Timestamp::try_from(time).unwrap())
            .unwrap();
        let answer = format!(
            "HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{ca_pem}",
            ca_pem.len()
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, log, answer) = (acceptor.clone(), Arc::clone(&log), answer.clone());
                tokio::spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else {
                        return;
                    };
                    let mut head = Vec::new();
                    let mut buffer = [0; 4096];
                    while !head.windows(4).any(|w| w == b"\r\n\r\n") {
                        match stream.read(&mut buffer).await {
                            Ok(n) if n > 0 => {
                                head.extend_from_slice(&buffer[..n]);
                                log.lock().unwrap().extend_from_slice(&buffer[..n]);
                            }
                            _ => return,
                        }
                    }
                    let _ = stream.write_all(answer.as_bytes()).await;
                    let _ = stream.shutdown().await;
                });
            }
        });
        TestServer { address, received }
    }

    pub(crate) fn url(&self) -> String {
        self.endpoint().to_string()
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::of(self.address)
    }

    /// Everything that came in over TLS so far.
    pub(crate) fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap()).into_owned()
    }
}

pub(crate) struct Reports {
    failures: mpsc::UnboundedSender<JoinError>,
    pub(crate) time_reported: Notify,
}

impl Reports {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<JoinError>) {
        let (failures, receiver) = mpsc::unbounded_channel();
        (Reports { failures, time_reported: Notify::new() }, receiver)
    }
}

impl Progress for Reports {
    fn step(&self, _: Step, _: &str) {}

    fn failed(&self, error: JoinError) {
        let _ = self.failures.send(error);
    }

    fn server_time(&self, _: SystemTime) {
        self.time_reported.notify_one();
    }

    fn credentials(&self, _: &Credentials) {}

    fn token_spent(&self) {}
}
