//! kube-rs' runtime: watchers that go on or begin anew, reflectors, and a controller with a finalizer.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

mod common;

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::Arc;

use common::{Cluster, object, refused, soon};
use futures::{Stream, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams, VersionMatch, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Action;
use kube::runtime::finalizer::{Event as Finalized, finalizer};
use kube::runtime::wait::{await_condition, conditions};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, WatchStreamExt, reflector};
use kube::{Client, Resource, ResourceExt};
use serde_json::json;
use tokio::sync::mpsc;

fn maps(client: &Client) -> Api<ConfigMap> {
    Api::namespaced(client.clone(), "default")
}

/// Only what the tests make, not what every namespace has.
fn ours() -> watcher::Config {
    watcher::Config::default().labels("of=ours")
}

async fn make(client: &Client, name: &str) -> ConfigMap {
    let map = object(json!({"metadata": {"name": name, "labels": {"of": "ours"}}}));
    maps(client).create(&PostParams::default(), &map).await.unwrap()
}

/// The next event, short.
async fn next<S>(events: &mut S) -> String
where
    S: Stream<Item = watcher::Result<Event<ConfigMap>>> + Unpin,
{
    match soon("an event", events.next()).await.unwrap().unwrap() {
        Event::Init => "init".into(),
        Event::InitApply(map) => format!("there {}", map.name_any()),
        Event::InitDone => "done".into(),
        Event::Apply(map) => format!("applied {}", map.name_any()),
        Event::Delete(map) => format!("deleted {}", map.name_any()),
    }
}

#[tokio::test]
async fn a_watcher_sees_what_is_there_and_then_what_happens_either_way_it_lists() {
    let cluster = Cluster::start().await;
    for i in 0..5 {
        make(&cluster.client, &format!("m{i}")).await;
    }
    let paged = watcher::Config { page_size: Some(2), ..ours() };
    for config in [ours(), paged, ours().streaming_lists()] {
        let mut events = pin!(watcher(maps(&cluster.client), config));
        assert_eq!(next(&mut events).await, "init");
        for i in 0..5 {
            assert_eq!(next(&mut events).await, format!("there m{i}"));
        }
        assert_eq!(next(&mut events).await, "done");
        make(&cluster.client, "new").await;
        assert_eq!(next(&mut events).await, "applied new");
        let data = Patch::Merge(json!({"data": {"a": "b"}}));
        maps(&cluster.client).patch("new", &PatchParams::default(), &data).await.unwrap();
        assert_eq!(next(&mut events).await, "applied new");
        // Out of the selection is gone for who selects.
        let unlabelled = Patch::Merge(json!({"metadata": {"labels": {"of": null}}}));
        maps(&cluster.client).patch("new", &PatchParams::default(), &unlabelled).await.unwrap();
        assert_eq!(next(&mut events).await, "deleted new");
        maps(&cluster.client).delete("new", &DeleteParams::default()).await.unwrap();
    }
}

#[tokio::test]
async fn a_watcher_whose_watch_ends_goes_on_without_a_gap() {
    let cluster = Cluster::start().await;
    make(&cluster.client, "first").await;
    // The server ends each watch after a second, so that all but the first events come after restarts.
    let mut events = pin!(watcher(maps(&cluster.client), ours().timeout(1)));
    for expected in ["init", "there first", "done"] {
        assert_eq!(next(&mut events).await, expected);
    }
    for name in ["second", "third"] {
        // Polled beside a watch that lasts as long, the watcher goes through the end of its own.
        tokio::select! {
            () = a_watch_ends(&cluster.client) => {}
            event = next(&mut events) => panic!("nothing happened, but {event}"),
        }
        make(&cluster.client, name).await;
        assert_eq!(next(&mut events).await, format!("applied {name}"));
    }
}

/// Watches until the server ends the watch, after a second.
async fn a_watch_ends(client: &Client) {
    let current = maps(client).list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let watch = WatchParams::default().labels("of=none").timeout(1);
    let events = maps(client).watch(&watch, &current).await.unwrap();
    assert!(events.try_collect::<Vec<_>>().await.unwrap().iter().all(|e| matches!(e, WatchEvent::Bookmark(_))));
}

#[tokio::test]
async fn a_watch_from_a_compacted_revision_is_told_that_it_expired() {
    let cluster = Cluster::start().await;
    let first = make(&cluster.client, "first").await.resource_version().unwrap();
    make(&cluster.client, "second").await;
    cluster.storage.compact(cluster.storage.current_revision()).await.unwrap();
    let watch = WatchParams::default().labels("of=ours");
    let answer = maps(&cluster.client).watch(&watch, &first).await;
    let status = match answer {
        Err(kube::Error::Api(status)) => *status,
        Err(other) => panic!("{other}"),
        Ok(events) => match soon("an event", pin!(events).next()).await.unwrap().unwrap() {
            WatchEvent::Error(status) => *status,
            other => panic!("{other:?}"),
        },
    };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    let (code, ..) = refused(maps(&cluster.client).list(&exactly(&first)).await);
    assert_eq!(code, 410);
}

