//! Why a join fails, and what a person can do about each reason.

use std::time::Duration;

/// A failed attempt. `Display` says what happened; [`JoinError::help`] says what to do. Neither holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// No advert of the token's cluster was heard.
    #[error("no server of this cluster was found on the network within {} s{}", .waited.as_secs(), others(*.other_clusters))]
    NoServer {
        /// How long was listened.
        waited: Duration,
        /// How many servers of other clusters were heard meanwhile.
        other_clusters: usize,
    },
    /// Multicast DNS itself doesn't work.
    #[error("searching by mDNS failed: {0}")]
    Discovery(String),
    /// No TCP connection.
    #[error("{server}: {source}")]
    Connect {
        /// `https://host:port`.
        server: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// TCP works, TLS doesn't.
    #[error("{server}: TLS failed: {why}")]
    Tls {
        /// `https://host:port`.
        server: String,
        /// The TLS library's reason.
        why: String,
    },
    /// An answer that no Kiln server gives.
    #[error("{server}: {why}")]
    Answer {
        /// `https://host:port`.
        server: String,
        /// What was wrong with it.
        why: String,
    },
    /// The server's CA isn't the one that the token names. The secret was not sent.
    #[error("{server}: its CA has the hash {found}, and the token names {expected}; the secret was not sent")]
    CaHash {
        /// `https://host:port`.
        server: String,
        /// The hash in the token.
        expected: String,
        /// The hash of the CA that the server showed.
        found: String,
    },
    /// The local clock is too far behind for certificates.
    #[error("the clock is {} s behind the server's", .behind.as_secs())]
    Clock {
        /// The difference.
        behind: Duration,
    },
    /// 401 for the token.
    #[error("the token is unknown or expired")]
    Token,
    /// There are no credentials yet, and no token to get them.
    #[error("there is no join token, and no certificate from an earlier join")]
    NoToken,
    /// 403: a rule of the server; its message is passed on.
    #[error("{0}")]
    Forbidden(String),
    /// The request was denied or failed at the server.
    #[error("the certificate request was {what}: {message}")]
    Request {
        /// `denied` or `failed`.
        what: &'static str,
        /// The server's message.
        message: String,
    },
    /// No certificate came in time.
    #[error("the server accepted the certificate request and gave no certificate within {} s", .0.as_secs())]
    NoCertificate(Duration),
    /// Any other failure at the API.
    #[error("{0}")]
    Api(String),
    /// A key or certificate, or its file.
    #[error(transparent)]
    Pki(#[from] kiln_pki::PkiError),
}

fn others(count: usize) -> String {
    match count {
        0 => String::new(),
        1 => "; one server of another cluster was heard".to_owned(),
        n => format!("; {n} servers of other clusters were heard"),
    }
}

impl JoinError {
    /// What the reader can do, in a sentence.
    pub fn help(&self) -> &'static str {
        match self {
            JoinError::NoServer { other_clusters: 0, .. } => {
                "check that the server runs and is on the same network, or write its address as cluster.server in node.toml"
            }
            JoinError::NoServer { .. } => {
                "the token belongs to another cluster than the servers here; make one with kiln token create on this cluster's server and put it in node.toml"
            }
            JoinError::Discovery(_) => {
                "check the network, or write the server's address as cluster.server in node.toml"
            }
            JoinError::Connect { .. } => {
                "check that the server runs, and that cluster.server in node.toml is its address and port"
            }
            JoinError::Tls { .. } => {
                "check that cluster.server in node.toml is an address in the server's certificate; others go into server.tls-sans of the server's node.toml"
            }
            JoinError::Answer { .. } => "check that cluster.server in node.toml is a Kiln server",
            JoinError::CaHash { .. } => {
                "the server is not the one the token was made on, or someone is in between; check cluster.server, or make a token on that server with kiln token create"
            }
            JoinError::Clock { .. } => "set the clock; the node waits for SNTP or for its own service to set it",
            JoinError::Token => "make a new one with kiln token create and put it in node.toml",
            JoinError::NoToken => "make one with kiln token create and put it in node.toml as cluster.token",
            JoinError::Forbidden(message) if message.contains("another board") => {
                "give this node another node.name in node.toml, or release the name on the server as the message says"
            }
            JoinError::Forbidden(_) => "make a new token with kiln token create and put it in node.toml",
            JoinError::Request { .. } | JoinError::NoCertificate(_) | JoinError::Api(_) => {
                "look at the server's log; the node tries again"
            }
            JoinError::Pki(_) => "check that the STATE partition has space and is writable",
        }
    }

    /// Whether only a person can put it right; then there is no hurry to try again.
    pub fn needs_a_person(&self) -> bool {
        matches!(
            self,
            JoinError::CaHash { .. }
                | JoinError::Token
                | JoinError::NoToken
                | JoinError::Forbidden(_)
                | JoinError::Request { .. }
        )
    }
}
