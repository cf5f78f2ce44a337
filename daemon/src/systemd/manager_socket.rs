// SPDX-License-Identifier: MIT OR Apache-2.0
//! The socket on which the service manager listens to the daemon: `$NOTIFY_SOCKET`, sd_notify(3).
//!
//! It is opened when it is used first, which is when the daemon starts, and kept: whether the manager hears of something is not to
//! depend on whether there is one more descriptor to be had at that moment. A daemon without a descriptor left would otherwise be ended
//! by its watchdog.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::env;
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::OnceLock;

/// None if there is no manager: then nobody is told anything, and nothing fails.
static SOCKET: OnceLock<Option<Listener>> = OnceLock::new();

#[derive(Debug)]
struct Listener {
    socket: UnixDatagram,
    address: SocketAddr,
}

/// Tells the manager something, lines of `NAME=VALUE`.
pub(super) fn tell(message: &str) -> io::Result<()> {
    send(message, &[])
}

/// Tells it something about a descriptor, which it gets.
pub(super) fn tell_with(message: &str, fd: BorrowedFd<'_>) -> io::Result<()> {
    send(message, &[fd])
}

fn send(message: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let listener = match SOCKET.get() {
        Some(listener) => listener,
        None => {
            let opened = open()?;
            SOCKET.get_or_init(|| opened)
        }
    };
    let Some(Listener { socket, address }) = listener else {
        return Ok(());
    };
    match send_on(socket, message, fds) {
        // Whoever listened there does so no more; somebody else may.
        Err(rustix::io::Errno::CONNREFUSED | rustix::io::Errno::NOTCONN) => {
            socket.connect_addr(address)?;
            send_on(socket, message, fds)?;
        }
        result => result?,
    }
    Ok(())
}

fn open() -> io::Result<Option<Listener>> {
    let Some(name) = env::var_os("NOTIFY_SOCKET") else {
        return Ok(None);
    };
    // "@" stands for the NUL that an abstract name begins with.
    let address = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.connect_addr(&address)?;
    Ok(Some(Listener { socket, address }))
}

fn send_on(
    socket: &UnixDatagram,
    message: &str,
    fds: &[BorrowedFd<'_>],
) -> Result<(), rustix::io::Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut rights = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        rights.push(SendAncillaryMessage::ScmRights(fds));
    }
    let text = [IoSlice::new(message.as_bytes())];
    sendmsg(socket, &text, &mut rights, SendFlags::NOSIGNAL)?;
    Ok(())
}
