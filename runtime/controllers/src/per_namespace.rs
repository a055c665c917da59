//! What every namespace has one of: an object of one name, made when the namespace is, and made again when it is
//! removed or, if its content is ours to say, changed.

use std::future::Future;

use k8s_openapi::api::core::v1::Namespace;
use kiln_client::{Client, Informer, Informers, ListParams, ObjectRef, Store, WorkQueue};
use serde_json::{Value, json};

use crate::Context;
use crate::reconcile::{Failure, Next, is_namespace_going, keys_to, work};

const NAMESPACES: &str = "/api/v1/namespaces";

/// An object that every namespace has.
#[derive(Debug, Clone)]
struct Wanted {
    /// Plural of its kind, in the core group.
    plural: &'static str,
    name: &'static str,
    /// What it holds besides its name. A field here is set back when someone changes it.
    content: Value,
}

/// Every namespace has its `default` ServiceAccount.
pub fn default_service_accounts(
    informers: &mut Informers,
    context: &Context,
) -> impl Future<Output = ()> + Send + use<> {
    let wanted = Wanted { plural: "serviceaccounts", name: "default", content: json!({}) };
    build("service-account", informers, context, wanted)
}

/// Every namespace has the ConfigMap `kube-root-ca.crt` with the CA of the API server, in PEM.
pub fn root_ca(
    informers: &mut Informers,
    context: &Context,
    certificate: String,
) -> impl Future<Output = ()> + Send + use<> {
    let content = json!({
        "metadata": {"annotations": {"kubernetes.io/description": "The CA of this cluster's API server."}},
        "data": {"ca.crt": certificate},
    });
    let wanted = Wanted { plural: "configmaps", name: "kube-root-ca.crt", content };
    build("root-ca", informers, context, wanted)
}

fn build(
    name: &'static str,
    informers: &mut Informers,
    context: &Context,
    wanted: Wanted,
) -> impl Future<Output = ()> + Send + use<> {
    let Context { client, shutdown, .. } = context.clone();
    let fields = format!("metadata.name={}", wanted.name);
    let path = format!("/api/v1/{}", wanted.plural);
    let objects = Informer::new(client.clone(), path, ListParams { fields, ..ListParams::default() });
    let queue = WorkQueue::<ObjectRef>::default();
    let namespaces = informers.of::<Namespace>();
    namespaces.subscribe(keys_to(&queue));
    let controller = Controller { client, wanted, namespaces: namespaces.store(), objects: objects.store() };
    async move {
        tokio::join!(
            objects.run(shutdown.clone(), |change| {
                if let Some(key) = change.key() {
                    queue.add(ObjectRef::cluster(&key.namespace));
                }
            }),
            work(name, &queue, &shutdown, |key| controller.reconcile(key)),
        );
    }
}

struct Controller {
    client: Client,
    wanted: Wanted,
    namespaces: Store<Namespace>,
    objects: Store,
}

impl Controller {
    async fn reconcile(&self, key: ObjectRef) -> Result<Next, Failure> {
        // Before the first list of them is in, any object would seem to be missing.
        self.objects.synced().await;
        let active = self.namespaces.get(&key).is_some_and(|namespace| namespace.metadata.deletion_timestamp.is_none());
        if !active {
            return Ok(Next::Settled);
        }
        let Wanted { plural, name, content } = &self.wanted;
        let collection = format!("{NAMESPACES}/{}/{plural}", key.name);
        match self.objects.get(&ObjectRef::namespaced(&key.name, *name)) {
            Some(found) if holds(&found, content) => Ok(Next::Settled),
            Some(found) => {
                let mut whole = (*found).clone();
                for (field, value) in content.as_object().into_iter().flatten().filter(|(f, _)| *f != "metadata") {
                    whole[field] = value.clone();
                }
                self.client.update::<Value>(&format!("{collection}/{name}"), &whole).await?;
                Ok(Next::Settled)
            }
            None => {
                let mut object = content.clone();
                object["metadata"]["name"] = json!(name);
                match self.client.create::<Value>(&collection, &object).await {
                    // The namespace is gone or going, or someone else was faster.
                    Err(error) if error.is_not_found() || error.is_already_exists() => Ok(Next::Settled),
                    Err(error) if is_namespace_going(&error) => Ok(Next::Settled),
                    Err(error) => Err(error.into()),
                    Ok(_) => Ok(Next::Settled),
                }
            }
        }
    }
}

/// Whether an object has the content; what its metadata says is its owner's affair.
fn holds(object: &Value, content: &Value) -> bool {
    let fields = content.as_object().into_iter().flatten().filter(|(field, _)| *field != "metadata");
    fields.into_iter().all(|(field, value)| object.get(field) == Some(value))
}
