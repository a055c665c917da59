//! What a rule is made of: expressions that load registers, compare them and act.

use super::set::{Element, Set, write_data};
use super::uapi::{data, expression};
use super::wire::Writer;
use super::{Family, uapi};

/// A register of four bytes; what is longer goes on in the next ones. There are sixteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Register(pub u32);

impl Register {
    /// The kernel's number of the first register of four bytes.
    const FIRST: u32 = 8;
    /// The register that verdicts go to.
    pub const VERDICT: Self = Self(u32::MAX);

    fn number(self) -> u32 {
        if self == Self::VERDICT { 0 } else { Self::FIRST + self.0 }
    }
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes on to the next hook.
    Accept,
    /// It ends here.
    Drop,
    /// It goes through a chain and comes back.
    Jump(String),
    /// It goes through a chain and does not come back here.
    Goto(String),
    /// It goes back to where the chain was jumped to from.
    Return,
}

impl Verdict {
    pub(super) fn write(&self, into: &mut Writer, kind: u16) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5, None),
        };
        let outer = into.nest(kind);
        let inner = into.nest(data::VERDICT);
        into.put(data::VERDICT_CODE, &i32::to_be_bytes(code));
        if let Some(chain) = chain {
            into.put_text(data::VERDICT_CHAIN, chain);
        }
        into.end(&inner);
        into.end(&outer);
    }
}

/// How a register is compared, byte by byte from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Operator {
    /// Equal.
    Eq = 0,
    /// Not equal.
    Ne = 1,
    /// Less.
    Lt = 2,
    /// Less or equal.
    Le = 3,
    /// Greater.
    Gt = 4,
    /// Greater or equal.
    Ge = 5,
}

/// How a sender is told that its packet goes no further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reject {
    /// By ICMP or ICMPv6: destination unreachable, with this code. For tables of one family.
    Icmp(u8),
    /// By ICMP of the packet's family, with this code of the kernel's (1 is port unreachable). For tables of the family inet.
    Icmpx(u8),
    /// By a TCP reset; the rule must have seen that it is TCP.
    TcpReset,
}

impl Reject {
    /// Port unreachable, in a table of this family.
    pub fn port_unreachable(family: Family) -> Self {
        match family {
            Family::Ip => Self::Icmp(3),
            Family::Ip6 => Self::Icmp(4),
            _ => Self::Icmpx(1),
        }
    }
}

/// The set that a rule looks into.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum SetRef {
    /// One of the table's.
    Named(String),
    /// One of the rule's own, which goes with it; its name does not matter.
    Own(Box<(Set, Vec<Element>)>),
}

impl SetRef {
    /// A set of the rule's own.
    pub fn own(set: Set, elements: Vec<Element>) -> Self {
        Self::Own(Box::new((set, elements)))
    }
}

impl From<&str> for SetRef {
    fn from(name: &str) -> Self {
        Self::Named(name.to_owned())
    }
}

impl From<&String> for SetRef {
    fn from(name: &String) -> Self {
        Self::Named(name.clone())
    }
}

/// One step of a rule. The first that does not hold ends the rule.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "the fields of each are what its line says")]
pub enum Expression {
    /// Loads bytes of a header: 1 is the network's, 2 the transport's.
    Payload { base: u32, offset: u32, length: u32, to: Register },
    /// Loads what is known of the packet besides its bytes, by `nft_meta_keys`.
    Meta { key: u32, to: Register },
    /// Sets it.
    SetMeta { key: u32, from: Register },
    /// Loads what is known of the connection, by `nft_ct_keys`.
    Ct { key: u32, to: Register },
    /// Loads which kind of address the source or the destination is, by the routes.
    FibType { source: bool, to: Register },
    /// Loads a random number below a modulus.
    Random { modulus: u32, to: Register },
    /// `register = (register & mask) ^ xor`.
    Bitwise { register: Register, mask: Vec<u8>, xor: Vec<u8> },
    /// Goes on if the comparison holds.
    Compare { register: Register, operator: Operator, value: Vec<u8> },
    /// Goes on if the key is in the set (or is not), or loads what the key leads to if it is.
    Lookup { set: SetRef, from: Register, to: Option<Register>, inverted: bool },
    /// Adds a key to a dynamic set, or renews it; goes on unless the set is full.
    Update { set: String, key: Register },
    /// Loads a value.
    Immediate { to: Register, value: Vec<u8> },
    /// Decides.
    Verdict(Verdict),
    /// Leads the connection to another destination.
    Dnat { family: Family, address: Register, port: Option<Register> },
    /// Gives the connection another source.
    Snat { family: Family, address: Register },
    /// Gives the connection the address of the interface that it leaves by, and a random port.
    Masquerade,
    /// Refuses.
    Reject(Reject),
    /// Counts packets and bytes.
    Counter,
}

