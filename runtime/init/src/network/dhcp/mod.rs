//! DHCPv4 (RFC 2131): a packet codec, and a client as a state machine to which time and packets are handed.

pub(crate) mod client;
pub(crate) mod packet;
