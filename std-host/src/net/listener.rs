//! Binding: one listener per shard on the same port, and nobody else's.

use std::fmt;
use std::io;
use std::net::SocketAddr;

use mio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that wait in the kernel until they are accepted; the kernel has a limit of its own
/// (`net.core.somaxconn`), which cuts this.
const BACKLOG: i32 = 4096;

/// The address could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    pub cause: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, cause } = self;
        write!(f, "cannot listen on {address}: ")?;
        match cause.kind() {
            io::ErrorKind::AddrInUse => write!(
                f,
                "the port is in use; see who has it with `ss -ltnp 'sport = :{}'`, or choose another with --listen",
                address.port()
            ),
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "no interface of this machine has that address; see `ip address`")
            }
            io::ErrorKind::PermissionDenied => {
                write!(
                    f,
                    "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE, or choose another with --listen"
                )
            }
            _ => write!(f, "{cause}"),
        }
    }
}

impl std::error::Error for BindError {}

/// Opens `count` listeners on one address; port 0 picks one port for all. The kernel spreads new
/// connections over them.
///
/// The first listens alone before it lets the others in: a second server on the same port is
/// refused, where plain `SO_REUSEPORT` would quietly share the connections between the two.
///
/// # Errors
/// [`BindError`] with the address and the way out.
pub fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let fail = |cause| BindError { address, cause };
    let first = open(address).map_err(fail)?;
    first.bind(&address.into()).map_err(fail)?;
    first.listen(BACKLOG).map_err(fail)?;
    if count > 1 {
        first.set_reuse_port(true).map_err(fail)?;
    }
    let bound = first.local_addr().map_err(fail)?;
    let mut listeners = vec![first];
    for _ in 1..count {
        let next = open(address).map_err(fail)?;
        next.set_reuse_port(true).map_err(fail)?;
        next.bind(&bound).map_err(fail)?;
        next.listen(BACKLOG).map_err(fail)?;
        listeners.push(next);
    }
    Ok(listeners.into_iter().map(|socket| TcpListener::from_std(socket.into())).collect())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Connections of an earlier run in TIME-WAIT must not keep the port from a restart.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::bind;

    #[test]
    fn a_second_server_is_refused_and_told_whom_to_look_for() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 3).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|listener| listener.local_addr().unwrap() == address));
        for count in [1, 2] {
            let error = bind(address, count).unwrap_err().to_string();
            assert!(
                error.contains("in use") && error.contains(&address.port().to_string()),
                "{error}"
            );
        }
    }

    #[test]
    fn the_port_is_free_again_at_once() {
        let listeners = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = listeners[0].local_addr().unwrap();
        // The side that closes first is left in TIME-WAIT.
        let client = std::net::TcpStream::connect(address).unwrap();
        let accepted = listeners.iter().find_map(|listener| listener.accept().ok());
        assert!(accepted.is_some());
        drop(accepted);
        drop(listeners);
        drop(client);
        assert!(bind(address, 2).is_ok());
    }
}
