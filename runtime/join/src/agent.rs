//! The join from start to end, and again until it succeeds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_client::{Backoff, Client};
use kiln_node_config::{ServerAddress, ServerUrl, Token};
use kiln_pki::{Certificate, secret};

use crate::connection::{Connection, Handle, as_node, with_token};
use crate::{AddressWatch, Clock, Credentials, Endpoint, JoinError, Progress, Step, Store};
use crate::{bootstrap, discovery, fetch_ca, server_time};

/// How long one search by mDNS listens.
const LISTEN: Duration = Duration::from_secs(15);
/// How far the clock may be behind the server's: as much as certificates are dated back.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(5 * 60);
/// How long a clock that is further behind is waited for, and how often it is looked at.
const CLOCK_PATIENCE: Duration = Duration::from_secs(15);
const CLOCK_CHECK: Duration = Duration::from_millis(100);
/// The first and the longest delay between two attempts.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What an agent must know to join.
pub struct Settings {
    /// Where the server is.
    pub server: ServerAddress,
    /// The join token; `None` once it has been scrubbed.
    pub token: Option<Token>,
    /// The node's name.
    pub node_name: String,
    /// What identifies the board, as PID 1 gives it in `KILN_BOARD_ID`.
    pub board_id: String,
    /// Folder for the credentials.
    pub folder: PathBuf,
    /// The clock.
    pub clock: Box<dyn Clock>,
}

/// A node that is joined: it has credentials and a way to the API.
pub struct Joined {
    /// A client that is the node. It stays good when certificates are renewed or the server moves, as long as
    /// [`crate::maintain`] runs.
    pub client: Client,
    pub(crate) connection: Arc<Connection>,
    pub(crate) credentials: Credentials,
    pub(crate) store: Store,
}

impl Joined {
    /// What the node joined with.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }
}

/// Joins, trying until it works; every failure is reported with what to do about it. Credentials of an earlier join are used
/// if they fit.
pub async fn join(settings: &Settings, progress: &impl Progress) -> Joined {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    let mut addresses = AddressWatch::start();
    loop {
        match attempt(settings, progress).await {
            Ok(joined) => return joined,
            Err(error) => {
                // What only a person can put right is not tried in a hurry.
                let delay = if error.needs_a_person() { RETRY.1 } else { backoff.next_wait() };
                progress.failed(error);
                tokio::select! {
                    () = tokio::time::sleep(delay) => {}
                    // At boot the network comes up beside this; what failed may work now.
                    () = addresses.changed() => backoff.reset(),
                }
            }
        }
    }
}

/// One attempt.
async fn attempt(settings: &Settings, progress: &impl Progress) -> Result<Joined, JoinError> {
    let store = Store::new(&settings.folder);
    let token = settings.token.as_ref();
    let earlier = store.load(&settings.node_name, token.map(Token::ca_hash))?;
    let server = reach(settings, earlier.as_ref(), progress).await?;

    progress.step(Step::Time, &format!("{} says it is {}", server.endpoint, rfc3339(server.time)));
    progress.server_time(server.time);
    wait_for_clock(settings.clock.as_ref(), server.time).await?;

    let url = server.endpoint.to_string();
    let earlier = earlier.filter(|c| c.client.certificate.is_valid_at(settings.clock.now()));
    let credentials = match earlier {
        Some(mut credentials) => {
            store.save_server(&url)?;
            credentials.server = url;
            if let Some(token) = token
                && store.is_spent(token.id())?
            {
                progress.token_spent();
            }
            credentials
        }
        None => {
            let token = token.ok_or(JoinError::NoToken)?;
            first_credentials(settings, progress, &store, token, server.ca_pem, url).await?
        }
    };

    let connection = Connection::new(as_node(&credentials)?);
    let client = Client::new(Handle(Arc::clone(&connection)));
    progress.credentials(&credentials);
    Ok(Joined { client, connection, credentials, store })
}

