//! Amounts of resources as whole numbers.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use kiln_apimachinery::quantity::Quantity;

use super::Name;

/// What counts for a container that asks for no processor time when nodes are scored: 100 milli-CPU.
pub(super) const DEFAULT_MILLI_CPU: i64 = 100;
/// What counts for a container that asks for no memory when nodes are scored: 200 MiB, in bytes.
pub(super) const DEFAULT_MEMORY: i64 = 200 << 20;

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Resources {
    /// Thousandths of a processor.
    pub(crate) milli_cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
    /// Bytes.
    pub(crate) ephemeral_storage: i64,
    /// Huge pages, extended and other resources, in the order of their names.
    pub(crate) scalars: Vec<(Name, i64)>,
}

/// Processor time and memory with the defaults for containers that ask for none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct NonZero {
    /// Thousandths of a processor.
    pub(crate) milli_cpu: i64,
    /// Bytes.
    pub(crate) memory: i64,
}

impl Resources {
    /// The amounts in an API object, without `pods`. An amount that is none counts as nothing; the API server lets none through.
    pub(super) fn of(list: Option<&BTreeMap<String, ApiQuantity>>, mut name: impl FnMut(&str) -> Name) -> Self {
        let mut resources = Self::default();
        for (resource, quantity) in list.into_iter().flatten() {
            let quantity = Quantity::parse(&quantity.0).unwrap_or(Quantity::ZERO);
            match &**resource {
                "cpu" => resources.milli_cpu = quantity.milli_value(),
                "memory" => resources.memory = quantity.value(),
                "ephemeral-storage" => resources.ephemeral_storage = quantity.value(),
                "pods" => {}
                other => resources.scalars.push((name(other), quantity.value())),
            }
        }
        resources
    }

    /// The amount of a resource that is neither processor time, memory nor ephemeral storage.
    pub(crate) fn scalar(&self, name: &str) -> i64 {
        self.scalars.iter().find(|(known, _)| &**known == name).map_or(0, |(_, amount)| *amount)
    }

    /// Adds other amounts, `times` times.
    pub(crate) fn add(&mut self, other: &Self, times: i64) {
        self.combine(other, |mine, others| mine.saturating_add(others.saturating_mul(times)));
    }

    /// Takes the greater of each amount.
    pub(super) fn max(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    fn combine(&mut self, other: &Self, with: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = with(self.milli_cpu, other.milli_cpu);
        self.memory = with(self.memory, other.memory);
        self.ephemeral_storage = with(self.ephemeral_storage, other.ephemeral_storage);
        for (name, amount) in &other.scalars {
            match self.scalars.binary_search_by(|(known, _)| known.cmp(name)) {
                Ok(at) => self.scalars[at].1 = with(self.scalars[at].1, *amount),
                Err(at) => self.scalars.insert(at, (name.clone(), with(0, *amount))),
            }
        }
    }
}
