//! Ingresses as rules.

use std::collections::HashMap;
use std::sync::Arc;

use k8s_openapi::api::networking::v1::{Ingress, IngressBackend};
use kiln_acme::marks;
use kiln_client::ObjectRef;

use super::Compiler;
use super::backends::{Key, PortRef, external_name};
use super::class::Classes;
use super::events::Problem;
use super::gateways::Certificate;
use crate::annotations::Settings;
use crate::challenges;
use crate::routes::{Builder, Kind};
use crate::tls;
use crate::upstream::{Backend, Protocol};

/// One compilation.
pub(super) struct Pass<'a> {
    pub(super) compiler: &'a Compiler,
    backends: HashMap<Key, Arc<Backend>>,
    problems: Vec<Problem>,
}

impl<'a> Pass<'a> {
    pub(super) fn new(compiler: &'a Compiler) -> Self {
        Self { compiler, backends: HashMap::new(), problems: Vec::new() }
    }
}

impl Compiler {
    /// The Ingresses that are ours, the oldest first: of two that contradict each other it holds.
    pub(super) fn ours(&self) -> Vec<Arc<Ingress>> {
        let classes = Classes::new(&self.classes.list());
        let mut ours = self.ingresses.list();
        ours.retain(|ingress| classes.has(ingress) && ingress.spec.is_some());
        // The sort is stable: those of one second are in the order of their namespaces and names.
        ours.sort_by_key(|ingress| ingress.metadata.creation_timestamp.as_ref().map(|time| time.0));
        ours
    }

    /// Makes the table anew.
    pub(super) async fn compile(&self) {
        let ours = self.ours();
        let mut pass = Pass::new(self);
        let mut builder = Builder::default();
        let mut defaults = Vec::new();
        for ingress in &ours {
            let (settings, wrong) = Settings::read(ingress.metadata.annotations.as_ref());
            pass.problems.extend(wrong.into_iter().map(|text| Problem::new(ingress, "InvalidAnnotation", text)));
            let settings = Arc::new(settings);
            if let Some(default) = pass.rules(ingress, &settings, &mut builder) {
                let has_rules = ingress.spec.as_ref().is_some_and(|spec| spec.rules.is_some());
                defaults.push((has_rules, settings, default));
            }
        }
        // Those that are nothing but a default go before those that have rules as well.
        defaults.sort_by_key(|(has_rules, ..)| *has_rules);
        for (_, settings, default) in defaults {
            builder.add_default(&settings, default);
        }
        let of_routes = pass.gateways(&mut builder);
        let Pass { backends, problems, .. } = pass;
        {
            // From now on their Services' changes are told; what changed meanwhile is seen here.
            let mut state = self.dirty.state();
            state.referenced = backends.keys().map(|key| key.service.clone()).collect();
            state.of_routes = of_routes;
        }
        for (key, backend) in &backends {
            self.fill(key, backend);
        }
        let services = backends.keys().filter_map(|key| self.services.get(&key.service));
        self.names.retain(&services.filter_map(|service| external_name(&service).map(str::to_owned)).collect());
        self.backends.replace(backends);
        self.proxy.set_table(builder.build());
        self.events.tell("rules", problems).await;
        let of_ingresses = ours.iter().flat_map(|ingress| secrets(ingress)).map(|(_, secret)| secret);
        let of_gateways = self.certificates_of_gateways().iter().map(|one| one.secret.clone()).collect::<Vec<_>>();
        self.secrets.want(of_ingresses.chain(of_gateways).collect());
        self.certify(&ours).await;
    }

