//! The part that extenders have in an attempt.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as ApiNode;
use kiln_client::ObjectRef;

use super::attempt::{Verdict, unfit};
use super::{Scheduler, profile_of};
use crate::extender::ExtenderError;
use crate::framework::{Cycle, Diagnosis, PluginId, Refusal, World};
use crate::model::Pod;

impl Scheduler {
    /// Asks the extenders about the nodes that the plugins left. Nothing else happens meanwhile.
    pub(super) async fn ask_extenders(
        &mut self,
        pod: &Pod,
        mut nodes: Vec<usize>,
        mut diagnosis: Box<Diagnosis>,
    ) -> Verdict {
        let Some(object) = self.object(pod) else { return Verdict::Failed(format!("pod {:?} not found", pod.name)) };
        let extenders: Vec<_> = self.extenders.iter().filter(|extender| extender.is_for(&object)).cloned().collect();
        for extender in &extenders {
            let Some(verb) = extender.filter.as_deref().filter(|_| !nodes.is_empty()) else { continue };
            let filtered = match extender.filter(verb, &object, &self.node_objects(&nodes)).await {
                Ok(filtered) => filtered,
                Err(error) if extender.ignorable => {
                    tracing::warn!(extender = extender.url, %error, "an extender is passed over");
                    continue;
                }
                Err(error) => return Verdict::Failed(error.to_string()),
            };
            for (name, code, why) in filtered.refused {
                if let Some(at) = self.cache.index_of(&name) {
                    diagnosis.refusals.push((at, Refusal::new(code, PluginId::Extender, why)));
                }
            }
            let (before, names) = (nodes.len(), filtered.names.iter().map(String::as_str).collect::<HashSet<_>>());
            nodes.retain(|at| names.contains(&*self.cache.nodes()[*at].node.name));
            if nodes.len() != before {
                diagnosis.plugins.insert(PluginId::Extender);
            }
        }
        if nodes.is_empty() {
            let world = World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers };
            let Some(profile) = profile_of(&self.profiles, pod) else { return Verdict::Failed(String::new()) };
            let cycle = Cycle::start(world, profile, pod).ok();
            return unfit(world, profile, pod, diagnosis, cycle.as_ref(), &mut self.random, &self.metrics);
        }
        let mut further = HashMap::<usize, i64>::new();
        for extender in extenders.iter().filter(|_| nodes.len() > 1) {
            let Some(verb) = &extender.prioritize else { continue };
            match extender.prioritize(verb, &object, &self.node_objects(&nodes)).await {
                Ok(points) => {
                    for (name, points) in points {
                        if let Some(at) = self.cache.index_of(&name) {
                            let total = further.entry(at).or_default();
                            *total = total.saturating_add(points);
                        }
                    }
                }
                // The others' points decide then.
                Err(error) => tracing::debug!(extender = extender.url, %error, "an extender gives no points"),
            }
        }
        self.choose(pod, &nodes, &further)
    }

    /// Nodes as the mirror has them.
    fn node_objects(&self, nodes: &[usize]) -> Vec<Arc<ApiNode>> {
        let names = nodes.iter().map(|at| &*self.cache.nodes()[*at].node.name);
        names.filter_map(|name| self.listers.nodes.get(&ObjectRef::cluster(name))).collect()
    }

    /// The binding of a placed pod, if an extender is to do it.
    pub(super) fn binder(
        &self,
        placed: &Arc<Pod>,
    ) -> Option<impl Future<Output = Result<(), ExtenderError>> + Send + use<>> {
        let (extender, verb) =
            self.extenders.iter().find_map(|extender| Some((extender, extender.bind.as_deref()?)))?;
        let object = self.object(placed)?;
        extender.is_for(&object).then(|| extender.bind(verb, Arc::clone(placed)))
    }
}
