//! ReferenceGrants.

use serde::Deserialize;

use super::{Meta, or_default};

fields! {
    /// Lets objects of other namespaces refer to some of this one.
    pub struct ReferenceGrant {
        /// Its metadata.
        metadata: Meta,
        /// What is let.
        spec: ReferenceGrantSpec,
    }

    /// The specification of a ReferenceGrant.
    pub struct ReferenceGrantSpec {
        /// Who may refer.
        from: Vec<GrantFrom>,
        /// To what.
        to: Vec<GrantTo>,
    }

    /// Objects that may refer.
    pub struct GrantFrom {
        /// Their group.
        group: String,
        /// Their kind.
        kind: String,
        /// Their namespace.
        namespace: String,
    }

    /// Objects that may be referred to.
    pub struct GrantTo {
        /// Their group.
        group: String,
        /// Their kind.
        kind: String,
        /// The only one; all if there is none.
        name: Option<String>,
    }
}
