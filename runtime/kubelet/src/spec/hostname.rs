//! What a pod calls itself.

use k8s_openapi::api::core::v1::Pod;
use kiln_apimachinery::names;

use super::{SpecError, invalid, name, namespace};

/// Linux's longest name of a machine, less the end mark.
const MOST_NAME: usize = 63;
const MOST_FULL_NAME: usize = 64;

/// A pod's host name, and the domain that its full name ends in; empty if it has none.
pub(super) fn of(pod: &Pod, cluster_domain: &str) -> Result<(String, String), SpecError> {
    let Some(spec) = &pod.spec else { return Ok((name(pod).to_owned(), String::new())) };
    if let Some(host) = &spec.hostname_override {
        let faults = names::dns1123_subdomain(host);
        if !faults.is_empty() {
            let faults = faults.join(";");
            return Err(invalid(format!("pod HostnameOverride {host:?} is not a valid DNS subdomain: {faults}")));
        }
        return Ok((cut(pod, host)?, String::new()));
    }
    let label = |what: &str, text: &str| match names::dns1123_label(text) {
        faults if faults.is_empty() => Ok(()),
        faults => Err(invalid(format!("pod {what} {text:?} is not a valid DNS label: {}", faults.join(";")))),
    };
    let host = match spec.hostname.as_deref().filter(|host| !host.is_empty()) {
        Some(host) => {
            label("Hostname", host)?;
            host
        }
        None => name(pod),
    };
    let host = cut(pod, host)?;
    let domain = match spec.subdomain.as_deref().filter(|domain| !domain.is_empty()) {
        Some(domain) => {
            label("Subdomain", domain)?;
            format!("{domain}.{}.svc.{cluster_domain}", namespace(pod))
        }
        None => String::new(),
    };
    Ok((host, domain))
}

/// The name that the kernel is to have: the full one, if the pod asks for it.
pub(super) fn for_kernel(pod: &Pod, host: String, domain: &str) -> Result<String, SpecError> {
    let full = pod.spec.as_ref().and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
    if !full || domain.is_empty() {
        return Ok(host);
    }
    let name = format!("{host}.{domain}");
    if name.len() > MOST_FULL_NAME {
        return Err(invalid(format!(
            "failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long \
             ({MOST_FULL_NAME} characters is the max, {} characters requested)",
            name.len()
        )));
    }
    Ok(name)
}

fn cut(pod: &Pod, host: &str) -> Result<String, SpecError> {
    let Some(short) = host.get(..MOST_NAME) else { return Ok(host.to_owned()) };
    if host.len() == MOST_NAME {
        return Ok(host.to_owned());
    }
    match short.trim_end_matches(['-', '.']) {
        "" => Err(invalid(format!("hostname for pod {:?} was invalid: {host:?}", name(pod)))),
        short => Ok(short.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::testing;
    use super::*;

    fn names(spec: Value) -> Result<(String, String), String> {
        let pod = testing::pod(spec);
        let (host, domain) = of(&pod, "cluster.local").map_err(|error| error.to_string())?;
        let kernel = for_kernel(&pod, host, &domain).map_err(|error| error.to_string())?;
        Ok((kernel, domain))
    }

    #[test]
    fn host_names_follow_from_the_spec() {
        let long = "a".repeat(62) + "-b";
        let rows = [
            (json!({}), Ok(("p", ""))),
            (json!({"hostname": "h"}), Ok(("h", ""))),
            (json!({"subdomain": "s"}), Ok(("p", "s.ns.svc.cluster.local"))),
            (
                json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
                Ok(("h.s.ns.svc.cluster.local", "s.ns.svc.cluster.local")),
            ),
            (json!({"hostname": "h", "setHostnameAsFQDN": true}), Ok(("h", ""))),
            (
                json!({"hostnameOverride": "x.example.com", "hostname": "h", "subdomain": "s"}),
                Ok(("x.example.com", "")),
            ),
            (json!({"hostname": "A"}), Err("pod Hostname \"A\" is not a valid DNS label")),
            (json!({"subdomain": "A"}), Err("pod Subdomain \"A\" is not a valid DNS label")),
            (
                json!({"hostname": "a".repeat(60), "subdomain": "s", "setHostnameAsFQDN": true}),
                Err("failed to construct FQDN from pod hostname and cluster domain"),
            ),
        ];
        for (spec, expected) in rows {
            match (names(spec.clone()), expected) {
                (Ok((kernel, domain)), Ok(expected)) => {
                    assert_eq!((kernel.as_str(), domain.as_str()), expected, "{spec}")
                }
                (Err(error), Err(begin)) => assert!(error.starts_with(begin), "{error}"),
                (found, _) => panic!("{spec}: {found:?}"),
            }
        }
        let mut pod = testing::pod(json!({}));
        pod.metadata.name = Some(long);
        assert_eq!(of(&pod, "x").expect("a name").0, "a".repeat(62));
    }
}
