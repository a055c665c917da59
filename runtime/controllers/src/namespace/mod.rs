//! Empties namespaces that are being deleted, then lets them go: pods first (KEP-5080), so that none loses the policies, secrets and
//! accounts that it runs by while it ends.

use std::collections::BTreeMap;
use std::future::Future;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kiln_apimachinery::{meta, time};
use kiln_client::{Change, Client, Clock, Informers, List, ListParams, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};

use crate::Context;
use crate::discovery::{self, Collection};
use crate::reconcile::{Failure, Next, keys_to, to_value, work};

const PATH: &str = "/api/v1/namespaces";
/// The finalizer in a namespace's `spec` that this controller stands for.
const FINALIZER: &str = "kubernetes";

/// Makes the controller.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, clock, shutdown, .. } = context.clone();
    let (queue, namespaces) = (WorkQueue::default(), informers.of::<Namespace>());
    namespaces.subscribe(keys_to(&queue));
    let namespaces = namespaces.store();
    // What else is in a namespace waits for its last pod.
    informers.of::<Pod>().subscribe({
        let (queue, namespaces) = (queue.clone(), namespaces.clone());
        move |change| {
            let Change::Deleted { key, .. } = change else { return };
            let namespace = ObjectRef::cluster(key.namespace.as_str());
            if namespaces.get(&namespace).is_some_and(|namespace| is_ours(&namespace)) {
                queue.add(namespace);
            }
        }
    });
    let controller = Controller { client, clock, namespaces };
    async move { work("namespace", &queue, &shutdown, |key| controller.reconcile(key)).await }
}

struct Controller {
    client: Client,
    clock: Clock,
    namespaces: Store<Namespace>,
}

