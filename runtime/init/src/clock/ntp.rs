//! The SNTP thread: asks the servers in turn once the network is there, then every hour.

use std::net::{ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

use super::sntp;
use crate::backoff::Backoff;
use crate::console::say;
use crate::error::{Error, Result};
use crate::network::status::NetworkStatus;

const PORT: u16 = 123;
const REPLY: Duration = Duration::from_secs(2);
const INTERVAL: Duration = Duration::from_secs(3600);

/// Starts the thread. `configured` come first, then those that DHCP names; both empty means nothing to ask.
pub(crate) fn start(configured: Vec<String>, network: Arc<NetworkStatus>) -> Result<()> {
    crate::thread::spawn("sntp", move || {
        let mut backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(600));
        let mut told = false;
        loop {
            network.wait_configured(None);
            let mut servers = network.time_servers();
            servers.extend(configured.iter().cloned());
            match servers.iter().try_for_each(|server| match ask(server) {
                Ok(()) => Err(()),
                Err(error) => {
                    if !told {
                        say!("time server {server}: {error}");
                    }
                    Ok(())
                }
            }) {
                Err(()) => {
                    backoff.reset();
                    told = false;
                    if let Err(error) = super::save() {
                        say!("clock not saved: {error}");
                    }
                    std::thread::sleep(INTERVAL);
                }
                Ok(()) => {
                    // Told once per outage; the console is for news.
                    told = true;
                    std::thread::sleep(backoff.delay());
                }
            }
        }
    })
}

fn ask(server: &str) -> Result<()> {
    let address = (server, PORT)
        .to_socket_addrs()
        .map_err(|e| Error::io("resolve", server, e))?
        .next()
        .ok_or_else(|| Error::malformed(server, "has no address"))?;
    let local = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let failed = |e| Error::io("ask", server, e);
    let socket = UdpSocket::bind(local).map_err(failed)?;
    socket.connect(address).map_err(failed)?;
    socket.set_read_timeout(Some(REPLY)).map_err(failed)?;
    let nonce = crate::random::u64();
    let sent = seconds();
    socket.send(&sntp::request(nonce)).map_err(failed)?;
    let mut packet = [0u8; 128];
    let length = socket.recv(&mut packet).map_err(failed)?;
    let offset = sntp::offset(&packet[..length], nonce, sent, seconds())
        .map_err(|e| Error::malformed(format!("the reply of {server}"), e.to_string()))?;
    super::synchronise(offset, server)
}

fn seconds() -> f64 {
    clock_gettime(ClockId::CLOCK_REALTIME).map_or(0.0, |t| Duration::from(t).as_secs_f64())
}
