//! Rules, said as nft says them: what a packet must match, then what is done with it.

use std::net::IpAddr;

use super::Family;
use super::expression::{Expression, Operator, Register, Reject, SetRef, Verdict};
use super::key::Key;
use super::set::Element;

/// States of connections (`ct state`): bits of [`Field::CtState`].
pub mod ct_state {
    /// Belongs to no connection that could be.
    pub const INVALID: u32 = 1;
    /// Packets went both ways.
    pub const ESTABLISHED: u32 = 2;
    /// Begins one that another one announced.
    pub const RELATED: u32 = 4;
    /// Begins one.
    pub const NEW: u32 = 8;
    /// Is not followed.
    pub const UNTRACKED: u32 = 64;
}

/// What was done to connections (`ct status`): bits of [`Field::CtStatus`].
pub mod ct_status {
    /// Its source was translated.
    pub const SNAT: u32 = 1 << 4;
    /// Its destination was translated.
    pub const DNAT: u32 = 1 << 5;
}

/// Kinds of addresses (`fib ... type`): values of [`Field::SourceType`] and [`Field::DestinationType`].
pub mod fib_type {
    /// Leads to another machine.
    pub const UNICAST: u32 = 1;
    /// One of this machine.
    pub const LOCAL: u32 = 2;
    /// Of all on a link.
    pub const BROADCAST: u32 = 3;
    /// Of a group.
    pub const MULTICAST: u32 = 5;
}

/// What of a packet can be matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Field {
    /// `ip saddr`
    Ipv4Source,
    /// `ip daddr`
    Ipv4Destination,
    /// `ip6 saddr`
    Ipv6Source,
    /// `ip6 daddr`
    Ipv6Destination,
    /// `meta l4proto`
    Protocol,
    /// `th sport`
    SourcePort,
    /// `th dport`
    DestinationPort,
    /// `meta mark`, in the machine's byte order
    Mark,
    /// `iifname`
    InputInterface,
    /// `oifname`
    OutputInterface,
    /// `meta nfproto`: 2 for IPv4, 10 for IPv6
    NfProtocol,
    /// `ct state`, in the machine's byte order
    CtState,
    /// `ct status`, in the machine's byte order
    CtStatus,
    /// `ct direction`: 0 for packets that go as the connection's first one did, 1 for those that come back
    CtDirection,
    /// `ct mark`, in the machine's byte order
    CtMark,
    /// `fib saddr type`, in the machine's byte order
    SourceType,
    /// `fib daddr type`, in the machine's byte order
    DestinationType,
    /// `numgen random mod`, in the machine's byte order
    Random(u32),
    /// `icmp type` and `icmpv6 type`: the first byte behind the network's header
    IcmpType,
}

const META_MARK: u32 = 3;
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

impl Field {
    /// `ip saddr` or `ip6 saddr`.
    pub fn source(family: Family) -> Self {
        if family == Family::Ip6 { Self::Ipv6Source } else { Self::Ipv4Source }
    }

    /// `ip daddr` or `ip6 daddr`.
    pub fn destination(family: Family) -> Self {
        if family == Family::Ip6 { Self::Ipv6Destination } else { Self::Ipv4Destination }
    }

    fn load(self, to: Register) -> Expression {
        let payload = |base, offset, length| Expression::Payload { base, offset, length, to };
        match self {
            Self::Ipv4Source => payload(NETWORK, 12, 4),
            Self::Ipv4Destination => payload(NETWORK, 16, 4),
            Self::Ipv6Source => payload(NETWORK, 8, 16),
            Self::Ipv6Destination => payload(NETWORK, 24, 16),
            Self::SourcePort => payload(TRANSPORT, 0, 2),
            Self::DestinationPort => payload(TRANSPORT, 2, 2),
            Self::IcmpType => payload(TRANSPORT, 0, 1),
            Self::Mark => Expression::Meta { key: META_MARK, to },
            Self::InputInterface => Expression::Meta { key: 6, to },
            Self::OutputInterface => Expression::Meta { key: 7, to },
            Self::NfProtocol => Expression::Meta { key: 15, to },
            Self::Protocol => Expression::Meta { key: 16, to },
            Self::CtState => Expression::Ct { key: 0, to },
            Self::CtDirection => Expression::Ct { key: 1, to },
            Self::CtStatus => Expression::Ct { key: 2, to },
            Self::CtMark => Expression::Ct { key: 3, to },
            Self::SourceType => Expression::FibType { source: true, to },
            Self::DestinationType => Expression::FibType { source: false, to },
            Self::Random(modulus) => Expression::Random { modulus, to },
        }
    }