/// The client certificate by token, saved before anything else happens.
async fn first_credentials(
    settings: &Settings,
    progress: &impl Progress,
    store: &Store,
    token: &Token,
    ca_pem: String,
    server: String,
) -> Result<Credentials, JoinError> {
    progress.step(Step::Csr, &format!("asking {server} for a certificate as {}", settings.node_name));
    let client = with_token(&server, &ca_pem, token.bearer())?;
    let identity = secret::node_identity(&settings.board_id, token.ca_hash());
    let got = bootstrap::client_certificate(&client, &settings.node_name, &identity).await?;
    if !got.pair.certificate.is_signed_by(&Certificate::from_pem(&ca_pem)?) {
        return Err(JoinError::Api(format!("{server} gave a certificate that its own CA didn't sign")));
    }
    let credentials = Credentials { ca_pem, client: got.pair, serving: None, server };
    store.save(&credentials)?;
    if got.token_spent {
        store.save_spent(token.id())?;
        progress.token_spent();
    }
    Ok(credentials)
}

/// A server that was reached, and proved to be the CA's.
pub(crate) struct Reached {
    pub(crate) endpoint: Endpoint,
    pub(crate) ca_pem: String,
    pub(crate) time: SystemTime,
}

/// Finds a server that answers with the right CA.
async fn reach(
    settings: &Settings,
    earlier: Option<&Credentials>,
    progress: &impl Progress,
) -> Result<Reached, JoinError> {
    let hash = match (&settings.token, earlier) {
        (Some(token), _) => token.ca_hash().to_owned(),
        (None, Some(earlier)) => kiln_pki::ca_hash(&Certificate::from_pem(&earlier.ca_pem)?.der),
        (None, None) => return Err(JoinError::NoToken),
    };
    let ca_pem = earlier.map(|c| c.ca_pem.as_str());
    match &settings.server {
        ServerAddress::Url(url) => first_of(&[Endpoint::from(url)], &hash, ca_pem, progress).await,
        ServerAddress::Discover => {
            // Where the server was last is asked before the network is.
            if let Some(url) = earlier.and_then(|c| c.server.parse::<ServerUrl>().ok())
                && let Ok(reached) = first_of(&[Endpoint::from(&url)], &hash, ca_pem, progress).await
            {
                return Ok(reached);
            }
            progress.step(Step::Discover, "searching for the server by mDNS");
            let found = discovery::find(&hash, LISTEN).await?;
            progress.step(Step::Discover, &format!("found the server {}", found.name));
            first_of(&found.endpoints, &hash, ca_pem, progress).await
        }
    }
}

/// The first endpoint that works. Of several failures, one that only a person can put right is the one to tell.
async fn first_of(
    endpoints: &[Endpoint],
    hash: &str,
    known_ca: Option<&str>,
    progress: &impl Progress,
) -> Result<Reached, JoinError> {
    let mut failure = None;
    for endpoint in endpoints {
        progress.step(Step::Ca, &format!("checking the CA of {endpoint}"));
        match check(endpoint, hash, known_ca).await {
            Ok(reached) => return Ok(reached),
            Err(error) if failure.as_ref().is_some_and(JoinError::needs_a_person) => {
                tracing::debug!(%endpoint, %error, "not reached");
            }
            Err(error) => failure = Some(error),
        }
    }
    Err(failure.unwrap_or(JoinError::NoServer { waited: Duration::ZERO, other_clusters: 0 }))
}

pub(crate) async fn check(endpoint: &Endpoint, hash: &str, known_ca: Option<&str>) -> Result<Reached, JoinError> {
    let ca_pem = match known_ca {
        Some(ca) => ca.to_owned(),
        None => fetch_ca(endpoint, hash).await?,
    };
    let time = server_time(endpoint, &ca_pem).await?;
    Ok(Reached { endpoint: endpoint.clone(), ca_pem, time })
}

/// Waits until the clock isn't far behind `time`; PID 1 steps it when it hears of that time.
async fn wait_for_clock(clock: &dyn Clock, time: SystemTime) -> Result<(), JoinError> {
    let deadline = tokio::time::Instant::now() + CLOCK_PATIENCE;
    loop {
        let behind = time.duration_since(clock.now()).unwrap_or_default();
        if behind <= CLOCK_TOLERANCE {
            return Ok(());
        }
        if tokio::time::Instant::now() >= deadline {
            return Err(JoinError::Clock { behind });
        }
        tokio::time::sleep(CLOCK_CHECK).await;
    }
}

fn rfc3339(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map_or_else(|_| "out of range".to_owned(), |t| t.to_string())
}
