//! Networks that Services get their addresses from: a ServiceCIDR is ready as soon as it is there, and stays while Services have addresses
//! that no other one holds (KEP-1880). A finalizer keeps it until then, and a little longer, so that no server gives out an address
//! of it meanwhile.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kiln_apimachinery::net::Cidr;
use kiln_client::{
    Change, Client, Clock, Informer, Informers, ListParams, Object, ObjectRef, PatchKind, Store, WorkQueue, path,
};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::Context;
use crate::owned::is_going;
use crate::reconcile::{Failure, Next, work};
use crate::status_patch::unless_gone;

const ADDRESSES: &str = "/apis/networking.k8s.io/v1/ipaddresses";
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// The addresses that API servers gave out.
const GIVEN_OUT: &str = "ipaddress.kubernetes.io/managed-by=ipallocator.k8s.io";
/// How long a network is kept after its deletion.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// Just what is read of an IPAddress, whose name is the address.
#[derive(Debug, Deserialize)]
struct Address {
    metadata: Meta,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    name: String,
    uid: String,
    resource_version: String,
}

impl Object for Address {
    fn key(&self) -> ObjectRef {
        ObjectRef::cluster(self.metadata.name.as_str())
    }

    fn uid(&self) -> &str {
        &self.metadata.uid
    }

    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Adds the controller to the mirrors; what is returned runs it until the shutdown.
pub fn build(informers: &mut Informers, context: &Context) -> impl Future<Output = ()> + use<> {
    let queue = WorkQueue::<ObjectRef>::default();
    let networks = informers.of::<ServiceCIDR>();
    let given_out = ListParams { labels: GIVEN_OUT.to_owned(), ..ListParams::default() };
    let mut addresses = Informer::<Address>::new(context.client.clone(), ADDRESSES, given_out);
    let controller = Arc::new(Controller {
        client: context.client.clone(),
        clock: context.clock.clone(),
        networks: networks.store(),
        addresses: addresses.store(),
    });
    networks.subscribe({
        let (queue, networks) = (queue.clone(), controller.networks.clone());
        move |change| {
            if let Some(key) = change.key() {
                queue.add(key.clone());
                retry_going(&networks, &queue);
            }
        }
    });
    addresses.subscribe({
        let (queue, networks) = (queue.clone(), controller.networks.clone());
        move |change| {
            if let Change::Deleted { .. } = change {
                retry_going(&networks, &queue);
            }
        }
    });
    let shutdown = context.shutdown.clone();
    async move {
        tokio::join!(
            addresses.run(shutdown.clone(), |_| {}),
            work("service-cidr", &queue, &shutdown, |key| controller.reconcile(key)),
        );
    }
}

/// Looks again at networks that are to go.
fn retry_going(networks: &Store<ServiceCIDR>, queue: &WorkQueue<ObjectRef>) {
    networks.list().iter().filter(|network| is_going(&***network)).for_each(|network| queue.add(network.key()));
}

fn cidrs(network: &ServiceCIDR) -> Vec<Cidr> {
    let all = network.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    all.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Whether a network lies in another.
fn is_within(inner: Cidr, outer: Cidr) -> bool {
    outer.bits() <= inner.bits() && outer.contains(inner.address())
}

struct Controller {
    client: Client,
    clock: Clock,
    networks: Store<ServiceCIDR>,
    addresses: Store<Address>,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        tokio::join!(self.networks.synced(), self.addresses.synced());
        let Some(network) = self.networks.get(&key) else { return Ok(Next::Settled) };
        let held = network.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER);
        let path = path::<ServiceCIDR>("", &key.name);
        let Some(deleted) = &network.metadata.deletion_timestamp else {
            if !held {
                let patch = json!({"metadata": {"uid": network.uid(), "finalizers": [FINALIZER]}});
                unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
            }
            self.say(&network, "True", "", "Kubernetes Service CIDR is ready").await?;
            return Ok(Next::Settled);
        };
        if self.is_needed(&network) {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
            self.say(&network, "False", "Terminating", message).await?;
            return Ok(Next::Settled);
        }
        let left = GRACE.saturating_sub(self.clock.now().duration_since(deleted.0));
        if let Some(left) = Duration::try_from(left).ok().filter(|left| !left.is_zero()) {
            return Ok(Next::After(left));
        }
        if held {
            let patch = json!({"metadata": {"uid": network.uid(), "$deleteFromPrimitiveList/finalizers": [FINALIZER]}});
            unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Strategic, &patch).await)?;
        }
        Ok(Next::Settled)
    }

    /// Whether an address was given out that no other network holds.
    fn is_needed(&self, network: &ServiceCIDR) -> bool {
        let others: Vec<Cidr> = self
            .networks
            .list()
            .iter()
            .filter(|other| other.metadata.name != network.metadata.name)
            .flat_map(|other| cidrs(other))
            .collect();
        let alone: Vec<Cidr> =
            cidrs(network).into_iter().filter(|cidr| !others.iter().any(|other| is_within(*cidr, *other))).collect();
        if alone.is_empty() {
            return false;
        }
        self.addresses.list().iter().any(|address| {
            let address: Option<IpAddr> = address.metadata.name.parse().ok();
            let within =
                |cidrs: &[Cidr]| address.is_some_and(|address| cidrs.iter().any(|cidr| cidr.contains(address)));
            within(&alone) && !within(&others)
        })
    }

    /// Sets the condition Ready, unless it says so already.
    async fn say(&self, network: &ServiceCIDR, status: &str, reason: &str, message: &str) -> Result<(), Failure> {
        let conditions = network.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let known = conditions.iter().find(|condition| condition.type_ == "Ready");
        if known.is_some_and(|known| known.status == status && known.message == message) {
            return Ok(());
        }
        let condition = Condition {
            type_: "Ready".to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            last_transition_time: Time(self.clock.now()),
            observed_generation: None,
        };
        let others = conditions.iter().filter(|condition| condition.type_ != "Ready").cloned();
        let conditions: Vec<Condition> = others.chain([condition]).collect();
        let patch = json!({"metadata": {"uid": network.uid()}, "status": {"conditions": conditions}});
        let path = format!("{}/status", path::<ServiceCIDR>("", &network.key().name));
        unless_gone(self.client.patch::<IgnoredAny>(&path, PatchKind::Merge, &patch).await)
    }
}
