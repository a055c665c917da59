//! nf_tables, spoken to the kernel itself: what to change goes into a [`Batch`], which a [`Socket`] has applied as a whole or not at
//! all. In come tables, chains, rules and sets as types; out go netlink messages, and errors that name the object that the kernel
//! refused. Nothing here knows what a rule is for, and no other program is run.
//!
//! ```no_run
//! use kiln_network::nft::{Base, Batch, Family, Field, Hook, Kind, Rule, Set, Socket, Table, Type};
//!
//! let table = Table::new(Family::Ip, "kiln-example");
//! let mut batch = Batch::new();
//! batch.recreate_table(&table);
//! batch.add_set(&table, &Set::new("blocked", &[Type::Ipv4]));
//! batch.add_elements(&table, "blocked", [std::net::Ipv4Addr::new(192, 0, 2, 1).into()]);
//! batch.add_base_chain(&table, "input", &Base { kind: Kind::Filter, hook: Hook::Input, priority: 0 });
//! batch.add_rule(&table, "input", &Rule::new().in_set(&[Field::Ipv4Source], "blocked").drop());
//! Socket::open()?.apply(&batch)?;
//! # Ok::<(), kiln_network::nft::NftError>(())
//! ```

mod batch;
mod error;
mod expression;
mod key;
mod presence;
mod rule;
mod set;
mod socket;
mod uapi;
pub(crate) mod wire;

use std::fmt;
use std::sync::Arc;

pub use batch::{Base, Batch, Hook, Kind};
pub use error::NftError;
pub use expression::{Expression, Operator, Register, Reject, SetRef, Verdict};
pub use key::{Key, Type};
pub(crate) use presence::present;
pub use rule::{Field, Rule, ct_state, ct_status, fib_type};
pub use set::{Element, Set, Value};
pub use socket::{Held, Socket};

/// Which packets a table sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Family {
    /// Both IPv4 and IPv6.
    Inet = 1,
    /// IPv4.
    Ip = 2,
    /// Frames of a device, before all else.
    Netdev = 5,
    /// Frames that a bridge passes.
    Bridge = 7,
    /// IPv6.
    Ip6 = 10,
}

/// A table's name and family. Cloning it is cheap.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Table {
    /// Which packets it sees.
    pub family: Family,
    /// Its name.
    pub name: Arc<str>,
}

impl Table {
    /// The table of that name.
    pub fn new(family: Family, name: &str) -> Self {
        Self { family, name: name.into() }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inet => "inet",
            Self::Ip => "ip",
            Self::Netdev => "netdev",
            Self::Bridge => "bridge",
            Self::Ip6 => "ip6",
        })
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.family, self.name)
    }
}