impl Expression {
    fn name(&self) -> &'static str {
        match self {
            Self::Payload { .. } => "payload",
            Self::Meta { .. } | Self::SetMeta { .. } => "meta",
            Self::Ct { .. } => "ct",
            Self::FibType { .. } => "fib",
            Self::Random { .. } => "numgen",
            Self::Bitwise { .. } => "bitwise",
            Self::Compare { .. } => "cmp",
            Self::Lookup { .. } => "lookup",
            Self::Update { .. } => "dynset",
            Self::Immediate { .. } | Self::Verdict(_) => "immediate",
            Self::Dnat { .. } | Self::Snat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Reject(_) => "reject",
            Self::Counter => "counter",
        }
    }

    /// The set that goes with the rule, if this looks into one.
    pub(super) fn own_set(&self) -> Option<&(Set, Vec<Element>)> {
        match self {
            Self::Lookup { set: SetRef::Own(own), .. } => Some(own),
            _ => None,
        }
    }

    /// Writes it; `own` is the name and number of its own set within the batch.
    pub(super) fn write(&self, into: &mut Writer, own: Option<(&str, u32)>) {
        let open = into.nest(uapi::LIST_ELEMENT);
        into.put_text(expression::NAME, self.name());
        let inner = into.nest(expression::DATA);
        self.write_body(into, own);
        into.end(&inner);
        into.end(&open);
    }

    fn write_body(&self, into: &mut Writer, own: Option<(&str, u32)>) {
        match self {
            Self::Payload { base, offset, length, to } => {
                numbers(into, &[(1, to.number()), (2, *base), (3, *offset), (4, *length)]);
            }
            Self::Meta { key, to } => numbers(into, &[(1, to.number()), (2, *key)]),
            Self::SetMeta { key, from } => numbers(into, &[(2, *key), (3, from.number())]),
            Self::Ct { key, to } => numbers(into, &[(1, to.number()), (2, *key)]),
            Self::FibType { source, to } => {
                numbers(into, &[(1, to.number()), (2, 3), (3, if *source { 1 } else { 2 })]);
            }
            Self::Random { modulus, to } => numbers(into, &[(1, to.number()), (2, *modulus), (3, 1), (4, 0)]),
            Self::Bitwise { register, mask, xor } => {
                let length = u32::try_from(mask.len()).unwrap_or(u32::MAX);
                numbers(into, &[(1, register.number()), (2, register.number()), (3, length)]);
                write_data(into, 4, mask);
                write_data(into, 5, xor);
                numbers(into, &[(6, 0)]);
            }
            Self::Compare { register, operator, value } => {
                numbers(into, &[(1, register.number()), (2, *operator as u32)]);
                write_data(into, 3, value);
            }
            Self::Lookup { set, from, to, inverted } => {
                match (set, own) {
                    (SetRef::Named(name), _) => into.put_text(1, name),
                    (SetRef::Own(_), Some((name, id))) => {
                        into.put_text(1, name);
                        numbers(into, &[(4, id)]);
                    }
                    (SetRef::Own(_), None) => {}
                }
                numbers(into, &[(2, from.number())]);
                if let Some(to) = to {
                    numbers(into, &[(3, to.number())]);
                }
                numbers(into, &[(5, u32::from(*inverted))]);
            }
            Self::Update { set, key } => {
                into.put_text(1, set);
                numbers(into, &[(3, 1), (4, key.number())]);
            }
            Self::Immediate { to, value } => {
                numbers(into, &[(1, to.number())]);
                write_data(into, 2, value);
            }
            Self::Verdict(verdict) => {
                numbers(into, &[(1, Register::VERDICT.number())]);
                verdict.write(into, 2);
            }
            Self::Dnat { family, address, port } => {
                numbers(into, &[(1, 1), (2, *family as u32), (3, address.number())]);
                if let Some(port) = port {
                    numbers(into, &[(5, port.number())]);
                }
            }
            Self::Snat { family, address } => numbers(into, &[(1, 0), (2, *family as u32), (3, address.number())]),
            // NF_NAT_RANGE_PROTO_RANDOM_FULLY
            Self::Masquerade => numbers(into, &[(1, 16)]),
            Self::Reject(how) => {
                let (kind, code) = match how {
                    Reject::Icmp(code) => (0, *code),
                    Reject::TcpReset => (1, 0),
                    Reject::Icmpx(code) => (2, *code),
                };
                numbers(into, &[(1, kind)]);
                into.put(2, &[code]);
            }
            Self::Counter => {}
        }
    }
}

fn numbers(into: &mut Writer, values: &[(u16, u32)]) {
    for (kind, value) in values {
        into.put_u32(*kind, *value);
    }
}
