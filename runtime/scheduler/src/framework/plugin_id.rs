//! The plugins by name.

use std::fmt;

macro_rules! plugins {
    ($($name:ident $weight:literal),* $(,)?) => {
        /// A plugin. The order is the one in which they are asked by default.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub(crate) enum PluginId {
            $(
                #[doc = concat!("`", stringify!($name), "`")]
                $name,
            )*
        }

        impl PluginId {
            /// All of them.
            pub(crate) const ALL: &[Self] = &[$(Self::$name),*];

            /// Its name in configurations.
            pub(crate) const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                }
            }

            /// By how much its scores count if nothing else is said; 0 for one that gives none.
            pub(crate) const fn default_weight(self) -> i64 {
                match self {
                    $(Self::$name => $weight,)*
                }
            }
        }
    };
}

plugins! {
    SchedulingGates 0,
    PrioritySort 0,
    NodeUnschedulable 0,
    NodeName 0,
    TaintToleration 3,
    NodeAffinity 2,
    NodePorts 0,
    NodeResourcesFit 1,
    VolumeRestrictions 0,
    NodeVolumeLimits 0,
    VolumeBinding 0,
    VolumeZone 0,
    PodTopologySpread 2,
    InterPodAffinity 2,
    NodeDeclaredFeatures 0,
    DynamicResources 0,
    DefaultPreemption 0,
    NodeResourcesBalancedAllocation 1,
    ImageLocality 1,
    DefaultBinder 0,
    Extender 0,
}

impl PluginId {
    /// The plugin of a name. Extenders are none: they are known by this name only where they refused a pod.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|id| id.name() == name && *id != Self::Extender)
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of plugins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Plugins(u32);

impl Plugins {
    /// None.
    pub(crate) const NONE: Self = Self(0);

    /// Every plugin.
    pub(crate) fn all() -> Self {
        PluginId::ALL.iter().copied().collect()
    }

    pub(crate) fn insert(&mut self, id: PluginId) {
        self.0 |= 1 << id as u8;
    }

    pub(crate) fn contains(self, id: PluginId) -> bool {
        self.0 & (1 << id as u8) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those of both sets.
    #[must_use]
    pub(crate) fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl FromIterator<PluginId> for Plugins {
    fn from_iter<I: IntoIterator<Item = PluginId>>(ids: I) -> Self {
        let mut plugins = Self::NONE;
        ids.into_iter().for_each(|id| plugins.insert(id));
        plugins
    }
}
