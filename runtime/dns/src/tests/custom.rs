//! What administrators say.

use std::collections::BTreeMap;

use kiln_client::Informers;
use kiln_client::testing::FakeApi;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::fixture::{Fixture, Upstream, records};
use crate::corefile::Corefile;
use crate::wire::{Answer, Name, Record, code};
use crate::{CONFIG_MAP, Config, Dns, ROOM};

#[tokio::test]
async fn hosts_rewrites_and_stub_domains_are_served() {
    let (fixture, upstream) = (Fixture::of_specification().await, Upstream::start().await);
    let answer = |name: &str| {
        let name = Name::parse(name).unwrap();
        Answer { answers: vec![Record::address(&name, 20, [192, 0, 2, 7].into())], ..Answer::default() }
    };
    upstream.say("a.corp.example", "A", answer("a.corp.example"));
    upstream.say("a.other.example", "A", answer("a.other.example"));
    let overrides = format!(
        "# Names of this house.\nhosts {{\n  192.168.1.5 nas.home nas # the big one\n  fd00::5 nas.home\n  ttl 60\n}}\n\
         rewrite name old.home nas.home\nrewrite name suffix .lan .default.svc.cluster.local answer auto\n\
         rewrite stop name regex (.*)\\.via\\.home {{1}}.default.svc.cluster.local\n\
         forward other.example {}\n",
        upstream.address
    );
    let server = format!(
        "corp.example:53 {{\n    errors\n    cache 30\n    forward . {}\n}}\nempty.example {{\n}}\n",
        upstream.address
    );
    fixture.customise(&[("a.override", &overrides), ("b.server", &server), ("README", "not read {")]);
    let rows: &[(&str, &str, &[&str])] = &[
        ("nas.home", "A", &["nas.home. 60 IN A 192.168.1.5"]),
        ("nas.home", "AAAA", &["nas.home. 60 IN AAAA fd00::5"]),
        (
            "5.1.168.192.in-addr.arpa",
            "PTR",
            &["5.1.168.192.in-addr.arpa. 60 IN PTR nas.", "5.1.168.192.in-addr.arpa. 60 IN PTR nas.home."],
        ),
        // Clients look for the name that they asked for.
        ("old.home", "A", &["old.home. 60 IN A 192.168.1.5"]),
        ("kubernetes.lan", "A", &["kubernetes.lan. 5 IN A 10.3.0.1"]),
        ("plain.via.home", "A", &["plain.via.home. 5 IN A 10.3.0.3"]),
        ("a.corp.example", "A", &["a.corp.example. 20 IN A 192.0.2.7"]),
        ("a.other.example", "A", &["a.other.example. 20 IN A 192.0.2.7"]),
        ("kubernetes.default.svc.cluster.local", "A", &["kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1"]),
    ];
    fixture.check(rows).await;
    assert_eq!(upstream.asked().len(), 2);
    let nodata = fixture.ask("nas", "AAAA").await;
    assert_eq!((nodata.code, nodata.answers.len()), (code::NO_ERROR, 0));
    assert_eq!(fixture.ask("x.empty.example", "A").await.code, code::FAILURE);
    // Without `fallthrough` a block's names are all that it has.
    fixture.customise(&[("b.server", "corp.example {\n hosts {\n  192.0.2.1 b.corp.example\n }\n}")]);
    assert_eq!(records(&fixture.ask("b.corp.example", "A").await), ["b.corp.example. 3600 IN A 192.0.2.1"]);
    assert_eq!(fixture.ask("c.corp.example", "A").await.code, code::NO_NAME);
}

