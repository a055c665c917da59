//! Hooks: objects that are made at an event of a release, one after the other, and waited for if they are Jobs or Pods.

use std::time::Duration;

use kiln_apimachinery::meta;
use kiln_charts::{DeletePolicy, Event, Hook};
use kiln_client::{ListParams, WatchEvent};
use serde_json::{Value, json};

use super::Controller;
use crate::object_set::Kind;
use crate::reconcile::Failure;
use crate::status_patch::unless_gone;

/// What an object that is waited for comes to; none as long as that is open.
type Judged = Option<Result<(), Failure>>;

impl Controller {
    pub(super) async fn run_hooks(
        &self,
        hooks: &[Hook],
        event: Event,
        namespace: &str,
        patience: Duration,
    ) -> Result<(), Failure> {
        let mut hooks: Vec<&Hook> = hooks.iter().filter(|hook| hook.events.contains(&event)).collect();
        hooks.sort_by(|a, b| {
            let name = |hook: &Hook| meta::name(&hook.manifest.object).to_owned();
            a.weight.cmp(&b.weight).then_with(|| name(a).cmp(&name(b)))
        });
        let mut done: Vec<&Hook> = Vec::new();
        for hook in hooks {
            if hook.policies.contains(&DeletePolicy::BeforeCreation) {
                self.take_away(&hook.manifest.object, namespace, patience).await?;
            }
            let object = &hook.manifest.object;
            self.sets.put(object.clone(), &Kind::of(object), namespace).await?;
            let ended = tokio::time::timeout(patience, self.ended(object, namespace)).await;
            let ended =
                ended.unwrap_or_else(|_| Err(Failure::Waiting("timed out waiting for the condition".to_owned())));
            if let Err(failure) = ended {
                if hook.policies.contains(&DeletePolicy::Failed) {
                    self.take_away(object, namespace, patience).await?;
                }
                let what = format!("{} hooks failed: {}: {failure}", event.as_str(), hook.manifest.source);
                return Err(Failure::Waiting(what));
            }
            done.push(hook);
        }
        // Those behind may need what those before made.
        while let Some(hook) = done.pop() {
            if hook.policies.contains(&DeletePolicy::Succeeded) {
                self.take_away(&hook.manifest.object, namespace, patience).await?;
            }
        }
        Ok(())
    }

    /// Deletes an object and waits until it is gone.
    async fn take_away(&self, object: &Value, namespace: &str, patience: Duration) -> Result<(), Failure> {
        let Some(path) = self.sets.path(object, namespace).await? else { return Ok(()) };
        unless_gone(self.client.delete(&path, &json!({"propagationPolicy": "Background"})).await)?;
        let waiting = tokio::time::timeout(patience, self.until(&path, &|object| object.is_none().then_some(Ok(()))));
        waiting.await.unwrap_or_else(|_| Err(Failure::Waiting(format!("{path} does not go"))))
    }

    /// Waits until a Job or a Pod has ended; other objects are done at once.
    async fn ended(&self, object: &Value, namespace: &str) -> Result<(), Failure> {
        let kind = object["kind"].as_str().unwrap_or_default();
        if !matches!(kind, "Job" | "Pod") {
            return Ok(());
        }
        let Some(path) = self.sets.path(object, namespace).await? else { return Ok(()) };
        self.until(&path, &|object| {
            let status = &object?["status"];
            if kind == "Pod" {
                return match status["phase"].as_str() {
                    Some("Succeeded") => Some(Ok(())),
                    Some("Failed") => Some(Err(Failure::Waiting(format!("pod {path} failed")))),
                    _ => None,
                };
            }
            let is = |kind: &str| {
                let conditions = status["conditions"].as_array().into_iter().flatten();
                conditions.into_iter().find(|condition| condition["type"] == kind && condition["status"] == "True")
            };
            match (is("Complete"), is("Failed")) {
                (Some(_), _) => Some(Ok(())),
                (_, Some(failed)) => Some(Err(Failure::Waiting(format!("job {} failed: {}", path, failed["reason"])))),
                _ => None,
            }
        })
        .await
    }

    /// Watches an object until it is judged.
    async fn until(&self, path: &str, judge: &(dyn Fn(Option<&Value>) -> Judged + Sync)) -> Result<(), Failure> {
        let Some((collection, name)) = path.rsplit_once('/') else { return Ok(()) };
        let params = ListParams { fields: format!("metadata.name={name}"), ..ListParams::default() };
        loop {
            let list = self.client.list::<Value>(collection, &params).await?;
            if let Some(judged) = judge(list.items.first()) {
                return judged;
            }
            let limit = Duration::from_secs(300);
            let mut watch = self.client.watch::<Value>(collection, &params, &list.resource_version, limit).await?;
            while let Some(event) = watch.next().await? {
                let object = match &event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
                    WatchEvent::Deleted(_) => None,
                    WatchEvent::Bookmark(_) => continue,
                };
                if let Some(judged) = judge(object) {
                    return judged;
                }
            }
        }
    }
}
