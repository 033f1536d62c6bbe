//! Servers to compare with: raw echoes, and prototypes of the shapes a host server can have.
//!
//! The echoes say what this machine's loopback gives to a server that does nothing. The shapes all do the same work
//! on each packet (see [`responder`]) and differ only in who waits for a socket, who owns buffers, and who keeps time.

pub mod echo;
pub mod responder;
pub mod shard;
pub mod task;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use anyhow::{Context, Result};
use socket2::{Domain, Protocol, Socket, Type};

use crate::host;

/// The kernel cuts this to its own limit; a thousand connections at once must not be turned away.
const BACKLOG: i32 = 4096;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One thread, level-triggered epoll, raw echo.
    EchoEpoll,
    /// A task per connection on one Tokio thread, raw echo.
    EchoTokio,
    /// A task per connection on one Tokio thread, with a timer each, answering heartbeats.
    Task {
        /// Whether a task owns its read buffer or borrows the thread's.
        own_buffer: bool,
    },
    /// One loop that owns all sockets, waiting as one task of a Tokio thread, answering heartbeats.
    ShardAsyncFd,
    /// The same loop, waiting in the kernel itself.
    ShardMio,
}

/// How a baseline runs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where to listen; port 0 picks one.
    pub listen: SocketAddr,
    /// The core to run on.
    pub core: Option<usize>,
    /// Silence after which a shape closes a connection.
    pub idle_timeout: Duration,
}

/// Listens, says where on the standard output, and serves until the process is ended.
pub fn serve(kind: Kind, options: &Options) -> Result<()> {
    host::end_with_parent()?;
    host::raise_descriptor_limit()?;
    if let Some(core) = options.core {
        host::pin(&[core])?;
    }
    let listener = listen(options.listen)?;
    announce(&listener)?;
    match kind {
        Kind::EchoEpoll => echo::epoll(&listener),
        Kind::EchoTokio => echo::tokio(listener),
        Kind::Task { own_buffer } => task::serve(listener, options.idle_timeout, own_buffer),
        Kind::ShardAsyncFd => shard::serve_in_tokio(listener, options.idle_timeout),
        Kind::ShardMio => shard::serve_in_mio(listener, options.idle_timeout),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into()).with_context(|| format!("cannot listen on {address}"))?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn announce(listener: &TcpListener) -> Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "listening on {}", listener.local_addr()?)?;
    stdout.flush()?;
    Ok(())
}
