//! The ConfigMap by which servers of aggregated APIs learn whom to believe: the CA of clients' certificates, and that of front
//! proxies with the headers in which those say who makes a request. Several servers of a cluster add what is theirs.

use std::collections::BTreeMap;

use kiln_apimachinery::{Reason, Status, meta};
use kiln_storage::{StorageError, Watch};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use x509_parser::pem::Pem;

use crate::server::ApiServer;
use crate::verbs::errors;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";
const KEY: &str = "/registry/core/configmaps/kube-system/extension-apiserver-authentication";
/// Keys that hold certificates; the others hold lists of texts.
const CERTIFICATES: [&str; 2] = ["client-ca-file", "requestheader-client-ca-file"];

/// Writes what is missing in the ConfigMap, and again whenever it was changed or deleted.
pub(crate) async fn publish(server: &ApiServer, stop: CancellationToken) -> Result<(), Status> {
    let revision = server.storage().current_revision();
    let mut watch = server.storage().watch(KEY, revision).map_err(errors::storage)?;
    write(server).await?;
    let server = server.downgrade();
    tokio::spawn(async move {
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                event = watch.next() => event.is_none(),
            };
            let Some(server) = server.upgrade().map(ApiServer::of) else { return };
            if ended {
                match begin(&server) {
                    Ok(new) => watch = new,
                    // The server ends.
                    Err(StorageError::Closed) => return,
                    Err(error) => {
                        tracing::warn!(%error, "whom aggregated APIs believe is not kept up");
                        return;
                    }
                }
            }
            if let Err(status) = write(&server).await {
                tracing::warn!(error = status.message, "whom aggregated APIs believe can't be written");
            }
        }
    });
    Ok(())
}

fn begin(server: &ApiServer) -> Result<Watch, StorageError> {
    server.storage().watch(KEY, server.storage().current_revision())
}

async fn write(server: &ApiServer) -> Result<(), Status> {
    let own = own(server);
    let Some(stored) = server.store().read("", "configmaps", NAMESPACE, NAME).await? else {
        let object = json!({"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": own});
        return match server.store().create("", "configmaps", object).await {
            Err(status) if !status.is(Reason::AlreadyExists) => Err(status),
            _ => Ok(()),
        };
    };
    let known = meta::string_map(stored.object.get("data"));
    let data = combined(&known, &own, server.now().as_second());
    if known.iter().map(|(k, v)| (*k, *v)).eq(data.iter().map(|(k, v)| (*k, v.as_str()))) {
        return Ok(());
    }
    let mut new = stored.object.clone();
    new["data"] = json!(data);
    match server.store().replace("", "configmaps", &stored, &new).await {
        // Whoever was faster has made an event of it.
        Err(status) if status.is(Reason::Conflict) => Ok(()),
        done => done,
    }
}

/// What this server has to say.
fn own(server: &ApiServer) -> BTreeMap<&'static str, String> {
    let mut own = BTreeMap::from([("client-ca-file", server.config().ca_pem.clone())]);
    if let Some(proxy) = &server.config().front_proxy {
        let list = |texts: &[&str]| Value::from(texts.to_vec()).to_string();
        own.insert("requestheader-client-ca-file", proxy.ca_pem.clone());
        own.insert("requestheader-allowed-names", Value::from(proxy.allowed_names.clone()).to_string());
        own.insert("requestheader-username-headers", list(&["X-Remote-User"]));
        own.insert("requestheader-uid-headers", list(&["X-Remote-Uid"]));
        own.insert("requestheader-group-headers", list(&["X-Remote-Group"]));
        own.insert("requestheader-extra-headers-prefix", list(&["X-Remote-Extra-"]));
    }
    own
}

/// What is there, less certificates that have expired by `now` (seconds since 1970), with what is this server's.
fn combined<'a>(
    known: &BTreeMap<&'a str, &'a str>,
    own: &BTreeMap<&'a str, String>,
    now: i64,
) -> BTreeMap<&'a str, String> {
    let mut all = BTreeMap::new();
    for (key, mine) in own {
        let theirs = known.get(key).copied().unwrap_or_default();
        let text = if CERTIFICATES.contains(key) {
            let mine = mine.trim_end().to_owned() + "\n";
            let mut bundle: Vec<String> = blocks(theirs).into_iter().filter(|b| is_valid(b, now)).collect();
            if !bundle.contains(&mine) {
                bundle.push(mine);
            }
            bundle.concat()
        } else {
            let read = |text: &str| serde_json::from_str::<Vec<String>>(text).unwrap_or_default();
            let mut list = read(theirs);
            for text in read(mine) {
                if !list.contains(&text) {
                    list.push(text);
                }
            }
            Value::from(list).to_string()
        };
        all.insert(*key, text);
    }
    all
}

/// The PEM blocks of a bundle.
fn blocks(bundle: &str) -> Vec<String> {
    let ends = "-----END CERTIFICATE-----";
    bundle.split_inclusive(ends).filter(|b| b.ends_with(ends)).map(|b| b.trim().to_owned() + "\n").collect()
}

fn is_valid(block: &str, now: i64) -> bool {
    let Some(Ok(pem)) = Pem::iter_from_buffer(block.as_bytes()).next() else { return false };
    pem.parse_x509().is_ok_and(|c| c.validity().not_after.timestamp() > now)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    fn certificate(year: i32) -> String {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem().replace("\r\n", "\n")
    }

    #[test]
    fn servers_add_what_is_theirs_and_what_has_expired_goes() {
        let (mine, other, old) = (certificate(2040), certificate(2041), certificate(2021));
        let own = BTreeMap::from([
            ("requestheader-client-ca-file", mine.clone()),
            ("requestheader-allowed-names", r#"["front-proxy-client"]"#.to_owned()),
        ]);
        let bundle = format!("{old}{other}");
        let known = BTreeMap::from([
            ("requestheader-client-ca-file", bundle.as_str()),
            ("requestheader-allowed-names", r#"["other"]"#),
            ("stray", "goes"),
        ]);
        let now = 1_767_323_045;
        let both = combined(&known, &own, now);
        let expected = BTreeMap::from([
            ("requestheader-client-ca-file", format!("{other}{mine}")),
            ("requestheader-allowed-names", r#"["other","front-proxy-client"]"#.to_owned()),
        ]);
        assert_eq!(both, expected);
        let again = both.iter().map(|(k, v)| (*k, v.as_str())).collect();
        assert_eq!(combined(&again, &own, now), expected);
    }
}
