//! APIs that other servers answer for: an APIService that names a Service has all requests on its group and version passed on
//! to what is behind that, in the name of whoever made them. In flow APIServices, by the store's watch; out flow a table of
//! routes, the `Available` condition of each APIService, and what the other servers tell of their resources, which discovery
//! and OpenAPI merge with this server's own. The way to a Service is that of webhooks.

mod availability;
mod keeper;
mod link;
mod live;
mod proxy;
mod table;
mod told;
mod trust;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use kiln_apimachinery::metrics::{Counter, Family, write_once};
pub(crate) use live::start;
pub(crate) use proxy::serve;
pub(crate) use table::{Remote, Table};
pub(crate) use trust::publish;

/// What is known of APIServices.
#[derive(Debug)]
pub(crate) struct Aggregation {
    table: RwLock<Arc<Table>>,
    /// How often what discovery tells of it has changed.
    generation: AtomicU64,
    /// How often APIServices became unavailable.
    turned: Family<Counter>,
}

impl Default for Aggregation {
    fn default() -> Self {
        let help = "APIServices that became unavailable, by reason.";
        let turned = Family::new("aggregator_unavailable_apiservice_total", help, Counter::default);
        Self { table: RwLock::default(), generation: AtomicU64::new(0), turned }
    }
}

impl Aggregation {
    /// All APIServices, as they are now.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Who answers for a path, if that is another server.
    pub(crate) fn route(&self, path: &str) -> Option<Remote> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).route(path).cloned()
    }

    /// A number that grows whenever discovery has something new to tell.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    fn set(&self, table: Table) {
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
    }

    fn told_anew(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Writes what is counted.
    pub(crate) fn metrics(&self, out: &mut String) {
        self.turned.write(out);
        let value =
            |(name, remote): (&str, &Remote)| (format!("name=\"{name}\""), if remote.available { 0.0 } else { 1.0 });
        let values: Vec<_> = self.table().remotes().map(value).collect();
        let help = "APIServices that are unavailable.";
        write_once(out, "aggregator_unavailable_apiservice", help, "gauge", &values);
    }
}