fn exactly(revision: &str) -> ListParams {
    ListParams::default().at(revision).matching(VersionMatch::Exact)
}

#[tokio::test]
async fn a_reflector_holds_what_the_cluster_holds() {
    let cluster = Cluster::start().await;
    make(&cluster.client, "old").await;
    let (store, writer) = reflector::store();
    let stream = reflector(writer, watcher(maps(&cluster.client), ours().streaming_lists()));
    let (seen, mut changes) = mpsc::unbounded_channel();
    let running = tokio::spawn(async move {
        let mut touched = pin!(stream.default_backoff().touched_objects());
        while let Some(object) = touched.next().await {
            seen.send(object.unwrap().name_any()).unwrap();
        }
    });
    soon("the store is filled", store.wait_until_ready()).await.unwrap();
    let names = || store.state().iter().map(|m| m.name_any()).collect::<BTreeSet<_>>();
    assert_eq!(names(), BTreeSet::from(["old".to_owned()]));
    make(&cluster.client, "new").await;
    maps(&cluster.client).delete("old", &DeleteParams::default()).await.unwrap();
    for expected in ["old", "new", "old"] {
        assert_eq!(soon("a change", changes.recv()).await.unwrap(), expected);
    }
    assert_eq!(names(), BTreeSet::from(["new".to_owned()]));
    running.abort();

    let only_metadata: Api<PartialObjectMeta<ConfigMap>> = Api::namespaced(cluster.client.clone(), "default");
    let metadata = watcher(only_metadata, ours()).applied_objects();
    let one = soon("metadata", pin!(metadata).next()).await.unwrap().unwrap();
    assert_eq!(one.name_any(), "new");
}

struct Context {
    client: Client,
    told: mpsc::UnboundedSender<String>,
}

/// For every ConfigMap a Secret that it owns; at its end, a word.
async fn reconcile(map: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, finalizer_error::Error> {
    let api = maps(&context.client);
    finalizer(&api, "example.com/told", map, |event| async {
        match event {
            Finalized::Apply(map) => {
                let secret = json!({
                    "apiVersion": "v1", "kind": "Secret",
                    "metadata": {"name": map.name_any(), "ownerReferences": [map.controller_owner_ref(&()).unwrap()]},
                    "stringData": map.data,
                });
                let secrets: Api<Secret> = Api::namespaced(context.client.clone(), "default");
                let apply = PatchParams::apply("tests").force();
                secrets.patch(&map.name_any(), &apply, &Patch::Apply(secret)).await?;
                context.told.send(format!("made {}", map.name_any())).unwrap();
            }
            Finalized::Cleanup(map) => context.told.send(format!("over {}", map.name_any())).unwrap(),
        }
        Ok(Action::await_change())
    })
    .await
    .map_err(finalizer_error::Error::from)
}

mod finalizer_error {
    pub(crate) type Error = Box<kube::runtime::finalizer::Error<kube::Error>>;
}

#[tokio::test]
async fn a_controller_with_a_finalizer_makes_mends_and_tidies_up() {
    let cluster = Cluster::start().await;
    let client = &cluster.client;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "default");
    let (told, mut heard) = mpsc::unbounded_channel();
    let context = Arc::new(Context { client: client.clone(), told });
    let controller = Controller::new(maps(client), ours()).owns(secrets.clone(), watcher::Config::default()).run(
        reconcile,
        |_, error, _| panic!("{error}"),
        context,
    );
    let running = tokio::spawn(controller.for_each(|done| async move {
        // An object that went before its turn is no fault.
        if let Err(error) = done {
            assert!(matches!(error, kube::runtime::controller::Error::ObjectNotFound(_)), "{error}");
        }
    }));

    make(client, "one").await;
    assert_eq!(soon("the Secret is made", heard.recv()).await.unwrap(), "made one");
    assert_eq!(maps(client).get("one").await.unwrap().finalizers(), ["example.com/told"]);
    let child = secrets.get("one").await.unwrap();
    assert_eq!(child.owner_references()[0].kind, "ConfigMap");

    // Its child goes: it comes again, for a change of the child wakes the owner.
    secrets.delete("one", &DeleteParams::default()).await.unwrap();
    let other = |secret: Option<&Secret>| secret.is_some_and(|s| s.uid() != child.uid());
    soon("the Secret is back", await_condition(secrets.clone(), "one", other)).await.unwrap();
    let child = secrets.get("one").await.unwrap();

    let owner = maps(client).delete("one", &DeleteParams::default()).await.unwrap().left().expect("held back");
    assert!(owner.meta().deletion_timestamp.is_some());
    let uid = owner.uid().unwrap();
    soon("the owner is gone", await_condition(maps(client), "one", conditions::is_deleted(&uid))).await.unwrap();
    let mut last = String::new();
    while last != "over one" {
        last = soon("the end is told", heard.recv()).await.unwrap();
    }
    let uid = child.uid().unwrap();
    soon("the child is gone", await_condition(secrets, "one", conditions::is_deleted(&uid))).await.unwrap();
    assert!(!running.is_finished());
    running.abort();
}
