//! Free ports on loopback.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

/// The address on loopback with this port.
pub(super) fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Whether somebody could listen there now.
pub(super) fn is_free(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

/// Two ports that were free a moment ago, for a process that must have the same ones again after it was killed.
pub(super) fn two_free() -> std::io::Result<(u16, u16)> {
    let (first, second) = (TcpListener::bind(loopback(0))?, TcpListener::bind(loopback(0))?);
    Ok((first.local_addr()?.port(), second.local_addr()?.port()))
}
