//! Back to an earlier revision, asked for by an annotation. `kubectl rollout undo` does it by itself; old clients ask so.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use kiln_client::path;
use serde::de::IgnoredAny;

use super::revisions::{self, ROLLBACK_TO};
use super::rollout::Rollout;
use crate::owned;
use crate::reconcile::{Failure, Next};

impl Rollout<'_> {
    /// Back to a revision; 0 stands for the one before the last.
    pub(super) async fn roll_back(&mut self, revision: i64) -> Result<Next, Failure> {
        self.sync_revision().await?;
        self.ensure_new().await?;
        let recorder = &self.engine.recorder;
        let mut known: Vec<i64> = self.all().filter_map(|set| revisions::revision(set)).collect();
        known.sort_unstable();
        let revision = if revision == 0 { known.iter().rev().nth(1).copied().unwrap_or(0) } else { revision };
        let set = self.all().find(|set| revision > 0 && revisions::revision(set) == Some(revision));
        let Some(set) = set else {
            let text = if revision == 0 {
                "Unable to find last revision."
            } else {
                "Unable to find the revision to rollback to."
            };
            recorder.warning(self.deployment, "DeploymentRollbackRevisionNotFound", text);
            return self.put(self.deployment.clone()).await;
        };
        let name = owned::name(self.deployment);
        match restored(self.deployment, set) {
            Some(back) => {
                let next = self.put(back).await?;
                let text = format!("Rolled back deployment \"{name}\" to revision {revision}");
                recorder.normal(self.deployment, "DeploymentRollback", text);
                Ok(next)
            }
            None => {
                let text = format!("The rollback revision contains the same template as current deployment \"{name}\"");
                recorder.warning(self.deployment, "DeploymentRollbackTemplateUnchanged", text);
                self.put(self.deployment.clone()).await
            }
        }
    }

    /// Writes the Deployment, without the annotation that brought it here.
    async fn put(&self, mut deployment: Deployment) -> Result<Next, Failure> {
        if let Some(annotations) = &mut deployment.metadata.annotations {
            annotations.remove(ROLLBACK_TO);
        }
        let path = path::<Deployment>(owned::namespace(self.deployment), owned::name(self.deployment));
        self.engine.client.update::<IgnoredAny>(&path, &deployment).await?;
        Ok(Next::Settled)
    }
}

/// The Deployment with the template and the annotations of a ReplicaSet; `None` if it has that template.
fn restored(deployment: &Deployment, set: &ReplicaSet) -> Option<Deployment> {
    let template = set.spec.as_ref()?.template.as_ref()?;
    let mut back = deployment.clone();
    let spec = back.spec.as_mut()?;
    if revisions::is_same(template, &spec.template) {
        return None;
    }
    spec.template = revisions::without_hash(template);
    back.metadata.annotations = Some(revisions::restored(deployment, set));
    Some(back)
}
