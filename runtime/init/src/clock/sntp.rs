//! The 48-byte SNTP packet (RFC 4330): what is sent, what is believed, and the offset it gives.

/// Seconds between 1900 and 1970.
const EPOCH: f64 = 2_208_988_800.0;
/// One turn of the 32-bit seconds; times before 2004 on this clock belong to the next era (from 2036).
const ERA: f64 = 4_294_967_296.0;
/// Packet size.
pub(super) const SIZE: usize = 48;

/// A request: version 4, mode client, and a nonce where the transmit time goes; the server must echo it.
pub(super) fn request(nonce: u64) -> [u8; SIZE] {
    let mut packet = [0u8; SIZE];
    packet[0] = 4 << 3 | 3;
    packet[40..48].copy_from_slice(&nonce.to_be_bytes());
    packet
}

/// Why a reply is not believed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    /// Too short, or not a server's reply.
    #[error("is not an SNTP reply")]
    Form,
    /// It answers something we did not ask.
    #[error("answers another request")]
    Nonce,
    /// The server says that it has no time itself, or that we ask too often.
    #[error("comes from a server without time")]
    Unsynchronised,
}

/// The clock's offset in seconds (positive: we are behind). `sent` and `received` are our times, seconds since 1970.
pub(super) fn offset(packet: &[u8], nonce: u64, sent: f64, received: f64) -> Result<f64, Refused> {
    if packet.len() < SIZE || packet[0] & 7 != 4 {
        return Err(Refused::Form);
    }
    if packet[24..32] != nonce.to_be_bytes() {
        return Err(Refused::Nonce);
    }
    let (leap, stratum) = (packet[0] >> 6, packet[1]);
    if leap == 3 || stratum == 0 || stratum > 15 {
        return Err(Refused::Unsynchronised);
    }
    let (arrived, left) = (timestamp(packet, 32), timestamp(packet, 40));
    Ok(((arrived - sent) + (left - received)) / 2.0)
}

fn timestamp(packet: &[u8], at: usize) -> f64 {
    let word = |at: usize| f64::from(u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]));
    let seconds = word(at);
    let seconds = if seconds < 0x8000_0000u32 as f64 { seconds + ERA } else { seconds };
    seconds - EPOCH + word(at + 4) / ERA
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(nonce: u64, seconds: u32) -> [u8; SIZE] {
        let mut packet = [0u8; SIZE];
        packet[0] = 4 << 3 | 4;
        packet[1] = 2;
        packet[24..32].copy_from_slice(&nonce.to_be_bytes());
        for at in [32, 40] {
            packet[at..at + 4].copy_from_slice(&seconds.to_be_bytes());
        }
        packet
    }

    #[test]
    fn the_offset_takes_the_way_there_and_back_into_account() {
        // The server's clock says 1000 s after 1970; we sent at 900 and got the answer at 902.
        let packet = reply(7, (EPOCH as u64 + 1000) as u32);
        assert_eq!(offset(&packet, 7, 900.0, 902.0), Ok(99.0));
    }

    #[test]
    fn the_era_after_2036_is_understood() {
        let packet = reply(7, 10);
        let expected = ERA - EPOCH + 10.0;
        assert_eq!(offset(&packet, 7, expected, expected), Ok(0.0));
    }

    #[test]
    fn forged_or_useless_replies_are_refused() {
        let good = reply(7, 0x9000_0000);
        assert_eq!(offset(&good, 8, 0.0, 0.0), Err(Refused::Nonce));
        let mut kiss = good;
        kiss[1] = 0;
        assert_eq!(offset(&kiss, 7, 0.0, 0.0), Err(Refused::Unsynchronised));
        assert_eq!(offset(&good[..40], 7, 0.0, 0.0), Err(Refused::Form));
        assert_eq!(offset(&request(7), 7, 0.0, 0.0), Err(Refused::Form));
    }
}
