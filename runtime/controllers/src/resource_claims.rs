//! Claims to devices (KEP-4381): makes those that Pods want by a template, reserves allocated ones for Pods that are on a node already, and
//! takes back what no Pod needs any more: the reservation, then the allocation, and the claim itself if it was made here.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, PodResourceClaim};
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimConsumerReference, ResourceClaimTemplate};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kiln_client::{Change, Client, Informers, Object as _, ObjectRef, PatchKind, Store, WorkQueue, path};
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use crate::owned::{controller, index, is_controlled_by, is_going, name, namespace, of_owner, reference};
use crate::pods::{is_terminal, node_name};
use crate::reconcile::{Failure, Next, is_namespace_going, work};
use crate::status_patch::unless_gone;
use crate::written::Written;
use crate::{Context, Recorder};

/// The annotation of a claim with the name that its Pod has for it.
const POD_CLAIM: &str = "resource.kubernetes.io/pod-claim-name";
/// Keeps a claim that is allocated.
const FINALIZER: &str = "resource.kubernetes.io/delete-protection";
/// The longest beginning of a generated name.
const MAX_BASE: usize = 57;
/// The most Pods that one claim is reserved for.
const MAX_CONSUMERS: usize = 256;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Pod(ObjectRef),
    Claim(ObjectRef),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pod(key) | Self::Claim(key) => key.fmt(f),
        }
    }
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<Key>::default();
    let claimer = Arc::new(Claimer {
        client: context.client.clone(),
        recorder: context.events.recorder("resource_claim"),
        queue: queue.clone(),
        pods: informers.of::<Pod>().store(),
        claims: informers.of::<ResourceClaim>().store(),
        templates: informers.of::<ResourceClaimTemplate>().store(),
        written: Written::default(),
    });
    informers.of::<Pod>().subscribe({
        let claimer = claimer.clone();
        move |change| claimer.on_pod(change)
    });
    let claims = informers.of::<ResourceClaim>();
    index(claims);
    claims.subscribe({
        let claimer = claimer.clone();
        move |change| claimer.on_claim(change)
    });
    let pods = claimer.pods.clone();
    informers.of::<ResourceClaimTemplate>().subscribe({
        let queue = queue.clone();
        move |change| {
            // Pods may have come before their template.
            if let Change::Applied { key, previous: None, .. } = change {
                let waits = |claim: &PodResourceClaim| claim.resource_claim_template_name.as_ref() == Some(&key.name);
                let pods = pods.in_namespace(&key.namespace);
                pods.iter()
                    .filter(|pod| claims_of(pod).iter().any(waits))
                    .for_each(|pod| queue.add(Key::Pod(pod.key())));
            }
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        work("resource-claim", &queue, &shutdown, |key| claimer.reconcile(key)).await;
    }
}

fn claims_of(pod: &Pod) -> &[PodResourceClaim] {
    pod.spec.as_ref().and_then(|spec| spec.resource_claims.as_deref()).unwrap_or_default()
}

/// Whether a Pod needs no devices any more.
fn is_done(pod: &Pod) -> bool {
    is_terminal(pod) || (is_going(pod) && node_name(pod).is_empty())
}

/// The claim behind one of a Pod's, if there is one; none for one that was left out.
fn name_of(pod: &Pod, claim: &PodResourceClaim) -> Option<String> {
    if let Some(name) = &claim.resource_claim_name {
        return Some(name.clone());
    }
    let statuses = pod.status.as_ref().and_then(|status| status.resource_claim_statuses.as_deref()).unwrap_or_default();
    statuses.iter().find(|status| status.name == claim.name)?.resource_claim_name.clone()
}

fn is_held(claim: &ResourceClaim) -> bool {
    claim.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

fn reserved_for(claim: &ResourceClaim) -> &[ResourceClaimConsumerReference] {
    claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default()
}

fn is_pod(consumer: &ResourceClaimConsumerReference) -> bool {
    consumer.api_group.as_deref().unwrap_or_default().is_empty() && consumer.resource == "pods"
}

struct Claimer {
    client: Client,
    recorder: Recorder,
    queue: WorkQueue<Key>,
    pods: Store<Pod>,
    claims: Store<ResourceClaim>,
    templates: Store<ResourceClaimTemplate>,
    /// Claims that were made, by their Pods.
    written: Written,
}

impl Claimer {
    fn on_pod(&self, change: &Change<Pod>) {
        let (pod, gone) = match change {
            Change::Applied { object, .. } => (object, false),
            Change::Deleted { object, .. } => (object, true),
            Change::Synced => return,
        };
        if claims_of(pod).is_empty() {
            return;
        }
        if !gone && !is_done(pod) {
            self.queue.add(Key::Pod(pod.key()));
            return;
        }
        for claim in claims_of(pod).iter().filter_map(|claim| name_of(pod, claim)) {
            self.queue.add(Key::Claim(ObjectRef::namespaced(namespace(&**pod), claim)));
        }
    }

    fn on_claim(&self, change: &Change<ResourceClaim>) {
        let claim = match change {
            Change::Applied { key, object, .. } => {
                self.queue.add(Key::Claim(key.clone()));
                object
            }
            Change::Deleted { object, .. } => object,
            Change::Synced => return,
        };
        if let Some(owner) = controller(&claim.metadata).filter(|owner| owner.kind == "Pod") {
            self.queue.add(Key::Pod(ObjectRef::namespaced(namespace(&**claim), &owner.name)));
        }
    }

    async fn reconcile(&self, key: Key) -> Result<Next, Failure> {
        tokio::join!(self.pods.synced(), self.claims.synced(), self.templates.synced());
        match key {
            Key::Pod(key) => {
                let Some(pod) = self.pods.get(&key).filter(|pod| !is_going(&**pod) && !is_done(pod)) else {
                    return Ok(Next::Settled);
                };
                if !self.written.shown(&key, &self.claims) {
                    return Err(Failure::Stale);
                }
                if let Err(failure) = self.make_claims(&key, &pod).await {
                    self.recorder.warning(&*pod, "FailedResourceClaimCreation", failure.to_string());
                    return Err(failure);
                }
                if !node_name(&pod).is_empty() {
                    self.reserve(&pod).await?;
                }
            }
            Key::Claim(key) => {
                if let Some(claim) = self.claims.get(&key) {
                    self.take_back(&claim).await?;
                }
            }
        }
        Ok(Next::Settled)
    }

    /// Makes the claims that a Pod wants by a template, and writes into its status what they are called.
    async fn make_claims(&self, key: &ObjectRef, pod: &Pod) -> Result<(), Failure> {
        let mut made = Vec::new();
        let own = of_owner(&self.claims, pod.uid());
        for claim in claims_of(pod) {
            let Some(template) = &claim.resource_claim_template_name else { continue };
            let there =
                name_of(pod, claim).and_then(|name| self.claims.get(&ObjectRef::namespaced(&*key.namespace, name)));
            if there.is_some_and(|there| is_controlled_by(&there.metadata, pod.uid())) {
                continue;
            }
            let is_it = |own: &Arc<ResourceClaim>| {
                own.metadata.annotations.as_ref().and_then(|all| all.get(POD_CLAIM)) == Some(&claim.name)
            };
            let name = match own.iter().find(|own| is_it(own)) {
                Some(found) => found.metadata.name.clone(),
                None => match self.make(key, pod, claim, template).await? {
                    Some(name) => Some(name),
                    None => return Ok(()),
                },
            };
            made.push(json!({"name": claim.name, "resourceClaimName": name}));
        }
        if made.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": pod.uid()}, "status": {"resourceClaimStatuses": made}});
        let path = format!("{}/status", path::<Pod>(&key.namespace, &key.name));
        unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)
    }

    /// Makes a claim; none if the namespace is going.
    async fn make(
        &self,
        key: &ObjectRef,
        pod: &Pod,
        claim: &PodResourceClaim,
        template: &str,
    ) -> Result<Option<String>, Failure> {
        let found = self.templates.get(&ObjectRef::namespaced(&*key.namespace, template));
        let Some(found) = found else {
            let why = format!(
                "resource claim template {template:?}: resourceclaimtemplate.resource.k8s.io {template:?} not found"
            );
            return Err(Failure::Waiting(format!("PodResourceClaim {}: {why}", claim.name)));
        };
        let meta = found.spec.metadata.clone().unwrap_or_default();
        let mut annotations = meta.annotations.unwrap_or_default();
        annotations.insert(POD_CLAIM.to_owned(), claim.name.clone());
        let mut owner = reference(pod);
        owner.block_owner_deletion = None;
        let made = ResourceClaim {
            metadata: ObjectMeta {
                generate_name: Some(base_name(&key.name, &claim.name)),
                annotations: Some(annotations),
                labels: meta.labels,
                owner_references: Some(vec![owner]),
                ..ObjectMeta::default()
            },
            spec: found.spec.spec.clone(),
            status: None,
        };
        match self.client.create::<ResourceClaim>(&path::<ResourceClaim>(&key.namespace, ""), &made).await {
            Err(error) if is_namespace_going(&error) => Ok(None),
            made => {
                let made = made?;
                self.written.note(key, &made);
                Ok(made.metadata.name)
            }
        }
    }

    /// Reserves the allocated claims of a Pod that did not go through the scheduler.
    async fn reserve(&self, pod: &Pod) -> Result<(), Failure> {
        for claim in claims_of(pod) {
            let name = name_of(pod, claim);
            let Some(found) = name.and_then(|name| self.claims.get(&ObjectRef::namespaced(namespace(pod), name)))
            else {
                continue;
            };
            let allocated = found.status.as_ref().is_some_and(|status| status.allocation.is_some());
            let known = reserved_for(&found).iter().any(|consumer| consumer.uid == pod.uid());
            let theirs = claim.resource_claim_template_name.is_some() && !is_controlled_by(&found.metadata, pod.uid());
            if !allocated || known || theirs || reserved_for(&found).len() >= MAX_CONSUMERS {
                continue;
            }
            let mut claim = (*found).clone();
            let consumer = ResourceClaimConsumerReference {
                api_group: None,
                resource: "pods".to_owned(),
                name: crate::owned::name(pod).to_owned(),
                uid: pod.uid().to_owned(),
            };
            claim.status.get_or_insert_default().reserved_for.get_or_insert_default().push(consumer);
            self.write_status(&claim).await?;
        }
        Ok(())
    }

    /// Takes back what no Pod needs.
    async fn take_back(&self, claim: &ResourceClaim) -> Result<(), Failure> {
        let mut kept = Vec::new();
        for consumer in reserved_for(claim) {
            if !is_pod(consumer) || self.needs(namespace(claim), consumer).await? {
                kept.push(consumer.clone());
            }
        }
        let (mut changed, unused) = (claim.clone(), kept.is_empty());
        let dropped = kept.len() < reserved_for(claim).len();
        let freed = unused && is_held(claim) && (dropped || is_going(claim));
        if dropped || freed {
            let status = changed.status.get_or_insert_default();
            status.reserved_for = (!kept.is_empty()).then_some(kept);
            if freed {
                status.allocation = None;
            }
            if changed.status != claim.status {
                changed = self.write_status(&changed).await?;
            }
            if freed {
                let patch =
                    json!({"metadata": {"uid": claim.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
                let path = path::<ResourceClaim>(namespace(&changed), name(&changed));
                unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
            }
        }
        let owner = controller(&claim.metadata).filter(|owner| unused && owner.kind == "Pod");
        let pod = owner.and_then(|owner| self.pods.get(&ObjectRef::namespaced(namespace(claim), &owner.name)));
        let over = owner.zip(pod).is_some_and(|(owner, pod)| pod.uid() != owner.uid || is_done(&pod));
        if over && !is_going(claim) {
            let path = path::<ResourceClaim>(namespace(claim), name(claim));
            unless_gone(self.client.delete(&path, &Value::Null).await)?;
        }
        Ok(())
    }

    /// Whether a Pod that a claim is reserved for still needs it.
    async fn needs(&self, namespace: &str, consumer: &ResourceClaimConsumerReference) -> Result<bool, Failure> {
        if let Some(pod) = self.pods.get(&ObjectRef::namespaced(namespace, &consumer.name)) {
            return Ok(pod.uid() == consumer.uid && !is_done(&pod));
        }
        // The mirror may be behind: the server knows.
        let pod: Option<Pod> = self.client.find(&path::<Pod>(namespace, &consumer.name)).await?;
        Ok(pod.is_some_and(|pod| pod.uid() == consumer.uid))
    }

    async fn write_status(&self, claim: &ResourceClaim) -> Result<ResourceClaim, Failure> {
        let path = format!("{}/status", path::<ResourceClaim>(namespace(claim), name(claim)));
        Ok(self.client.update(&path, claim).await?)
    }
}

/// What the name of a Pod's claim begins with; both parts are cut if they are too long together.
fn base_name(pod: &str, claim: &str) -> String {
    let whole = format!("{pod}-{claim}-");
    if whole.len() <= MAX_BASE {
        return whole;
    }
    let part = |text: &str| text.get(..text.len() * MAX_BASE / whole.len()).unwrap_or(text).to_owned();
    format!("{}-{}", part(pod), part(claim))
}
