//! Answers to the challenges of ACME servers (RFC 8555, 8.3), out of the Secrets whose certificates are being made.
//!
//! A server looks for an answer as soon as it is told to, and it may come to any node. Where the answer is not known yet it is waited
//! for, so that nobody has to find out whether all nodes have it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kiln_acme::marks;
use tokio::sync::watch;

/// How long an answer is waited for. Let's Encrypt is patient for ten seconds.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers by their tokens.
pub(crate) type Answers = BTreeMap<String, String>;

/// Answers by the hosts that Ingresses want certificates for. What one Secret holds is told at no other host than those that an Ingress
/// names it for.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<String, Vec<Arc<Answers>>>);

impl Table {
    /// Adds a host with its answers, of which there may be none yet.
    pub(crate) fn add(&mut self, host: &str, answers: Option<&Arc<Answers>>) {
        self.0.entry(host.to_ascii_lowercase()).or_default().extend(answers.cloned());
    }

    fn find(&self, host: &str, token: &str) -> Option<&String> {
        self.0.get(host)?.iter().find_map(|answers| answers.get(token))
    }
}

/// Answers challenges.
#[derive(Debug, Default)]
pub(crate) struct Challenges(watch::Sender<Table>);

impl Challenges {
    /// Has these answered from now on.
    pub(crate) fn set(&self, table: Table) {
        self.0.send_replace(table);
    }

    /// The answer to a request, if it is a challenge for a certificate that an Ingress wants.
    pub(crate) async fn answer(&self, host: &str, path: &str) -> Option<String> {
        let token = marks::token(path)?;
        let mut table = self.0.subscribe();
        let is_over = |table: &Table| !table.0.contains_key(host) || table.find(host, token).is_some();
        let found = tokio::time::timeout(PATIENCE, table.wait_for(is_over)).await;
        found.ok()?.ok()?.find(host, token).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/.well-known/acme-challenge/t";

    fn table(host: &str, answers: &[(&str, &str)]) -> Table {
        let answers = answers.iter().map(|(token, text)| ((*token).to_owned(), (*text).to_owned())).collect();
        let mut table = Table::default();
        table.add(host, Some(&Arc::new(answers)));
        table
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_waited_for_at_the_host_that_wants_a_certificate() {
        let challenges = Challenges::default();
        assert_eq!(challenges.answer("a.com", PATH).await, None);
        challenges.set(table("A.com", &[]));
        let began = tokio::time::Instant::now();
        assert_eq!(challenges.answer("b.com", PATH).await, None);
        assert_eq!(challenges.answer("a.com", "/other").await, None);
        assert_eq!(began.elapsed(), Duration::ZERO);
        assert_eq!(challenges.answer("a.com", PATH).await, None);
        assert_eq!(began.elapsed(), PATIENCE);
        let comes = async {
            tokio::task::yield_now().await;
            challenges.set(table("a.com", &[("t", "t.x")]));
        };
        let (answer, ()) = tokio::join!(challenges.answer("a.com", PATH), comes);
        assert_eq!(answer.as_deref(), Some("t.x"));
        assert_eq!(challenges.answer("b.com", PATH).await, None);
    }
}
