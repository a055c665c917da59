//! The part that extenders have in an attempt.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node as ApiNode, Pod as ApiPod};
use kiln_client::ObjectRef;

use super::attempt::Verdict;
use super::preempting::Unfit;
use super::{Scheduler, profile_of};
use crate::extender::{Extender, ExtenderError};
use crate::framework::{Cycle, Diagnosis, PluginId, Refusal, World};
use crate::model::Pod;

impl Scheduler {
    /// Those whose concern a pod is, each with the pod as the mirror has it.
    pub(super) fn extenders_for(&self, pod: &Pod) -> Vec<(Extender, Arc<ApiPod>)> {
        let Some(object) = self.object(pod).filter(|_| !self.extenders.is_empty()) else { return Vec::new() };
        let theirs = self.extenders.iter().filter(|extender| extender.is_for(&object));
        theirs.map(|extender| (extender.clone(), Arc::clone(&object))).collect()
    }

    /// Whether these nodes are but the one that a pod was promised.
    pub(super) fn is_promised(&self, pod: &Pod, nodes: &[usize]) -> bool {
        matches!(nodes, [at] if pod.nominated.as_ref() == Some(&self.cache.nodes()[*at].node.name))
    }

    /// Asks the extenders about the nodes that the plugins left. Nothing else happens meanwhile.
    pub(super) async fn ask_extenders(
        &mut self,
        pod: &Pod,
        nodes: Vec<usize>,
        mut diagnosis: Box<Diagnosis>,
    ) -> Verdict {
        let nodes = match self.left_by_extenders(pod, nodes, &mut diagnosis).await {
            Ok(nodes) => nodes,
            Err(error) => return Verdict::Failed(error.to_string()),
        };
        if !nodes.is_empty() {
            return self.choose_with_extenders(pod, &nodes).await;
        }
        match self.left_without(pod, diagnosis) {
            Some(unfit) => self.unfit(pod, unfit).await,
            None => Verdict::Failed(String::new()),
        }
    }

    /// Who could leave for a pod to which the extenders left no node; `None` if its profile is gone.
    fn left_without(&mut self, pod: &Pod, diagnosis: Box<Diagnosis>) -> Option<Unfit> {
        let world = World { cache: &self.cache, nominator: &self.nominator, listers: &self.listers };
        let profile = profile_of(&self.profiles, pod)?;
        let cycle = Cycle::start(world, profile, pod).ok();
        Some(Unfit::new(world, profile, pod, diagnosis, cycle.as_ref(), &mut self.random))
    }

    /// The nodes that all extenders leave; why not others goes into the diagnosis.
    pub(super) async fn left_by_extenders(
        &mut self,
        pod: &Pod,
        mut nodes: Vec<usize>,
        diagnosis: &mut Diagnosis,
    ) -> Result<Vec<usize>, ExtenderError> {
        let before = nodes.len();
        for (extender, object) in self.extenders_for(pod) {
            let Some(verb) = extender.filter.as_deref().filter(|_| !nodes.is_empty()) else { continue };
            let filtered = match extender.filter(verb, &object, &self.node_objects(&nodes)).await {
                Ok(filtered) => filtered,
                Err(error) if extender.ignorable => {
                    tracing::warn!(extender = extender.url, %error, "an extender is passed over");
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (name, code, why) in filtered.refused {
                if let Some(at) = self.cache.index_of(&name) {
                    diagnosis.refuse(at, Refusal::new(code, PluginId::Extender, why));
                }
            }
            let names = filtered.names.iter().map(String::as_str).collect::<HashSet<_>>();
            nodes.retain(|at| names.contains(&*self.cache.nodes()[*at].node.name));
        }
        if nodes.len() != before {
            diagnosis.plugins.insert(PluginId::Extender);
        }
        Ok(nodes)
    }

    /// Chooses one of the nodes that can do, by the points of extenders as well.
    pub(super) async fn choose_with_extenders(&mut self, pod: &Pod, nodes: &[usize]) -> Verdict {
        let mut further = HashMap::<usize, i64>::new();
        let extenders = if nodes.len() > 1 { self.extenders_for(pod) } else { Vec::new() };
        for (extender, object) in extenders {
            let Some(verb) = &extender.prioritize else { continue };
            match extender.prioritize(verb, &object, &self.node_objects(nodes)).await {
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
        self.choose(pod, nodes, &further)
    }

    /// Nodes as the mirror has them.
    fn node_objects(&self, nodes: &[usize]) -> Vec<Arc<ApiNode>> {
        let names = nodes.iter().map(|at| &*self.cache.nodes()[*at].node.name);
        names.filter_map(|name| self.listers.nodes.get(&ObjectRef::cluster(name))).collect()
    }

    /// The binding of a placed pod, if an extender is to do it, and whether the scheduler binds the pod if the extender does not.
    pub(super) fn binder(
        &self,
        placed: &Arc<Pod>,
    ) -> Option<(impl Future<Output = Result<(), ExtenderError>> + Send + use<>, bool)> {
        let (extender, _) = self.extenders_for(placed).into_iter().find(|(extender, _)| extender.bind.is_some())?;
        let verb = extender.bind.as_deref()?;
        Some((extender.bind(verb, Arc::clone(placed)), extender.ignorable))
    }
}
