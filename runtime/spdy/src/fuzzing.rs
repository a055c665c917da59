//! Doors for the fuzzer.

use crate::frame::Decoder;

/// Reads the bytes of a peer to their end.
pub fn read(bytes: &[u8]) {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().build() else { return };
    runtime.block_on(async {
        let mut decoder = Decoder::new(bytes);
        while let Ok(Some(_)) = decoder.next().await {}
    });
}
