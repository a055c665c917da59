//! PodDisruptionBudgets, as they bear on preemption: broken if need be, but last.

use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use crate::listers::Listers;
use crate::model::{Name, Pod, Selector, selector_of};

struct Budget {
    namespace: String,
    selector: Selector,
    allowed: i32,
    /// Pods whose leaving is counted already.
    counted: Vec<String>,
}

/// All budgets.
pub(super) struct Budgets(Vec<Budget>);

impl Budgets {
    pub(super) fn new(listers: &Listers) -> Self {
        let of = |budget: &PodDisruptionBudget| {
            let status = budget.status.as_ref();
            let counted = status.and_then(|status| status.disrupted_pods.as_ref());
            let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
            Budget {
                namespace: budget.metadata.namespace.clone().unwrap_or_default(),
                selector: selector_of(selector, Name::new),
                allowed: status.and_then(|status| status.disruptions_allowed).unwrap_or(0),
                counted: counted.map(|pods| pods.keys().cloned().collect()).unwrap_or_default(),
            }
        };
        Self(listers.budgets.list().iter().map(|budget| of(budget)).collect())
    }

    /// Those of some pods whose leaving breaks a budget, and the others, each in the order given.
    pub(super) fn divide(&self, pods: Vec<Arc<Pod>>) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
        let mut allowed: Vec<i32> = self.0.iter().map(|budget| budget.allowed).collect();
        pods.into_iter().partition(|pod| {
            let mut breaks = false;
            for (budget, allowed) in self.0.iter().zip(&mut allowed) {
                let applies = !pod.labels.is_empty()
                    && budget.namespace == *pod.namespace
                    && !budget.selector.is_everything()
                    && budget.selector.matches(&*pod.labels)
                    && !budget.counted.iter().any(|name| **name == *pod.name);
                if applies {
                    *allowed -= 1;
                    breaks |= *allowed < 0;
                }
            }
            breaks
        })
    }
}
