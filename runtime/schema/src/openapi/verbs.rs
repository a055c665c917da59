//! Verbs as operations, with their query parameters.

/// A verb as an operation.
pub(super) struct Verb {
    /// As rules and rows name it.
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    /// `x-kubernetes-action`.
    pub(super) action: &'static str,
    /// How operations' ids begin.
    pub(super) id: &'static str,
    /// Query parameters, with their types.
    pub(super) query: &'static [(&'static str, &'static str)],
}

pub(super) const TEXT: &str = "string";
pub(super) const FLAG: &str = "boolean";
pub(super) const NUMBER: &str = "integer";

pub(super) const VERBS: &[Verb] = &[
    Verb {
        name: "list",
        method: "get",
        action: "list",
        id: "list",
        query: &[
            ("allowWatchBookmarks", FLAG),
            ("continue", TEXT),
            ("fieldSelector", TEXT),
            ("labelSelector", TEXT),
            ("limit", NUMBER),
            ("resourceVersion", TEXT),
            ("resourceVersionMatch", TEXT),
            ("sendInitialEvents", FLAG),
            ("timeoutSeconds", NUMBER),
            ("watch", FLAG),
        ],
    },
    Verb {
        name: "create",
        method: "post",
        action: "post",
        id: "create",
        query: &[("dryRun", TEXT), ("fieldManager", TEXT), ("fieldValidation", TEXT)],
    },
    Verb {
        name: "deletecollection",
        method: "delete",
        action: "deletecollection",
        id: "delete",
        query: &[
            ("continue", TEXT),
            ("dryRun", TEXT),
            ("fieldSelector", TEXT),
            ("gracePeriodSeconds", NUMBER),
            ("ignoreStoreReadErrorWithClusterBreakingPotential", FLAG),
            ("labelSelector", TEXT),
            ("limit", NUMBER),
            ("orphanDependents", FLAG),
            ("propagationPolicy", TEXT),
            ("resourceVersion", TEXT),
            ("resourceVersionMatch", TEXT),
            ("sendInitialEvents", FLAG),
            ("timeoutSeconds", NUMBER),
        ],
    },
    Verb { name: "get", method: "get", action: "get", id: "read", query: &[] },
    Verb {
        name: "update",
        method: "put",
        action: "put",
        id: "replace",
        query: &[("dryRun", TEXT), ("fieldManager", TEXT), ("fieldValidation", TEXT)],
    },
    Verb {
        name: "patch",
        method: "patch",
        action: "patch",
        id: "patch",
        query: &[("dryRun", TEXT), ("fieldManager", TEXT), ("fieldValidation", TEXT), ("force", FLAG)],
    },
    Verb {
        name: "delete",
        method: "delete",
        action: "delete",
        id: "delete",
        query: &[
            ("dryRun", TEXT),
            ("gracePeriodSeconds", NUMBER),
            ("ignoreStoreReadErrorWithClusterBreakingPotential", FLAG),
            ("orphanDependents", FLAG),
            ("propagationPolicy", TEXT),
        ],
    },
];
