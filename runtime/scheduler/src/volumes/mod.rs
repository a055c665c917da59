//! PersistentVolumes and their claims: what a pod's claims allow, and what was decided and is not in the mirrors yet.

mod assumed;
mod bind;
mod matching;

pub(crate) use assumed::{AssumedVolumes, Decision};
pub(crate) use bind::bind;
pub(crate) use matching::{allows, class_of, find_match, is_bound, selected_node, size_of, topology_allows};