    /// How many registers it takes.
    fn registers(self) -> u32 {
        match self {
            Self::Ipv6Source | Self::Ipv6Destination | Self::InputInterface | Self::OutputInterface => 4,
            _ => 1,
        }
    }
}

/// A rule. Its parts hold from left to right; the first that does not match ends it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    pub(super) expressions: Vec<Expression>,
    pub(super) comment: Option<String>,
}

impl Rule {
    /// A rule that matches all and does nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a comment for whoever lists the rules: at most 120 bytes of it.
    #[must_use]
    pub fn comment(mut self, text: &str) -> Self {
        let end = (0..=text.len().min(120)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        self.comment = Some(text[..end].to_owned());
        self
    }

    /// With any expression.
    #[must_use]
    pub fn with(mut self, expression: Expression) -> Self {
        self.expressions.push(expression);
        self
    }

    /// Loads fields one behind the other, from a register on.
    fn load(mut self, fields: &[Field], from: u32) -> Self {
        let mut register = from;
        for field in fields {
            self.expressions.push(field.load(Register(register)));
            register += field.registers();
        }
        self
    }

    /// If a field compares so with a value, given as the packet or the machine has it.
    #[must_use]
    pub fn matches(self, field: Field, operator: Operator, value: &[u8]) -> Self {
        self.load(&[field], 0).with(Expression::Compare { register: Register(0), operator, value: value.to_vec() })
    }

    /// If a number in the machine's byte order (mark, `ct` and `fib`) is this one.
    #[must_use]
    pub fn is(self, field: Field, number: u32) -> Self {
        self.matches(field, Operator::Eq, &number.to_ne_bytes())
    }

    /// If a number in the machine's byte order is not this one.
    #[must_use]
    pub fn is_not(self, field: Field, number: u32) -> Self {
        self.matches(field, Operator::Ne, &number.to_ne_bytes())
    }

    /// If any of these bits is set in a number in the machine's byte order.
    #[must_use]
    pub fn has_any(self, field: Field, bits: u32) -> Self {
        self.masked(field, &bits.to_ne_bytes(), Operator::Ne, &[0; 4])
    }

    /// If it is this protocol.
    #[must_use]
    pub fn protocol(self, protocol: u8) -> Self {
        self.matches(Field::Protocol, Operator::Eq, &[protocol])
    }

    /// If the bits of a field that are set in a mask compare so with a value.
    #[must_use]
    pub fn masked(self, field: Field, mask: &[u8], operator: Operator, value: &[u8]) -> Self {
        let (register, xor) = (Register(0), vec![0; mask.len()]);
        self.load(&[field], 0)
            .with(Expression::Bitwise { register, mask: mask.to_vec(), xor })
            .with(Expression::Compare { register, operator, value: value.to_vec() })
    }

    /// If an address is in a network (`Eq`) or is not (`Ne`).
    #[must_use]
    pub fn network(self, field: Field, operator: Operator, address: IpAddr, prefix: u8) -> Self {
        let network = Element::network(address, prefix);
        let value = network.key.bytes();
        let mask: Vec<u8> = (0..value.len())
            .map(|at| {
                let bits = usize::from(prefix).saturating_sub(at * 8).min(8);
                u8::try_from((0xff00_u32 >> bits) & 0xff).unwrap_or(0xff)
            })
            .collect();
        if mask.iter().all(|byte| *byte == 0xff) {
            return self.matches(field, operator, value);
        }
        self.masked(field, &mask, operator, value)
    }

    /// If the fields, one behind the other, are in a set.
    #[must_use]
    pub fn in_set(self, fields: &[Field], set: impl Into<SetRef>) -> Self {
        let set = set.into();
        self.load(fields, 0).with(Expression::Lookup { set, from: Register(0), to: None, inverted: false })
    }

    /// If they are not.
    #[must_use]
    pub fn not_in_set(self, fields: &[Field], set: impl Into<SetRef>) -> Self {
        let set = set.into();
        self.load(fields, 0).with(Expression::Lookup { set, from: Register(0), to: None, inverted: true })
    }

    /// Decides by what the fields lead to in a verdict map; goes on if they are not in it.
    #[must_use]
    pub fn vmap(self, fields: &[Field], map: impl Into<SetRef>) -> Self {
        self.lookup(fields, map.into(), 0, Register::VERDICT)
    }

    fn lookup(self, fields: &[Field], set: SetRef, at: u32, to: Register) -> Self {
        self.load(fields, at).with(Expression::Lookup { set, from: Register(at), to: Some(to), inverted: false })
    }

    /// Leads the connection to the address and port that the fields lead to in a map; goes on if they are not in it.
    #[must_use]
    pub fn dnat_map(self, family: Family, fields: &[Field], map: impl Into<SetRef>) -> Self {
        let port = Register(if family == Family::Ip6 { 4 } else { 1 });
        let dnat = Expression::Dnat { family, address: Register(0), port: Some(port) };
        self.lookup(fields, map.into(), 0, Register(0)).with(dnat)
    }

    /// Notes the fields in a dynamic set, or renews them there; goes on unless it is full.
    #[must_use]
    pub fn update(self, set: &str, fields: &[Field]) -> Self {
        self.load(fields, 0).with(Expression::Update { set: set.to_owned(), key: Register(0) })
    }

    /// Sets bits of the packet's mark.
    #[must_use]
    pub fn set_mark(self, bits: u32) -> Self {
        self.change_mark(!bits, bits)
    }

    /// Clears bits of the packet's mark.
    #[must_use]
    pub fn clear_mark(self, bits: u32) -> Self {
        self.change_mark(!bits, 0)
    }

    fn change_mark(self, keep: u32, flip: u32) -> Self {
        let (mask, xor) = (keep.to_ne_bytes().to_vec(), flip.to_ne_bytes().to_vec());
        self.load(&[Field::Mark], 0)
            .with(Expression::Bitwise { register: Register(0), mask, xor })
            .with(Expression::SetMeta { key: META_MARK, from: Register(0) })
    }

    /// Leads the connection to a fixed address and port.
    #[must_use]
    pub fn dnat(self, family: Family, address: IpAddr, port: u16) -> Self {
        let at = Register(if family == Family::Ip6 { 4 } else { 1 });
        self.with(Expression::Immediate { to: Register(0), value: Key::new().address(address).bytes().to_vec() })
            .with(Expression::Immediate { to: at, value: port.to_be_bytes().to_vec() })
            .with(Expression::Dnat { family, address: Register(0), port: Some(at) })
    }

    /// Gives the connection the address of the interface that it leaves by.
    #[must_use]
    pub fn masquerade(self) -> Self {
        self.with(Expression::Masquerade)
    }

    /// Refuses the packet and tells the sender.
    #[must_use]
    pub fn reject(self, how: Reject) -> Self {
        self.with(Expression::Reject(how))
    }

    /// Counts.
    #[must_use]
    pub fn counter(self) -> Self {
        self.with(Expression::Counter)
    }

    /// Goes through a chain and comes back.
    #[must_use]
    pub fn jump(self, chain: &str) -> Self {
        self.with(Expression::Verdict(Verdict::Jump(chain.to_owned())))
    }

    /// Goes through a chain and does not come back here.
    #[must_use]
    pub fn goto(self, chain: &str) -> Self {
        self.with(Expression::Verdict(Verdict::Goto(chain.to_owned())))
    }

    /// Goes on to the next hook.
    #[must_use]
    pub fn accept(self) -> Self {
        self.with(Expression::Verdict(Verdict::Accept))
    }

    /// Ends here.
    #[must_use]
    pub fn drop(self) -> Self {
        self.with(Expression::Verdict(Verdict::Drop))
    }

    /// Goes back to where the chain was jumped to from.
    #[must_use]
    pub fn back(self) -> Self {
        self.with(Expression::Verdict(Verdict::Return))
    }
}
