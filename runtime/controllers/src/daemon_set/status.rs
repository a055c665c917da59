//! The counts of a set's status.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::apps::v1::DaemonSetStatus;
use k8s_openapi::api::core::v1::Pod;

use super::manage::sort_oldest_first;
use super::{Engine, Look, pod};
use crate::owned::name;
use crate::pods::{is_available, is_ready, next_available};
use crate::reconcile::{Failure, Next};
use crate::status_patch::{self, shown};

impl Engine {
    /// Writes the status, if it is another; answers when the next pod will have been ready for long enough.
    pub(super) async fn write_status(&self, look: &Look<'_>, collisions: Option<i32>) -> Result<Next, Failure> {
        let min_ready = look.spec.min_ready_seconds.unwrap_or(0);
        let (mut desired, mut misplaced, mut first) = (0, 0, Vec::<Arc<Pod>>::new());
        for node in &look.nodes {
            let pods = look.pods.get(name(&**node));
            if !pod::is_for(look.set, node).runs {
                misplaced += i32::from(pods.is_some());
                continue;
            }
            desired += 1;
            if let Some(pods) = pods {
                let mut pods = pods.clone();
                sort_oldest_first(&mut pods);
                first.extend(pods.into_iter().next());
            }
        }
        let count =
            |is: &dyn Fn(&Pod) -> bool| i32::try_from(first.iter().filter(|pod| is(pod)).count()).unwrap_or(i32::MAX);
        let (ready, available) = (count(&is_ready), count(&|pod| is_available(pod, min_ready, look.now)));
        let status = DaemonSetStatus {
            observed_generation: look.set.metadata.generation,
            desired_number_scheduled: desired,
            current_number_scheduled: count(&|_| true),
            number_misscheduled: misplaced,
            number_ready: ready,
            updated_number_scheduled: shown(count(&|pod| pod::is_updated(look.set, pod, &look.hash))),
            number_available: shown(available),
            number_unavailable: shown(desired - available),
            collision_count: collisions,
            conditions: look.set.status.as_ref().and_then(|status| status.conditions.clone()),
        };
        status_patch::write(&self.client, look.set, look.set.status.as_ref(), &status).await?;
        if min_ready == 0 || ready == available {
            return Ok(Next::Settled);
        }
        let otherwise = Duration::from_secs(min_ready.unsigned_abs().into());
        Ok(Next::After(next_available(&first, min_ready, look.now).unwrap_or(otherwise)))
    }
}
