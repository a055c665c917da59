//! Why a pod found no node, in the words that users see.

use std::collections::BTreeMap;

use super::{Plugins, Refusal};

/// What was found out about a pod that fits nowhere.
#[derive(Debug, Default)]
pub(crate) struct Diagnosis {
    /// How many nodes there are.
    pub(crate) nodes: usize,
    /// Why each node refused, by its place in the cache.
    pub(crate) refusals: Vec<(usize, Refusal)>,
    /// What holds of nodes that were not asked.
    pub(crate) others: Option<Refusal>,
    /// The pod was refused before any node was asked.
    pub(crate) before: Option<String>,
    /// What came of preemption.
    pub(crate) after: String,
    /// Who refused.
    pub(crate) plugins: Plugins,
}

impl Diagnosis {
    /// Notes who refused.
    pub(crate) fn blame(&mut self, refusal: &Refusal) {
        self.plugins.insert(refusal.plugin);
    }

    /// Notes why the node at a place refuses, in place of what it said before.
    pub(crate) fn refuse(&mut self, node: usize, refusal: Refusal) {
        match self.refusals.iter_mut().find(|(at, _)| *at == node) {
            Some((_, known)) => *known = refusal,
            None => self.refusals.push((node, refusal)),
        }
    }

    /// Why the node at a place refused, if it did.
    pub(crate) fn of(&self, node: usize) -> Option<&Refusal> {
        let own = self.refusals.iter().find(|(at, _)| *at == node).map(|(_, refusal)| refusal);
        own.or(self.others.as_ref())
    }

    /// The whole story: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) ...`.
    pub(crate) fn message(&self) -> String {
        let mut text = format!("0/{} nodes are available:", self.nodes);
        match &self.before {
            Some(before) => text += &format!(" {before}."),
            None => {
                let mut counts = BTreeMap::<&str, usize>::new();
                for reason in self.refusals.iter().flat_map(|(_, refusal)| &refusal.reasons) {
                    *counts.entry(reason).or_default() += 1;
                }
                let rest = self.nodes.saturating_sub(self.refusals.len());
                if let Some(others) = self.others.as_ref().filter(|_| rest > 0) {
                    others.reasons.iter().for_each(|reason| *counts.entry(reason).or_default() += rest);
                }
                let mut parts: Vec<_> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
                parts.sort();
                if !parts.is_empty() {
                    text += &format!(" {}.", parts.join(", "));
                }
            }
        }
        if !self.after.is_empty() {
            text += &format!(" {}", self.after);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::framework::PluginId;

    #[test]
    fn the_message_counts_the_reasons_of_nodes_and_ends_with_what_preemption_found() {
        let refusal = |reason: &'static str| Refusal::unschedulable(PluginId::NodeResourcesFit, reason);
        let mut diagnosis = Diagnosis {
            nodes: 3,
            refusals: vec![
                (0, refusal("Insufficient cpu")),
                (1, refusal("node(s) had untolerated taint(s)")),
                (2, refusal("node(s) had untolerated taint(s)")),
            ],
            ..Diagnosis::default()
        };
        let text = "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) had untolerated taint(s).";
        assert_eq!(diagnosis.message(), text);
        diagnosis.after = "preemption: not eligible due to preemptionPolicy=Never.".to_owned();
        assert_eq!(diagnosis.message(), format!("{text} preemption: not eligible due to preemptionPolicy=Never."));
        diagnosis.refusals.truncate(1);
        diagnosis.others =
            Some(Refusal::unresolvable(PluginId::DefaultPreemption, "Preemption is not helpful for scheduling"));
        diagnosis.after.clear();
        let text = "0/3 nodes are available: 1 Insufficient cpu, 2 Preemption is not helpful for scheduling.";
        assert_eq!(diagnosis.message(), text);
        diagnosis.before = Some("persistentvolumeclaim \"a\" not found".to_owned());
        assert_eq!(diagnosis.message(), "0/3 nodes are available: persistentvolumeclaim \"a\" not found.");
    }
}