    /// Has the certificates shown that there are, and challenges answered for those that are to come.
    pub(super) async fn certify(&self, ours: &[Arc<Ingress>]) {
        let (mut table, mut problems) = (tls::Table::default(), Vec::new());
        let mut challenges = challenges::Table::default();
        for ingress in ours {
            let asks = marks::asks(ingress.metadata.annotations.as_ref());
            for (hosts, secret) in secrets(ingress) {
                let held = self.secrets.get(&secret);
                if asks {
                    hosts.iter().for_each(|host| challenges.add(host, held.as_ref().map(|held| &held.answers)));
                }
                match held.and_then(|held| held.certificate) {
                    Some(Ok(loaded)) => {
                        let names = if hosts.is_empty() { &loaded.names[..] } else { hosts };
                        names.iter().for_each(|name| table.add(name, &loaded.key));
                    }
                    Some(Err(why)) => {
                        let text = format!("secret {secret}: {why}; its hosts are served with the default certificate");
                        problems.push(Problem::new(ingress, "InvalidCertificate", text));
                    }
                    // It is being fetched, or made.
                    None => {}
                }
            }
        }
        for Certificate { hostname, secret } in self.certificates_of_gateways().iter() {
            // What is wrong with one is told in the Gateway's status.
            let Some(Ok(loaded)) = self.secrets.get(secret).and_then(|held| held.certificate) else { continue };
            if hostname.is_empty() {
                loaded.names.iter().for_each(|name| table.add(name, &loaded.key));
                table.add_default(&loaded.key);
            } else {
                table.add_deep(hostname, &loaded.key);
            }
        }
        self.certificates.set(table);
        self.proxy.challenges.set(challenges);
        self.events.tell("certificates", problems).await;
    }
}

/// The Secrets that an Ingress names, and the hosts that each is for.
fn secrets(ingress: &Ingress) -> impl Iterator<Item = (&[String], ObjectRef)> {
    let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
    let all = ingress.spec.iter().flat_map(|spec| spec.tls.iter().flatten());
    all.filter_map(move |tls| {
        let name = tls.secret_name.as_deref().filter(|name| !name.is_empty())?;
        Some((tls.hosts.as_deref().unwrap_or_default(), ObjectRef::namespaced(namespace, name)))
    })
}

impl Pass<'_> {
    /// Adds an Ingress' rules; answers its default backend, if it has one.
    fn rules(
        &mut self,
        ingress: &Ingress,
        settings: &Arc<Settings>,
        builder: &mut Builder,
    ) -> Option<Option<Arc<Backend>>> {
        let spec = ingress.spec.as_ref()?;
        let default = spec.default_backend.as_ref().map(|default| self.backend(ingress, default, settings));
        for rule in spec.rules.iter().flatten() {
            let host = rule.host.as_deref().unwrap_or_default();
            for path in rule.http.iter().flat_map(|http| &http.paths) {
                let kind = if path.path_type == "Exact" { Kind::Exact } else { Kind::Prefix };
                let backend = self.backend(ingress, &path.backend, settings);
                builder.add(host, kind, path.path.as_deref().unwrap_or("/"), settings, backend);
            }
            if let Some(default) = &default {
                builder.add(host, Kind::Default, "", settings, default.clone());
            }
        }
        default
    }

    /// The backend that an Ingress means.
    fn backend(&mut self, ingress: &Ingress, backend: &IngressBackend, settings: &Settings) -> Option<Arc<Backend>> {
        let Some(service) = &backend.service else {
            let text = "a backend is no Service, and nothing else is supported".to_owned();
            self.problems.push(Problem::new(ingress, "UnsupportedBackend", text));
            return None;
        };
        let port = service.port.as_ref();
        let name = port.and_then(|port| port.name.clone()).filter(|name| !name.is_empty());
        let number = port.and_then(|port| port.number).unwrap_or_default();
        let namespace = ingress.metadata.namespace.as_deref().unwrap_or_default();
        let key = Key {
            service: ObjectRef::namespaced(namespace, service.name.as_str()),
            port: name.map_or(PortRef::Number(number), PortRef::Name),
            protocol: settings.protocol,
        };
        Some(self.of_key(key))
    }

    /// The backend of a key: the one that there is, or else a new one.
    pub(super) fn of_key(&mut self, key: Key) -> Arc<Backend> {
        let known = self.backends.get(&key).cloned().or_else(|| self.compiler.backends.get(&key));
        let backend = known.unwrap_or_else(|| {
            let protocol = key.protocol.unwrap_or(Protocol::Http);
            Arc::new(Backend::new(&key.service.namespace, &key.service.name, protocol))
        });
        self.backends.insert(key, backend.clone());
        backend
    }
}
