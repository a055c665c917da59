//! What the fuzzer calls, and what tests share. Nothing of it is in the product.

use crate::wire::{Answer, Name, Packed, Query, Reply, decode, kind, refusal};

/// Reads a client's message, and answers it: the answer must be readable, fit its limit and say what was meant.
///
/// # Panics
/// If it does not.
pub fn question(message: &[u8]) {
    let mut out = Vec::new();
    let query = match Query::parse(message) {
        Ok(query) => query,
        Err(why) => {
            if refusal(message, why, &mut out) {
                assert!(decode(&out).is_ok(), "{out:?}");
            }
            return;
        }
    };
    let name = query.name();
    let address = crate::wire::Record::address(&name, 5, [10, 0, 0, 1].into());
    let answer = Answer::of_zone(vec![address; 64], Vec::new());
    let packed = Packed::new(&answer, &name, None);
    for limit in [query.udp_limit(), usize::from(u16::MAX)] {
        out.clear();
        packed.write(&query, message, Reply { limit, ttl: Some(7), turn: 3 }, &mut out);
        assert!(out.len() <= limit);
        let (read, is_cut) = decode(&out).unwrap_or_else(|_| panic!("{out:?}"));
        assert!(
            read.answers
                .iter()
                .all(|record| record.kind == kind::A && record.ttl == 7 && record.data[..] == [10, 0, 0, 1])
        );
        assert_eq!(is_cut, read.answers.len() < 64);
    }
}

/// Reads another server's answer and writes it again: it must be the same.
///
/// # Panics
/// If it is not.
pub fn answer(message: &[u8]) {
    let Ok((mut answer, _)) = decode(message) else { return };
    answer.authoritative = false;
    let Some(name) = Name::parse("a.example.org") else { return };
    let asked = crate::wire::question(1, &name, kind::A, false, false);
    let query = Query::parse(&asked).expect("a question");
    let mut out = Vec::new();
    let packed = Packed::new(&answer, &name, None);
    packed.write(&query, &asked, Reply { limit: usize::from(u16::MAX), ttl: None, turn: 0 }, &mut out);
    let (again, is_cut) = decode(&out).unwrap_or_else(|_| panic!("{out:?}"));
    if !is_cut {
        assert_eq!(again, answer);
    }
}

/// Reads text as a ConfigMap's block.
pub fn corefile(text: &str) {
    for key in ["a.override", "a.server"] {
        let data = std::collections::BTreeMap::from([(key.to_owned(), text.to_owned())]);
        let Ok(corefile) = crate::corefile::Corefile::parse(&data) else { continue };
        if let Some(name) = Name::parse("www.corp.example") {
            let block = corefile.block(&name);
            let name = block.rewrites.apply(&name).unwrap_or(name);
            _ = block.hosts.as_ref().and_then(|hosts| hosts.find(&name, kind::A));
            _ = block.forward(&name);
        }
    }
}

/// Serves a cluster's names at a place of the caller's choice, without a Service that says where, until the shutdown. Other
/// names go nowhere.
///
/// # Errors
/// When the place can't be bound.
pub async fn serve(
    domain: &str,
    informers: &mut kiln_client::Informers,
    at: std::net::SocketAddr,
) -> std::io::Result<impl Future<Output = ()> + Send + use<>> {
    let zone = Name::parse(domain).ok_or_else(|| std::io::Error::other("no domain"))?;
    let cluster = crate::cluster::Cluster::new(zone, informers);
    let resolver = std::sync::Arc::new(crate::resolver::Resolver::new(cluster, crate::ROOM));
    let sockets = crate::serve::Sockets::bind(&[at.ip()], at.port()).map_err(|(_, error)| error)?;
    Ok(sockets.serve(resolver, tokio_util::sync::CancellationToken::new()))
}
