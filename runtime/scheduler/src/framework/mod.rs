//! What a plugin is, and how a cycle runs the plugins of a profile to find a pod its node.
//!
//! A [`Plugin`] looks at the pod once per cycle and answers with a [`Filter`] that judges nodes, and later with a [`Score`]
//! that compares those that passed. Names, meanings, codes and texts are those of Kubernetes' scheduling framework
//! (KEP-624). Nothing here does any I/O.

mod cycle;
mod diagnosis;
mod event;
mod plugin_id;
mod profile;
mod random;
mod score;

use std::borrow::Cow;

pub(crate) use cycle::{Cycle, Outcome, best, schedule};
pub(crate) use diagnosis::Diagnosis;
pub(crate) use event::{Event, NodeChange, PodChange, Update};
pub(crate) use plugin_id::{PluginId, Plugins};
pub(crate) use profile::{Candidates, Profile};
pub(crate) use random::Random;
pub(crate) use score::{MAX_SCORE, normalize};

use crate::cache::{Cache, NodeInfo, Nominator};
use crate::listers::Listers;
use crate::model::{Name, Pod};

/// All that plugins may look at.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) cache: &'a Cache,
    pub(crate) nominator: &'a Nominator,
    pub(crate) listers: &'a Listers,
}

/// How final a refusal is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Code {
    /// Others that leave could help.
    Unschedulable,
    /// Nobody's leaving helps.
    Unresolvable,
    /// The plugin failed.
    Error,
}

/// What it is called in metrics if nobody objects.
pub(crate) const SUCCESS: &str = "Success";

impl Code {
    /// What it is called in metrics.
    pub(crate) fn status(self) -> &'static str {
        match self {
            Self::Unschedulable => "Unschedulable",
            Self::Unresolvable => "UnschedulableAndUnresolvable",
            Self::Error => "Error",
        }
    }
}

/// Why a pod can't go somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// Who says so.
    pub(crate) plugin: PluginId,
    /// In the words that users see.
    pub(crate) reasons: Vec<Cow<'static, str>>,
}

/// Whether a pod can go somewhere.
pub(crate) type Verdict = Result<(), Refusal>;

impl Refusal {
    pub(crate) fn new(code: Code, plugin: PluginId, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, plugin, reasons: vec![reason.into()] }
    }

    /// Others that leave could help.
    pub(crate) fn unschedulable(plugin: PluginId, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unschedulable, plugin, reason)
    }

    /// Nobody's leaving helps.
    pub(crate) fn unresolvable(plugin: PluginId, reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Code::Unresolvable, plugin, reason)
    }

    /// The reasons in one text.
    pub(crate) fn message(&self) -> String {
        self.reasons.join(", ")
    }
}

/// What a plugin says of a pod before it sees nodes.
pub(crate) enum PreFilter<'a> {
    /// It has nothing to say of any node.
    Skip,
    /// It judges nodes.
    Check(Box<dyn Filter<'a> + 'a>),
    /// It judges nodes, and knows that only these can do.
    Among(Box<dyn Filter<'a> + 'a>, Vec<Name>),
}

impl<'a> PreFilter<'a> {
    /// Judges nodes by a function that depends on nothing but the node.
    pub(crate) fn by(check: impl Fn(&NodeInfo) -> Verdict + Clone + 'a) -> Self {
        Self::Check(Box::new(Stateless(check)))
    }
}

/// Judges nodes for one pod in one cycle.
pub(crate) trait Filter<'a> {
    /// Whether the pod can go to a node.
    fn check(&self, node: &NodeInfo) -> Verdict;

    /// Has a pod counted in as if it were on this node.
    fn add(&mut self, _pod: &Pod, _node: &NodeInfo) {}

    /// Has a pod counted out as if it had left this node.
    fn remove(&mut self, _pod: &Pod, _node: &NodeInfo) {}

    /// A copy on which a "what if" can be tried.
    fn copy(&self) -> Box<dyn Filter<'a> + 'a>;
}

#[derive(Clone)]
struct Stateless<F>(F);

impl<'a, F: Fn(&NodeInfo) -> Verdict + Clone + 'a> Filter<'a> for Stateless<F> {
    fn check(&self, node: &NodeInfo) -> Verdict {
        (self.0)(node)
    }

    fn copy(&self) -> Box<dyn Filter<'a> + 'a> {
        Box::new(self.clone())
    }
}

/// Compares nodes for one pod in one cycle.
pub(crate) trait Score {
    /// The node's points, of any size.
    fn score(&self, node: &NodeInfo) -> i64;

    /// Brings the points of all nodes into 0 to [`MAX_SCORE`].
    fn normalize(&self, _nodes: &[&NodeInfo], _scores: &mut [i64]) {}
}

/// One of the scheduler's plugins.
pub(crate) trait Plugin: Send + Sync {
    /// Which.
    fn id(&self) -> PluginId;

    /// Looks at the pod.
    ///
    /// # Errors
    /// The pod can't go anywhere, or the plugin failed.
    fn pre_filter<'a>(&'a self, _world: World<'a>, _pod: &'a Pod) -> Result<PreFilter<'a>, Refusal> {
        Ok(PreFilter::Skip)
    }

    /// Looks at the nodes that can do; `None` if all are alike to it.
    fn pre_score<'a>(
        &'a self,
        _world: World<'a>,
        _pod: &'a Pod,
        _nodes: &[&'a NodeInfo],
    ) -> Option<Box<dyn Score + 'a>> {
        None
    }

    /// Whether a pod that this plugin refused may do after an event. The queueing hint of KEP-4247.
    fn may_help(&self, _world: World<'_>, _pod: &Pod, _event: &Event<'_>) -> bool {
        false
    }
}
