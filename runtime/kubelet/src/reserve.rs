//! What of the machine is not for pods, and how many of them there may be: settings of the upstream kubelet
//! (<https://kubernetes.io/docs/tasks/administer-cluster/reserve-compute-resources/>).

use std::collections::BTreeMap;

use kiln_apimachinery::quantity::Quantity;

use crate::machine::Facts;
use crate::resources::{Amounts, CPU, EPHEMERAL_STORAGE, MEMORY};

/// The most pods of a node: upstream's default.
const PODS: u32 = 110;
/// The resource's name of process ids, which nothing but a reservation has.
const PIDS: &str = "pid";

/// What pods do not get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reserve {
    /// The most pods (`maxPods`).
    pub pods: u32,
    /// For what runs pods (`kubeReserved`).
    pub kube: Amounts,
    /// For the rest of the system (`systemReserved`).
    pub system: Amounts,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { pods: PODS, kube: Amounts::new(), system: Amounts::new() }
    }
}

/// More is reserved than there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid Node Allocatable configuration. Resource \"{resource}\" has a reservation of {reserved} but capacity of \
     {capacity}. Expected capacity >= reservation; lower kube-reserved or system-reserved"
)]
pub struct TooMuch {
    /// Of what.
    pub resource: &'static str,
    /// How much is reserved.
    pub reserved: String,
    /// How much there is.
    pub capacity: String,
}

impl Reserve {
    /// Reads `cpu=500m,memory=100Mi,ephemeral-storage=1Gi,pid=100`.
    ///
    /// # Errors
    /// What cannot be read, or is no resource that can be reserved.
    pub fn parse(text: &str) -> Result<Amounts, String> {
        let mut amounts = BTreeMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
            if ![CPU, MEMORY, EPHEMERAL_STORAGE, PIDS].contains(&name) {
                return Err(format!(
                    "cannot reserve \"{name}\" resource; there are cpu, memory, ephemeral-storage, pid"
                ));
            }
            let amount = Quantity::parse(value).map_err(|error| format!("{name}: `{value}`: {error}"))?;
            if amount.is_negative() {
                return Err(format!("resource quantity for \"{name}\" cannot be negative: {value}"));
            }
            amounts.insert(name.to_owned(), amount);
        }
        Ok(amounts)
    }

    /// How much of a resource is reserved.
    pub(crate) fn of(&self, resource: &str) -> Quantity {
        let all = [&self.kube, &self.system].into_iter().filter_map(|amounts| amounts.get(resource).copied());
        all.fold(Quantity::ZERO, Quantity::plus)
    }

    /// Bytes of a resource that are reserved.
    pub(crate) fn bytes(&self, resource: &str) -> u64 {
        u64::try_from(self.of(resource).value()).unwrap_or(0)
    }

    /// Whether the machine has what is reserved of it.
    ///
    /// # Errors
    /// The first resource of which it has less.
    pub fn check(&self, facts: &Facts) -> Result<(), TooMuch> {
        let whole = |amount: u64| Quantity::whole(i64::try_from(amount).unwrap_or(i64::MAX));
        let there = [(CPU, u64::from(facts.cpus)), (MEMORY, facts.memory), (EPHEMERAL_STORAGE, facts.disk)];
        for (resource, capacity) in there {
            let (reserved, capacity) = (self.of(resource), whole(capacity));
            if reserved > capacity {
                return Err(TooMuch { resource, reserved: reserved.to_string(), capacity: capacity.to_string() });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_reserve_is_added() {
        let kube = Reserve::parse("cpu=250m, memory=64Mi").expect("amounts");
        let system = Reserve::parse("memory=64Mi,ephemeral-storage=1Gi,pid=100").expect("amounts");
        let reserve = Reserve { kube, system, ..Reserve::default() };
        assert_eq!((reserve.of(CPU).milli_value(), reserve.bytes(MEMORY)), (250, 128 << 20));
        assert_eq!((reserve.bytes(EPHEMERAL_STORAGE), reserve.bytes("other")), (1 << 30, 0));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, why) in [
            ("cpu", "`cpu` has no `=`"),
            ("gpu=1", "cannot reserve \"gpu\" resource; there are cpu, memory, ephemeral-storage, pid"),
            ("memory=-1Mi", "resource quantity for \"memory\" cannot be negative: -1Mi"),
        ] {
            assert_eq!(Reserve::parse(text), Err(why.to_owned()));
        }
        assert!(Reserve::parse("memory=lots").expect_err("refused").starts_with("memory: `lots`: "));
    }
}
