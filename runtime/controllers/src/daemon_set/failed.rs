//! How long a pod that failed on a node is left there: longer with each failure, since a kubelet that refuses pods would be
//! sent new ones without end.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const MOST: Duration = Duration::from_secs(15 * 60);

/// A set, a generation of it, and a node.
type Place = (String, i64, String);

/// The failures on all nodes.
#[derive(Debug, Default)]
pub(super) struct FailedPods(Mutex<HashMap<Place, (Duration, Instant)>>);

impl FailedPods {
    /// Notes a failure that is to be cleared away now; or answers how long it is to stay.
    pub(super) fn clear(&self, uid: &str, generation: i64, node: &str) -> Result<(), Duration> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        all.retain(|_, (_, last)| now.duration_since(*last) <= 2 * MOST);
        let place = (uid.to_owned(), generation, node.to_owned());
        match all.get_mut(&place) {
            Some((wait, last)) => {
                let left = wait.saturating_sub(now.duration_since(*last));
                if !left.is_zero() {
                    return Err(left);
                }
                (*wait, *last) = ((*wait * 2).min(MOST), now);
            }
            None => _ = all.insert(place, (FIRST, now)),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_failure_on_a_node_stays_twice_as_long() {
        let failed = FailedPods::default();
        assert_eq!(failed.clear("a", 1, "n"), Ok(()));
        assert_eq!(failed.clear("a", 1, "other"), Ok(()));
        for seconds in [1, 2, 4] {
            let wait = Duration::from_secs(seconds);
            assert_eq!(failed.clear("a", 1, "n"), Err(wait));
            tokio::time::advance(wait).await;
            assert_eq!(failed.clear("a", 1, "n"), Ok(()));
        }
        tokio::time::advance(Duration::from_secs(3_600)).await;
        assert_eq!(failed.clear("a", 1, "n"), Ok(()));
        assert_eq!(failed.clear("a", 1, "n"), Err(FIRST));
    }
}
