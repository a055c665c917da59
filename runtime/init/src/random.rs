//! Random numbers from the kernel.

use std::fs::File;
use std::io::Read;

/// Fills a buffer from `/dev/urandom`; if that cannot be read, from the uptime, which is enough for what PID 1 needs
/// (transaction ids and jitter).
pub(crate) fn fill(buffer: &mut [u8]) {
    let read = File::open("/dev/urandom").and_then(|mut file| file.read_exact(buffer));
    if read.is_err() {
        let seed = crate::sys::uptime::now().as_nanos().to_le_bytes();
        for (byte, value) in buffer.iter_mut().zip(seed.iter().cycle()) {
            *byte = *value;
        }
    }
}

/// 64 random bits.
pub(crate) fn u64() -> u64 {
    let mut bytes = [0u8; 8];
    fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
