//! What a node takes back from the kernel when it goes for good: interfaces and tables. While `kiln` is merely restarted all of it stays.

use crate::nft::{Batch, Family, NftError, Socket, Table};
use crate::overlay::{self, NetlinkError};
use crate::{announce, policy, services};

/// Something of the network could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// A table of netfilter.
    #[error(transparent)]
    Table(#[from] NftError),
    /// An interface.
    #[error(transparent)]
    Interface(#[from] NetlinkError),
}

/// Removes the tables of Services and policies, what the firewall has for pods, addresses of load balancers that are announced, the
/// interfaces of the overlay, and with them all routes through them, and the pods' `bridge`; in the network namespace of this
/// thread. What is not there is no error.
///
/// # Errors
/// See [`RemoveError`]; what was removed until then is gone.
pub fn remove(bridge: &str) -> Result<(), RemoveError> {
    let mut socket = Socket::open()?;
    for family in [Family::Ip, Family::Ip6] {
        for name in [services::TABLE, policy::TABLE] {
            let table = Table::new(family, name);
            if socket.has_table(&table)? {
                let mut batch = Batch::new();
                batch.delete_table(&table);
                socket.apply(&batch)?;
            }
        }
    }
    overlay::remove_firewall()?;
    announce::remove()?;
    Ok(overlay::remove(bridge)?)
}
