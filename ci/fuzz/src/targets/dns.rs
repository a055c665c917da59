//! What clients and other servers of DNS send, and what administrators say about it.

use kiln_dns::testing;

/// A client's message.
pub(super) fn question(data: &[u8]) {
    testing::question(data);
}

/// Another server's answer.
pub(super) fn answer(data: &[u8]) {
    testing::answer(data);
}

/// A block of settings.
pub(super) fn corefile(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        testing::corefile(text);
    }
}