/// What still keeps a namespace, in words for its conditions.
#[derive(Default)]
struct Remains {
    undiscovered: Vec<String>,
    failures: Vec<String>,
    content: Vec<String>,
    /// How many objects each holds.
    finalizers: BTreeMap<String, usize>,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        let Some(namespace) = self.namespaces.get(&key).filter(|namespace| is_ours(namespace)) else {
            return Ok(Next::Settled);
        };
        let namespace = to_value(&*namespace)?;
        let remains = self.empty(&key.name).await?;
        if remains.is_nothing() {
            return self.finalize(&namespace).await;
        }
        self.report(&namespace, &remains).await?;
        Err(Failure::Waiting(format!("the namespace is not empty yet: {}", remains.summary())))
    }

    /// Deletes everything in the namespace; answers what is still there.
    async fn empty(&self, namespace: &str) -> Result<Remains, Failure> {
        let discovered = discovery::discover(&self.client, |_| true).await?;
        let failures = discovered.failures.iter().map(|(version, error)| format!("{version}: {error}"));
        let mut remains = Remains { undiscovered: failures.collect(), ..Remains::default() };
        let emptied = |c: &Collection| c.place.namespaced && c.can("list") && c.can("delete");
        let (pods, others): (Vec<_>, Vec<_>) =
            discovered.collections.into_iter().filter(emptied).partition(|collection| collection.name == "pods");
        self.empty_collections(namespace, pods, &mut remains).await;
        if remains.content.is_empty() {
            self.empty_collections(namespace, others, &mut remains).await;
        }
        Ok(remains)
    }

    async fn empty_collections(&self, namespace: &str, collections: Vec<Collection>, remains: &mut Remains) {
        for collection in collections {
            if let Err(error) = self.empty_collection(namespace, &collection, remains).await {
                remains.failures.push(format!("{}: {error}", collection.name));
            }
        }
    }

    async fn empty_collection(
        &self,
        namespace: &str,
        collection: &Collection,
        remains: &mut Remains,
    ) -> Result<(), Failure> {
        let path = collection.place.within(&collection.api_version, namespace);
        let found: List<Value> = self.client.list(&path, &ListParams::default()).await?;
        if found.items.is_empty() {
            return Ok(());
        }
        let background = json!({"propagationPolicy": "Background"});
        if collection.can("deletecollection") {
            self.client.delete(&path, &background).await?;
        } else {
            for object in found.items.iter().filter(|object| !meta::is_terminating(object)) {
                let deleted = self.client.delete(&format!("{path}/{}", meta::name(object)), &background).await;
                if let Err(error) = deleted
                    && !error.is_not_found()
                {
                    return Err(error.into());
                }
            }
        }
        let left: List<Value> = self.client.list(&path, &ListParams::default()).await?;
        if !left.items.is_empty() {
            // Also the core group, whose name is empty, has its dot.
            let dot = if collection.api_version.contains('/') { "" } else { "." };
            remains.content.push(format!("{}{dot} has {} resource instances", collection.name, left.items.len()));
            for finalizer in left.items.iter().flat_map(|object| meta::finalizers(object)) {
                *remains.finalizers.entry(finalizer.to_owned()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Takes this controller's finalizer off.
    async fn finalize(&self, namespace: &Value) -> Result<Next, Failure> {
        let mut free = namespace.clone();
        let others: Vec<_> = spec_finalizers(namespace).into_iter().filter(|name| *name != FINALIZER).collect();
        free["spec"]["finalizers"] = json!(others);
        let path = format!("{PATH}/{}/finalize", meta::name(namespace));
        match self.client.update::<Value>(&path, &free).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(Next::Settled),
        }
    }

    /// Says in the namespace's conditions what it waits for.
    async fn report(&self, namespace: &Value, remains: &Remains) -> Result<(), Failure> {
        let mut reported = namespace.clone();
        let conditions = remains.conditions(namespace, self.clock.now());
        if meta::at(namespace, &["status", "conditions"]) == Some(&conditions) {
            return Ok(());
        }
        reported["status"]["conditions"] = conditions;
        let path = format!("{PATH}/{}/status", meta::name(namespace));
        self.client.update::<Value>(&path, &reported).await?;
        Ok(())
    }
}

fn spec_finalizers(namespace: &Value) -> Vec<&str> {
    meta::strings(meta::at(namespace, &["spec", "finalizers"]))
}

fn is_ours(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|spec| spec.finalizers.as_ref());
    namespace.metadata.deletion_timestamp.is_some()
        && finalizers.is_some_and(|finalizers| finalizers.iter().any(|finalizer| finalizer == FINALIZER))
}

impl Remains {
    fn is_nothing(&self) -> bool {
        self.undiscovered.is_empty() && self.failures.is_empty() && self.content.is_empty()
    }

    fn summary(&self) -> String {
        let all = [&self.undiscovered, &self.failures, &self.content];
        all.into_iter().flatten().cloned().collect::<Vec<_>>().join(", ")
    }

    /// The conditions that Kubernetes names; each keeps its time while its status stays.
    fn conditions(&self, namespace: &Value, now: Timestamp) -> Value {
        let finalizers = self.finalizers.iter().map(|(name, count)| format!("{name} in {count} resource instances"));
        let finalizers: Vec<String> = finalizers.collect();
        let (groups, failures) = (self.undiscovered.len(), self.failures.len());
        let rows: [(_, &[String], _, _); 5] = [
            (
                "NamespaceDeletionDiscoveryFailure",
                &self.undiscovered,
                ("DiscoveryFailed", format!("Discovery failed for some groups, {groups} failing: ")),
                ("ResourcesDiscovered", "All resources successfully discovered"),
            ),
            (
                "NamespaceDeletionGroupVersionParsingFailure",
                &[],
                ("GroupVersionParsingFailed", String::new()),
                ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            ),
            (
                "NamespaceDeletionContentFailure",
                &self.failures,
                ("ContentDeletionFailed", format!("Failed to delete all resource types, {failures} remaining: ")),
                ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            ),
            (
                "NamespaceContentRemaining",
                &self.content,
                ("SomeResourcesRemain", "Some resources are remaining: ".to_owned()),
                ("ContentRemoved", "All content successfully removed"),
            ),
            (
                "NamespaceFinalizersRemaining",
                &finalizers,
                ("SomeFinalizersRemain", "Some content in the namespace has finalizers remaining: ".to_owned()),
                ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            ),
        ];
        let known = meta::at(namespace, &["status", "conditions"]).and_then(Value::as_array);
        let conditions = rows.into_iter().map(|(kind, texts, bad, good)| {
            let (status, reason, message) = match (texts, bad, good) {
                ([], _, (reason, message)) => ("False", reason, message.to_owned()),
                (texts, (reason, what), _) => ("True", reason, what + &texts.join(", ")),
            };
            let since = known
                .and_then(|known| known.iter().find(|c| c["type"] == kind && c["status"] == status))
                .map_or_else(|| json!(time::rfc3339(now)), |known| known["lastTransitionTime"].clone());
            json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": since})
        });
        Value::Array(conditions.collect())
    }
}
