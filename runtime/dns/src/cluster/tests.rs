//! The records of the specification, and what CoreDNS does where it leaves a choice.

use crate::tests::fixture::{Fixture, Lines, records};
use crate::wire::code;

/// Name and type, and the answer's records.
type Row = (&'static str, &'static str, &'static [&'static str]);

#[tokio::test]
async fn the_records_of_the_specification_are_there() {
    let cluster = Fixture::of_specification().await;
    let rows: &[Row] = &[
        // 2.2 Schema version.
        ("dns-version.cluster.local", "TXT", &["dns-version.cluster.local. 28800 IN TXT \"1.1.0\""]),
        // 2.3.1 A and AAAA of a ClusterIP.
        ("kubernetes.default.svc.cluster.local", "A", &["kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1"]),
        ("both.default.svc.cluster.local", "AAAA", &["both.default.svc.cluster.local. 5 IN AAAA 2001:db8::1"]),
        ("both.default.svc.cluster.local", "A", &["both.default.svc.cluster.local. 5 IN A 10.3.0.2"]),
        // 2.3.2 SRV of a ClusterIP.
        (
            "_https._tcp.kubernetes.default.svc.cluster.local",
            "SRV",
            &[
                "_https._tcp.kubernetes.default.svc.cluster.local. 5 IN SRV 0 100 443 kubernetes.default.svc.cluster.local.",
                "+kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1",
            ],
        ),
        // 2.3.3 PTR of a ClusterIP.
        ("1.0.3.10.in-addr.arpa", "PTR", &["1.0.3.10.in-addr.arpa. 5 IN PTR kubernetes.default.svc.cluster.local."]),
        (
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            "PTR",
            &[
                "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa. 5 IN PTR both.default.svc.cluster.local.",
            ],
        ),
        // 2.4.1 A and AAAA of a headless Service and of its endpoints.
        (
            "headless.default.svc.cluster.local",
            "A",
            &[
                "headless.default.svc.cluster.local. 5 IN A 10.3.0.100",
                "headless.default.svc.cluster.local. 5 IN A 10.3.0.101",
            ],
        ),
        (
            "headless.default.svc.cluster.local",
            "AAAA",
            &["headless.default.svc.cluster.local. 5 IN AAAA 2001:db8::100"],
        ),
        (
            "my-pet.headless.default.svc.cluster.local",
            "A",
            &["my-pet.headless.default.svc.cluster.local. 5 IN A 10.3.0.100"],
        ),
        (
            "my-pet.headless.default.svc.cluster.local",
            "AAAA",
            &["my-pet.headless.default.svc.cluster.local. 5 IN AAAA 2001:db8::100"],
        ),
        (
            "10-3-0-101.headless.default.svc.cluster.local",
            "A",
            &["10-3-0-101.headless.default.svc.cluster.local. 5 IN A 10.3.0.101"],
        ),
        // 2.4.2 SRV of a headless Service: one for each endpoint that is ready. Three places share the weight.
        (
            "_https._tcp.headless.default.svc.cluster.local",
            "SRV",
            &[
                "_https._tcp.headless.default.svc.cluster.local. 5 IN SRV 0 33 443 my-pet.headless.default.svc.cluster.local.",
                "_https._tcp.headless.default.svc.cluster.local. 5 IN SRV 0 33 443 10-3-0-101.headless.default.svc.cluster.local.",
                "+my-pet.headless.default.svc.cluster.local. 5 IN A 10.3.0.100",
                "+10-3-0-101.headless.default.svc.cluster.local. 5 IN A 10.3.0.101",
                "+my-pet.headless.default.svc.cluster.local. 5 IN AAAA 2001:db8::100",
            ],
        ),
        // 2.4.3 PTR of an endpoint.
        (
            "100.0.3.10.in-addr.arpa",
            "PTR",
            &["100.0.3.10.in-addr.arpa. 5 IN PTR my-pet.headless.default.svc.cluster.local."],
        ),
        // 2.5 ExternalName.
        ("foo.default.svc.cluster.local", "CNAME", &["foo.default.svc.cluster.local. 5 IN CNAME www.example.com."]),
        (
            "inside.default.svc.cluster.local",
            "A",
            &[
                "inside.default.svc.cluster.local. 5 IN CNAME kubernetes.default.svc.cluster.local.",
                "kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1",
            ],
        ),
    ];
    cluster.check(rows).await;
}

