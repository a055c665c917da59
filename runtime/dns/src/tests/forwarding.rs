//! Names that are not the cluster's.

use std::time::Duration;

use super::fixture::{Fixture, Upstream, asked, read, records};
use crate::wire::{Answer, Name, Record, code, kind};

const FOREIGN: &str = "www.example.com";

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn address(ttl: u32) -> Answer {
    Answer { answers: vec![Record::address(&name(FOREIGN), ttl, [192, 0, 2, 53].into())], ..Answer::default() }
}

fn no_name(ttl: u32) -> Answer {
    let zone = name("example.com");
    let soa = Record::soa(&zone, ttl, &zone, &zone, 1);
    Answer { code: code::NO_NAME, authority: vec![soa], ..Answer::default() }
}

async fn with_upstream() -> (Fixture, Upstream) {
    let (fixture, upstream) = (Fixture::of_specification().await, Upstream::start().await);
    fixture.forward_to(upstream.address);
    (fixture, upstream)
}

#[tokio::test]
async fn answers_of_others_are_kept_for_their_time_and_no_longer_than_the_bound() {
    for (ttl, kept) in [(20, 20), (3600, 30), (0, 5)] {
        let (fixture, upstream) = with_upstream().await;
        upstream.say(FOREIGN, "A", address(ttl));
        for _ in 0..3 {
            let answer = fixture.ask(FOREIGN, "A").await;
            assert_eq!(
                (records(&answer), answer.authoritative),
                (vec![format!("{FOREIGN}. {kept} IN A 192.0.2.53")], false)
            );
        }
        assert_eq!(upstream.asked(), [format!("udp {FOREIGN}.")], "ttl {ttl}");
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(kept - 1)).await;
        assert_eq!(records(&fixture.now(FOREIGN, "A")), [format!("{FOREIGN}. 1 IN A 192.0.2.53")]);
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::time::resume();
        fixture.ask(FOREIGN, "A").await;
        assert_eq!(upstream.asked().len(), 1);
    }
}

#[tokio::test]
async fn that_there_is_no_such_name_is_kept_by_the_zones_start() {
    let (fixture, upstream) = with_upstream().await;
    upstream.say("none.example.com", "A", no_name(900));
    for _ in 0..2 {
        let answer = fixture.ask("none.example.com", "A").await;
        assert_eq!(answer.code, code::NO_NAME);
        assert!(answer.authority[0].starts_with("example.com. 30 IN SOA"), "{answer:?}");
    }
    assert_eq!(upstream.asked().len(), 1);
    // What went wrong is not kept.
    for _ in 0..2 {
        assert_eq!(fixture.ask("refused.example.com", "A").await.code, code::FAILURE);
    }
    assert_eq!(upstream.asked().len(), 2);
}

#[tokio::test]
async fn an_answer_too_long_for_udp_is_fetched_over_tcp_and_cut_for_a_client_over_udp() {
    let (fixture, upstream) = with_upstream().await;
    let many = (0..200).map(|n| Record::address(&name(FOREIGN), 20, [192, 0, 2, n].into())).collect();
    upstream.say(FOREIGN, "A", Answer { answers: many, ..Answer::default() });
    let answer = fixture.ask(FOREIGN, "A").await;
    assert_eq!((answer.answers.len(), answer.is_cut), (200, false));
    assert_eq!(upstream.asked(), [format!("udp {FOREIGN}."), format!("tcp {FOREIGN}.")]);
    let mut out = Vec::new();
    fixture.resolver.take(&asked(FOREIGN, "A"), |_| 512, &mut out);
    let cut = read(&out);
    // The client has as many as there is room for: some can't ask over TCP.
    assert!(out.len() <= 512 && cut.is_cut && cut.answers.len() > 25, "{} {}", out.len(), cut.answers.len());
}