#[test]
fn a_mistake_is_told_with_its_place() {
    let rows = [
        ("x.override", "hosts {\n 10.0.0.1\n}", "x.override line 2: names are missing behind the address"),
        (
            "x.override",
            "hosts {\n nas 10.0.0.1\n}",
            "x.override line 2: `nas` is no address; a line is an address and names",
        ),
        (
            "x.override",
            "hosts /etc/hosts",
            "x.override line 1: `/etc/hosts`: files are not read; write addresses and names into the block",
        ),
        (
            "x.override",
            "\nforward . dns.example",
            "x.override line 2: `dns.example` is no server; servers are given by their addresses, as 10.0.0.1 or 10.0.0.1:5353",
        ),
        ("x.override", "forward . 10.0.0.1 {\n tls\n}", "x.override line 2: servers are asked over plain DNS only"),
        ("x.override", "forward . 10.0.0.1\nforward . 10.0.0.2", "x.override line 2: . is sent somewhere already"),
        (
            "x.override",
            "template IN A",
            "x.override line 1: `template` is not known here; there are cache, errors, forward, hosts, log and rewrite",
        ),
        ("x.override", "rewrite type ANY HINFO", "x.override line 1: only names are rewritten: `rewrite name FROM TO`"),
        ("x.override", "rewrite name regex ( x", "x.override line 1: `(`: found open group"),
        ("x.override", "hosts {\n 10.0.0.1 a", "x.override line 2: a closing brace is missing"),
        ("x.override", "}", "x.override line 1: a closing brace closes nothing"),
        (
            "x.server",
            "a.example:5353 {\n}",
            "x.server line 1: `a.example:5353`: names are served on port 53 only, and over nothing but plain DNS",
        ),
        (
            "x.server",
            ".:53 {\n}",
            "x.server line 1: . has a block already; what is to be added to it belongs into *.override",
        ),
        (
            "x.server",
            "a.example {\n cache 1d\n cache { success 1 x }\n}",
            "x.server line 3: `x` is no number of seconds up to a day",
        ),
        ("x.server", "a.example", "x.server line 1: a block of directives in braces is missing behind the domains"),
    ];
    for (key, text, wanted) in rows {
        let data = BTreeMap::from([(key.to_owned(), text.to_owned())]);
        let told = Corefile::parse(&data).unwrap_err().to_string();
        assert!(told.starts_with(wanted), "{text}: {told}");
    }
}

#[tokio::test]
async fn a_config_map_with_a_mistake_is_told_of_in_an_event_and_what_held_before_holds() {
    const PATH: &str = "/api/v1/namespaces/kube-system/configmaps/coredns-custom";
    let api = FakeApi::new();
    let mut informers = Informers::new(api.client());
    let config = Config { domain: "cluster.local".to_owned(), room: ROOM };
    let dns = Dns::new(&config, &mut informers).unwrap();
    let resolver = std::sync::Arc::clone(&dns.resolver);
    let shutdown = CancellationToken::new();
    let _running = shutdown.clone().drop_guard();
    tokio::spawn(informers.run(shutdown.clone()));
    tokio::spawn(dns.run(shutdown));
    let put = |text: &str| {
        let meta = json!({"name": CONFIG_MAP, "namespace": "kube-system", "uid": "u"});
        api.put(PATH, json!({"metadata": meta, "data": {"a.override": text}}));
    };
    let has_nas = || {
        let mut out = Vec::new();
        resolver.take(&super::fixture::asked("nas.home", "A"), |_| 512, &mut out);
        !out.is_empty() && super::fixture::read(&out).answers == ["nas.home. 3600 IN A 192.168.1.5"]
    };
    put("hosts {\n 192.168.1.5 nas.home\n}");
    while !has_nas() {
        tokio::task::yield_now().await;
    }
    put("hosts {\n nas.home\n}");
    let event = || {
        let map = api.object(PATH)?;
        let revision = map["metadata"]["resourceVersion"].as_str()?;
        let event = api.object(&format!("/api/v1/namespaces/kube-system/events/{CONFIG_MAP}.{revision}"))?;
        Some((event["reason"].clone(), event["message"].clone()))
    };
    let (reason, message) = loop {
        if let Some(told) = event() {
            break told;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!(reason, "InvalidConfiguration");
    assert_eq!(
        message,
        "a.override line 2: `nas.home` is no address; a line is an address and names; what held before still holds"
    );
    assert!(has_nas());
    api.remove(PATH);
    while has_nas() {
        tokio::task::yield_now().await;
    }
}