#[tokio::test]
async fn what_the_specification_leaves_open_is_as_in_coredns() {
    let cluster = Fixture::of_specification().await;
    let rows: &[Row] = &[
        // Pods by their addresses, without asking whether there is one.
        ("10-1-2-3.default.pod.cluster.local", "A", &["10-1-2-3.default.pod.cluster.local. 5 IN A 10.1.2.3"]),
        (
            "2001-db8--7.default.pod.cluster.local",
            "AAAA",
            &["2001-db8--7.default.pod.cluster.local. 5 IN AAAA 2001:db8::7"],
        ),
        // Any letters' case.
        ("Kubernetes.DEFAULT.svc.Cluster.local", "A", &["Kubernetes.DEFAULT.svc.Cluster.local. 5 IN A 10.3.0.1"]),
        // A port's name before an address; underscores may be left out.
        (
            "https.tcp.kubernetes.default.svc.cluster.local",
            "A",
            &["https.tcp.kubernetes.default.svc.cluster.local. 5 IN A 10.3.0.1"],
        ),
        // An endpoint of a Service that has an address.
        (
            "10-3-0-200.plain.default.svc.cluster.local",
            "A",
            &["10-3-0-200.plain.default.svc.cluster.local. 5 IN A 10.3.0.200"],
        ),
        // All ports, where none is named.
        (
            "plain.default.svc.cluster.local",
            "SRV",
            &[
                "plain.default.svc.cluster.local. 5 IN SRV 0 50 80 plain.default.svc.cluster.local.",
                "plain.default.svc.cluster.local. 5 IN SRV 0 50 81 plain.default.svc.cluster.local.",
                "+plain.default.svc.cluster.local. 5 IN A 10.3.0.3",
            ],
        ),
        // A headless Service without ports has addresses all the same.
        ("portless.default.svc.cluster.local", "A", &["portless.default.svc.cluster.local. 5 IN A 10.3.0.110"]),
        ("cluster.local", "NS", &["cluster.local. 5 IN NS ns.dns.cluster.local."]),
        ("ns.dns.cluster.local", "A", &["ns.dns.cluster.local. 5 IN A 10.43.0.10"]),
    ];
    cluster.check(rows).await;
    let soa = cluster.ask("cluster.local", "SOA").await;
    assert!(
        records(&soa)[0].starts_with("cluster.local. 5 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. "),
        "{soa:?}"
    );
}

#[tokio::test]
async fn a_name_that_is_not_there_is_told_from_a_type_that_is_not_there() {
    let cluster = Fixture::of_specification().await;
    let none = [
        ("nothing.default.svc.cluster.local", "A"),
        ("kubernetes.nowhere.svc.cluster.local", "A"),
        ("nowhere.svc.cluster.local", "A"),
        ("a.cluster.local", "A"),
        ("example.com.cluster.local", "A"),
        ("a.b.c.kubernetes.default.svc.cluster.local", "A"),
        ("_http._tcp.kubernetes.default.svc.cluster.local", "SRV"),
        ("_https._udp.kubernetes.default.svc.cluster.local", "SRV"),
        ("x.headless.default.svc.cluster.local", "A"),
        // Its one endpoint is not ready.
        ("10-3-0-102.headless.default.svc.cluster.local", "A"),
        ("empty.default.svc.cluster.local", "A"),
        ("x.foo.default.svc.cluster.local", "A"),
        ("address.default.svc.cluster.local", "A"),
        ("not-an-address.default.pod.cluster.local", "A"),
        ("10-1-2-3.nowhere.pod.cluster.local", "A"),
    ];
    let empty = [
        ("kubernetes.default.svc.cluster.local", "AAAA"),
        ("kubernetes.default.svc.cluster.local", "TXT"),
        ("kubernetes.default.svc.cluster.local", "MX"),
        ("headless.default.svc.cluster.local", "NS"),
        ("default.svc.cluster.local", "A"),
        ("svc.cluster.local", "A"),
        ("pod.cluster.local", "A"),
        ("default.pod.cluster.local", "A"),
        ("cluster.local", "A"),
        ("dns-version.cluster.local", "A"),
        ("10-1-2-3.default.pod.cluster.local", "AAAA"),
        ("foo.default.svc.cluster.local", "SRV"),
        // Names that lead in a circle lead nowhere.
        ("ring.default.svc.cluster.local", "A"),
        ("self.default.svc.cluster.local", "A"),
    ];
    for (rows, wanted) in [(none.as_slice(), code::NO_NAME), (&empty, code::NO_ERROR)] {
        for (name, kind) in rows {
            let answer = cluster.ask(name, kind).await;
            assert_eq!((answer.code, answer.authoritative), (wanted, true), "{name} {kind}");
            let Lines { answers, authority, .. } = answer;
            assert!(answers.is_empty(), "{name} {kind}: {answers:?}");
            assert!(authority[0].starts_with("cluster.local. 5 IN SOA"), "{name} {kind}: {authority:?}");
        }
    }
    assert_eq!(cluster.ask("cluster.local", "AXFR").await.code, code::REFUSED);
}

#[tokio::test]
async fn a_change_shows_in_the_next_answer() {
    let cluster = Fixture::of_specification().await;
    assert_eq!(cluster.ask("late.default.svc.cluster.local", "A").await.code, code::NO_NAME);
    cluster.service("late", "10.3.0.50").await;
    assert_eq!(
        records(&cluster.ask("late.default.svc.cluster.local", "A").await),
        ["late.default.svc.cluster.local. 5 IN A 10.3.0.50"]
    );
    cluster.remove_service("late").await;
    cluster.service("late", "10.3.0.51").await;
    assert_eq!(
        records(&cluster.ask("late.default.svc.cluster.local", "A").await),
        ["late.default.svc.cluster.local. 5 IN A 10.3.0.51"]
    );
}

#[tokio::test]
async fn before_the_mirrors_are_filled_there_is_no_word_on_the_clusters_names() {
    let cluster = Fixture::unsynced();
    for name in ["kubernetes.default.svc.cluster.local", "a.cluster.local"] {
        assert_eq!(cluster.ask(name, "A").await.code, code::FAILURE, "{name}");
    }
}