#[tokio::test]
async fn a_question_of_many_clients_is_asked_once() {
    let (fixture, upstream) = with_upstream().await;
    upstream.say(FOREIGN, "A", address(20));
    let gate = upstream.hold();
    let clients: Vec<_> = (0..50).map(|_| fixture.ask(FOREIGN, "A")).collect();
    let (answers, ()) = tokio::join!(futures_util::future::join_all(clients), async {
        tokio::task::yield_now().await;
        gate.add_permits(1);
    });
    assert!(answers.iter().all(|answer| answer.answers.len() == 1));
    assert_eq!(upstream.asked().len(), 1);
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_mute_or_refuses() {
    let fixture = Fixture::of_specification().await;
    let (mute, refusing, good) = (Upstream::start().await, Upstream::start().await, Upstream::start().await);
    mute.be_mute();
    good.say(FOREIGN, "A", address(20));
    good.say("b.example.com", "A", address(20));
    let servers = [&mute, &refusing, &good].map(|upstream| upstream.address.to_string()).join(" ");
    fixture.customise(&[("x.override", &format!("forward . {servers} {{\n policy sequential\n}}"))]);
    assert_eq!(fixture.ask(FOREIGN, "A").await.answers.len(), 1);
    assert_eq!((mute.asked().len(), refusing.asked().len(), good.asked().len()), (1, 1, 1));
    // From now on the mute one is last.
    fixture.ask("b.example.com", "A").await;
    assert_eq!((mute.asked().len(), good.asked().len()), (0, 1));
}

#[tokio::test]
async fn a_name_outside_that_a_service_stands_for_is_followed() {
    let (fixture, upstream) = with_upstream().await;
    upstream.say(FOREIGN, "A", address(20));
    let wanted = ["foo.default.svc.cluster.local. 20 IN CNAME www.example.com.", "www.example.com. 20 IN A 192.0.2.53"];
    // All records of an answer that is kept have one lifetime: the shortest, which is the cluster's.
    let wanted = wanted.map(|line| line.replace(" 20 ", " 5 "));
    for _ in 0..2 {
        assert_eq!(records(&fixture.ask("foo.default.svc.cluster.local", "A").await), wanted);
    }
    assert_eq!(upstream.asked().len(), 1);
    // What leads to nothing is told as far as it is known.
    let answer = fixture.ask("foo.default.svc.cluster.local", "AAAA").await;
    assert_eq!(
        (answer.code, records(&answer)),
        (code::NO_ERROR, vec!["foo.default.svc.cluster.local. 5 IN CNAME www.example.com.".to_owned(),])
    );
}

#[tokio::test]
async fn an_address_that_is_nobodys_in_the_cluster_is_asked_of_others() {
    let (fixture, upstream) = with_upstream().await;
    let (reverse, host) = (name("1.2.0.192.in-addr.arpa"), name("host.example.com"));
    let answer = Answer { answers: vec![Record::name(&reverse, kind::PTR, 20, &host)], ..Answer::default() };
    upstream.say("1.2.0.192.in-addr.arpa", "PTR", answer);
    let wanted = ["1.2.0.192.in-addr.arpa. 20 IN PTR host.example.com."];
    assert_eq!(records(&fixture.ask("1.2.0.192.in-addr.arpa", "PTR").await), wanted);
    // Once it is a Service's, it is at once.
    fixture.service("late", "192.0.2.1").await;
    let wanted = ["1.2.0.192.in-addr.arpa. 5 IN PTR late.default.svc.cluster.local."];
    assert_eq!(records(&fixture.ask("1.2.0.192.in-addr.arpa", "PTR").await), wanted);
}

#[tokio::test]
async fn without_a_server_to_ask_there_is_a_failure_at_once() {
    let fixture = Fixture::of_specification().await;
    fixture.customise(&[("x.override", "forward . 10.43.0.10")]);
    assert_eq!(fixture.ask(FOREIGN, "A").await.code, code::FAILURE);
}
