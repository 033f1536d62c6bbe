//! A server behind real TCP.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::rc::Rc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::target::{Clock, Closed, Endpoints, Limits, Received, Target, Wire, WireError};

/// A server that listens on a TCP address and runs by real time.
pub struct TcpTarget {
    address: SocketAddr,
    limits: Limits,
    translated: bool,
    clock: Rc<RealClock>,
}

impl TcpTarget {
    /// A server at `address` that runs with `limits`.
    #[must_use]
    pub fn new(address: SocketAddr, limits: Limits) -> Self {
        Self { address, limits, translated: false, clock: Rc::new(RealClock(Instant::now())) }
    }

    /// Says that something between client and server (an emulator's port forwarding) changes addresses, so that the
    /// server cannot be expected to list those the client knows.
    #[must_use]
    pub fn translated(mut self, translated: bool) -> Self {
        self.translated = translated;
        self
    }

    fn open(&self, window: Option<usize>) -> Result<Box<dyn Wire>, WireError> {
        let stream = connect(self.address, window, self.limits.reply_timeout).map_err(broken)?;
        Ok(Box::new(TcpWire { stream, translated: self.translated }))
    }
}

impl Target for TcpTarget {
    fn connect(&mut self) -> Result<Box<dyn Wire>, WireError> {
        self.open(None)
    }

    fn connect_narrow(&mut self, window: usize) -> Option<Result<Box<dyn Wire>, WireError>> {
        Some(self.open(Some(window)))
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn clock(&self) -> Rc<dyn Clock> {
        self.clock.clone()
    }
}

fn connect(
    address: SocketAddr,
    window: Option<usize>,
    timeout: Duration,
) -> std::io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if let Some(window) = window {
        // Must precede the connect: the window's scale is settled in the handshake.
        socket.set_recv_buffer_size(window)?;
    }
    socket.connect_timeout(&address.into(), timeout)?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    Ok(stream)
}

struct RealClock(Instant);

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

struct TcpWire {
    stream: TcpStream,
    translated: bool,
}

impl Wire for TcpWire {
    fn send(&mut self, bytes: &[u8], timeout: Duration) -> Result<usize, WireError> {
        let deadline = Instant::now() + timeout;
        let mut accepted = 0;
        while accepted < bytes.len() {
            self.stream.set_write_timeout(Some(remaining(deadline))).map_err(broken)?;
            match self.stream.write(&bytes[accepted..]) {
                Ok(count) => accepted += count,
                Err(error) if is_timeout(&error) => {}
                Err(error) if is_closed(&error) => return Err(WireError::Closed),
                Err(error) => return Err(broken(error)),
            }
            if Instant::now() >= deadline {
                break;
            }
        }
        Ok(accepted)
    }

    fn recv(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, WireError> {
        let deadline = Instant::now() + timeout;
        loop {
            self.stream.set_read_timeout(Some(remaining(deadline))).map_err(broken)?;
            match self.stream.read(buffer) {
                Ok(0) => return Ok(Received::Closed(Closed::Eof)),
                Ok(count) => return Ok(Received::Bytes(count)),
                Err(error) if is_timeout(&error) => {}
                Err(error) if is_closed(&error) => return Ok(Received::Closed(Closed::Reset)),
                Err(error) => return Err(broken(error)),
            }
            if Instant::now() >= deadline {
                return Ok(Received::Quiet);
            }
        }
    }

    fn half_close(&mut self) -> Result<(), WireError> {
        self.stream.shutdown(Shutdown::Write).map_err(|error| match error.kind() {
            ErrorKind::NotConnected => WireError::Closed,
            _ => broken(error),
        })
    }

    fn endpoints(&self) -> Option<Endpoints> {
        if self.translated {
            return None;
        }
        let local = self.stream.peer_addr().ok()?;
        let remote = self.stream.local_addr().ok()?;
        Some(Endpoints { local, remote })
    }
}

/// What is left until the deadline; a socket timeout of zero would mean none at all.
fn remaining(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
}

fn is_timeout(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

fn is_closed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::ConnectionAborted
    )
}

fn broken(error: impl std::fmt::Display) -> WireError {
    WireError::Broken(error.to_string())
}
