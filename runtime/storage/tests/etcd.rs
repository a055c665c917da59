//! What is asked of the store on etcd alone: several servers, members that fail, TLS.

#![allow(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use kiln_pki::Authority;
use kiln_storage::etcd::{self, Endpoint, TlsFiles};
use kiln_storage::testing::{Etcd, ServerTls};
use kiln_storage::{Event, EventKind, ListOptions, NewValue, Retention, Storage, StorageError, Volatile, Watch};

async fn open(etcd: &Etcd) -> Arc<dyn Storage> {
    etcd::open(etcd::Options::new(vec![etcd.endpoint()])).await.unwrap()
}

async fn put(store: &dyn Storage, key: &str) -> i64 {
    store.create(key.to_owned(), NewValue::plain("{}")).await.unwrap().mod_revision
}

async fn count(store: &dyn Storage, prefix: &str) -> usize {
    store.list(prefix, ListOptions::default()).await.unwrap().records.len()
}

async fn events(watch: &mut Watch, number: usize) -> Vec<Event> {
    let mut found = Vec::new();
    while found.len() < number {
        found.push(watch.next().await.unwrap());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_server_answered_another_reads_lists_and_may_watch_from() {
    let etcd = Etcd::start();
    let (a, b) = (open(&etcd).await, open(&etcd).await);
    for n in 0..300 {
        let key = format!("/r/{n}");
        let text = NewValue { bytes: b"<>".to_vec(), revision_at: Some(1) };
        let made = a.create(key.clone(), text).await.unwrap();
        let mut watch = b.watch("/r/", made.mod_revision).unwrap();
        b.reach(made.mod_revision).await.unwrap();
        assert_eq!(b.get(&key).await.unwrap(), Some(made.clone()));
        assert_eq!(count(&*b, "/r/").await, n + 1);
        let changed = b.update(key, NewValue::plain("2"), made.mod_revision).await.unwrap();
        assert_eq!(changed.create_revision, made.mod_revision);
        assert_eq!(watch.next().await.unwrap().record, changed);
        let past = ListOptions { at: Some(changed.mod_revision), ..ListOptions::default() };
        assert!(a.list("/r/", past).await.unwrap().records.contains(&changed));
    }
    let far = a.current_revision() + 10;
    assert!(matches!(b.reach(far).await, Err(StorageError::FutureRevision { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_servers_that_write_the_same_key_one_wins_and_the_other_sees_why() {
    let etcd = Etcd::start();
    let stores = [open(&etcd).await, open(&etcd).await];
    put(&*stores[0], "/r/counter").await;
    let tasks: Vec<_> = (0..8)
        .map(|n| {
            let store = stores[n % 2].clone();
            tokio::spawn(async move {
                let mut done = 0;
                while done < 20 {
                    let record = store.get("/r/counter").await.unwrap().unwrap();
                    let mut value = record.value.to_vec();
                    value.push(b'x');
                    match store.update("/r/counter".to_owned(), NewValue::plain(value), record.mod_revision).await {
                        Ok(_) => done += 1,
                        Err(StorageError::Conflict { current: Some(current) }) => {
                            assert!(current.mod_revision > record.mod_revision);
                        }
                        Err(error) => panic!("{error}"),
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(stores[1].get("/r/counter").await.unwrap().unwrap().value.len(), 2 + 8 * 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_of_others_in_the_same_etcd_do_not_hold_reads_up() {
    let etcd = Etcd::start();
    let ours = open(&etcd).await;
    let options = etcd::Options { prefix: "/other".to_owned(), ..etcd::Options::new(vec![etcd.endpoint()]) };
    let other = etcd::open(options).await.unwrap();
    put(&*ours, "/r/a").await;
    for n in 0..50 {
        let revision = put(&*other, &format!("/r/{n}")).await;
        assert_eq!(count(&*ours, "/r/").await, 1);
        assert!(ours.current_revision() >= revision);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_comes_back_costs_a_watch_neither_events_nor_repeats() {
    let mut etcd = Etcd::start();
    let patience = Duration::from_millis(500);
    let options = etcd::Options { patience, ..etcd::Options::new(vec![etcd.endpoint()]) };
    let store = etcd::open(options).await.unwrap();
    let mut watch = store.watch("/r/", store.current_revision()).unwrap();
    put(&*store, "/r/before").await;
    etcd.kill();
    assert!(matches!(store.get("/r/before").await, Err(StorageError::Unavailable(_))), "a read that may be old");
    let refused = store.create("/r/meanwhile".to_owned(), NewValue::plain("")).await;
    assert!(matches!(refused, Err(StorageError::Unavailable(_))), "{refused:?}");
    etcd.restart();
    // Another server writes while this one may still be without its watch.
    let other = open(&etcd).await;
    for n in 0..50 {
        put(&*other, &format!("/r/{n}")).await;
    }
    assert_eq!(count(&*store, "/r/").await, 51);
    let seen = events(&mut watch, 51).await;
    let names: Vec<&str> = seen.iter().map(|event| &*event.record.key).collect();
    let expected: Vec<String> = (0..50).map(|n| format!("/r/{n}")).collect();
    assert_eq!(names[0], "/r/before");
    assert_eq!(names[1..], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_starts_again_resumes_watches_from_before() {
    let etcd = Etcd::start();
    let store = open(&etcd).await;
    let first = put(&*store, "/r/a").await;
    store.update("/r/a".to_owned(), NewValue::plain("2"), first).await.unwrap();
    store.delete("/r/a".to_owned(), None).await.unwrap();
    let last = put(&*store, "/r/b").await;
    drop(store);
    let store = open(&etcd).await;
    let mut watch = store.watch("/r/", first).unwrap();
    let seen = events(&mut watch, 3).await;
    assert!(matches!(&seen[0].kind, EventKind::Put { previous: Some(previous) } if previous.mod_revision == first));
    assert_eq!((&seen[1].kind, &*seen[1].record.value), (&EventKind::Delete, &b"2"[..]));
    assert_eq!(seen[2].revision, last);

    store.compact(last).await.unwrap();
    drop(store);
    let store = open(&etcd).await;
    assert!(matches!(store.watch("/r/", first), Err(StorageError::Compacted { .. })));
    assert_eq!(count(&*store, "/r/").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_away_for_too_long_reads_everything_anew_and_its_watches_end() {
    let mut etcd = Etcd::start();
    let away = open(&etcd).await;
    put(&*away, "/r/old").await;
    let mut watch = away.watch("/r/", away.current_revision()).unwrap();
    // Only while its watch is broken can it miss what is compacted: the first store to come back writes and compacts.
    etcd.restart();
    let retention = Retention { keep: 1, ..Retention::default() };
    let options = etcd::Options { retention, ..etcd::Options::new(vec![etcd.endpoint()]) };
    let other = etcd::open(options).await.unwrap();
    for n in 0..20 {
        put(&*other, &format!("/r/{n}")).await;
    }
    other.compact(other.current_revision()).await.unwrap();
    assert_eq!(count(&*away, "/r/").await, 21);
    // Whether it was fast enough or not: the events come whole, or the watch ends.
    let mut seen = 0;
    while let Some(event) = watch.next().await {
        assert_eq!(&*event.record.key, format!("/r/{seen}"));
        seen += 1;
        if seen == 20 {
            break;
        }
    }
    assert!(seen == 20 || away.watch("/r/", 2).is_err(), "{seen} events, and no end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_member_dies_the_others_serve() {
    let mut members = Etcd::cluster(3, None);
    let endpoints: Vec<Endpoint> = members.iter().map(Etcd::endpoint).collect();
    let store = etcd::open(etcd::Options::new(endpoints)).await.unwrap();
    let mut watch = store.watch("/r/", store.current_revision()).unwrap();
    put(&*store, "/r/a").await;
    members[0].kill();
    // A read may be asked again elsewhere by itself; a write is the caller's to repeat, since it may have happened.
    assert_eq!(count(&*store, "/r/").await, 1);
    loop {
        match store.create("/r/b".to_owned(), NewValue::plain("{}")).await {
            Ok(_) | Err(StorageError::Exists) => break,
            Err(StorageError::Unavailable(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let seen = events(&mut watch, 2).await;
    assert_eq!((&*seen[0].record.key, &*seen[1].record.key), ("/r/a", "/r/b"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_endpoint_in_the_list_is_passed_over() {
    let etcd = Etcd::start();
    let dead: Endpoint = "http://127.0.0.1:1".parse().unwrap();
    let store = etcd::open(etcd::Options::new(vec![dead.clone(), etcd.endpoint()])).await.unwrap();
    put(&*store, "/r/a").await;
    let patience = Duration::from_millis(500);
    let alone = etcd::open(etcd::Options { patience, ..etcd::Options::new(vec![dead]) }).await.err().unwrap();
    assert!(matches!(&alone, StorageError::Unavailable(why) if why.contains("127.0.0.1:1")), "{alone}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_with_a_lifetime_go_by_themselves_and_watches_see_each_delete() {
    let etcd = Etcd::start();
    let lifetime = Some(Duration::from_secs(1));
    let volatile = vec![Volatile { prefix: "/events/".to_owned(), lifetime }];
    let options = etcd::Options { volatile, ..etcd::Options::new(vec![etcd.endpoint()]) };
    let store = etcd::open(options).await.unwrap();
    put(&*store, "/r/lasting").await;
    let before = store.current_revision();
    for n in 0..300 {
        put(&*store, &format!("/events/{n}")).await;
    }
    // From before the first, which may be gone by now on a busy machine: each comes, and each goes.
    let mut watch = store.watch("/events/", before).unwrap();
    // etcd deletes many in one revision, more than a watch's queue holds.
    let all = events(&mut watch, 600).await.into_iter();
    let deleted = all.filter(|event| event.kind == EventKind::Delete);
    let mut gone: Vec<String> = deleted.map(|event| event.record.key.to_string()).collect();
    gone.sort();
    gone.dedup();
    assert_eq!(gone.len(), 300);
    assert_eq!(count(&*store, "/").await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_that_another_program_put_is_named() {
    let etcd = Etcd::start();
    put(&*open(&etcd).await, "/r/a").await;
    // "/kiln/r/x" and "{}", by etcd's JSON interface.
    let body = r#"{"key":"L2tpbG4vci94","value":"e30="}"#;
    let address = etcd.url().strip_prefix("http://").unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(stream, "POST /v3/kv/put HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("200 OK"), "{answer}");
    let error = etcd::open(etcd::Options::new(vec![etcd.endpoint()])).await.err().unwrap();
    assert!(matches!(&error, StorageError::Corrupt(why) if why.contains("/kiln/r/x")), "{error}");
}

/// A server's and a client's files for TLS, of one CA.
fn tls(folder: &Path) -> (ServerTls, TlsFiles) {
    let now = SystemTime::now();
    let ca = Authority::create(now).unwrap();
    let server = ca.issue_server("etcd", &["127.0.0.1".to_owned()], now).unwrap();
    let client = ca.issue_client("kiln", None, now).unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let ca = file("ca.crt", ca.certificate_pem());
    let server = ServerTls {
        ca: ca.clone(),
        certificate: file("server.crt", &server.certificate_pem),
        key: file("server.key", &server.key_pem),
    };
    let client = TlsFiles {
        ca: Some(ca),
        certificate: Some(file("client.crt", &client.certificate_pem)),
        key: Some(file("client.key", &client.key_pem)),
    };
    (server, client)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_spoken_with_certificates_on_both_sides() {
    let (folder, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (server, client) = tls(folder.path());
    let (_, stranger) = tls(elsewhere.path());
    let etcd = Etcd::start_with_tls(&server);
    let open = async |tls: TlsFiles| {
        let patience = Duration::from_secs(2);
        let options = etcd::Options { tls, patience, ..etcd::Options::new(vec![etcd.endpoint()]) };
        etcd::open(options).await
    };
    let store = open(client.clone()).await.unwrap();
    put(&*store, "/r/a").await;
    assert_eq!(count(&*store, "/r/").await, 1);
    let refused = open(TlsFiles { ca: stranger.ca.clone(), ..client.clone() }).await.err().unwrap();
    assert!(refused.to_string().contains("certificate"), "{refused}");
    assert!(open(TlsFiles { ca: client.ca.clone(), ..TlsFiles::default() }).await.is_err(), "no client certificate");
    assert!(open(TlsFiles { ca: client.ca.clone(), ..stranger }).await.is_err(), "another CA's client");
    let half = open(TlsFiles { key: None, ..client }).await.err().unwrap();
    assert!(half.to_string().contains("--datastore-keyfile"), "{half}");
    let none = open(TlsFiles::default()).await.err().unwrap();
    assert!(none.to_string().contains("--datastore-cafile"), "{none}");
}
