//! The gateway as a target of the wire cases.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use embassy_time::Instant;
use pulsegate_conformance::{Clock, Closed, Endpoints, Limits, Received, Target, Wire, WireError};
use smoltcp::socket::tcp;

use crate::lan::Faults;
use crate::site::{ADDRESS, PORT, Setup};
use crate::world::{Conn, Got, World};

/// How much a client's stack holds in each direction.
const BUFFER: usize = 64 * 1024;
/// How long the tests' own means may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A gateway in a world of its own.
pub struct LanTarget {
    world: Rc<RefCell<World>>,
    limits: Limits,
}

impl LanTarget {
    /// A gateway that runs with `limits`.
    #[must_use]
    pub fn new(limits: Limits, setup: Setup) -> Self {
        let world = World::new(setup, 1, Faults::NONE, 0);
        Self { world: Rc::new(RefCell::new(world)), limits }
    }

    /// The same on another link.
    #[must_use]
    pub fn with_faults(self, faults: Faults) -> Self {
        self.world.borrow().lan.set_faults(faults);
        self
    }

    fn open(&self, window: usize) -> Result<Box<dyn Wire>, WireError> {
        let mut world = self.world.borrow_mut();
        let send = BUFFER.max(self.limits.whole_data + 1024);
        let conn = world.connect_with(0, window, send);
        let wire = Line { world: self.world.clone(), conn };
        let answered =
            world.wait(span(PATIENCE), |world| world.socket(conn).state() != tcp::State::SynSent);
        let established = world.socket(conn).may_send();
        drop(world);
        match (answered, established) {
            (true, true) => Ok(Box::new(wire)),
            (true, false) => Err(WireError::Closed),
            (false, _) => Err(WireError::Broken("no answer to a SYN".to_owned())),
        }
    }
}

impl Target for LanTarget {
    fn connect(&mut self) -> Result<Box<dyn Wire>, WireError> {
        self.open(BUFFER)
    }

    fn connect_narrow(&mut self, window: usize) -> Option<Result<Box<dyn Wire>, WireError>> {
        Some(self.open(window))
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn clock(&self) -> Rc<dyn Clock> {
        Rc::new(LanClock(self.world.clone()))
    }
}

fn span(time: Duration) -> embassy_time::Duration {
    embassy_time::Duration::try_from(time).unwrap_or(embassy_time::Duration::MAX)
}

struct LanClock(Rc<RefCell<World>>);

impl Clock for LanClock {
    fn now(&self) -> Duration {
        Duration::from_micros(self.0.borrow().now.as_micros())
    }

    fn sleep(&self, time: Duration) {
        self.0.borrow_mut().run(span(time));
    }
}

struct Line {
    world: Rc<RefCell<World>>,
    conn: Conn,
}

impl Line {
    fn deadline(world: &World, timeout: Duration) -> Instant {
        world.now.checked_add(span(timeout)).unwrap_or(Instant::MAX)
    }
}

impl Wire for Line {
    fn send(&mut self, bytes: &[u8], timeout: Duration) -> Result<usize, WireError> {
        let mut world = self.world.borrow_mut();
        let until = Self::deadline(&world, timeout);
        let mut accepted = 0;
        loop {
            accepted += world.send(self.conn, &bytes[accepted..]);
            // Sent at once: bytes of the next call are not joined with these.
            world.settle();
            if accepted == bytes.len() {
                return Ok(accepted);
            }
            if !world.socket(self.conn).may_send() {
                return Err(WireError::Closed);
            }
            if world.now >= until {
                return Ok(accepted);
            }
            world.step(until);
        }
    }

    fn recv(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, WireError> {
        let mut world = self.world.borrow_mut();
        let until = Self::deadline(&world, timeout);
        world.settle();
        loop {
            match world.take(self.conn, buffer.len()) {
                Got::Bytes(bytes) => {
                    buffer[..bytes.len()].copy_from_slice(&bytes);
                    return Ok(Received::Bytes(bytes.len()));
                }
                Got::Eof => return Ok(Received::Closed(Closed::Eof)),
                Got::Reset => return Ok(Received::Closed(Closed::Reset)),
                Got::Nothing if world.now >= until => return Ok(Received::Quiet),
                Got::Nothing => world.step(until),
            }
            if world.now >= until {
                world.settle();
            }
        }
    }

    fn half_close(&mut self) -> Result<(), WireError> {
        let mut world = self.world.borrow_mut();
        if !world.socket(self.conn).may_send() {
            return Err(WireError::Closed);
        }
        world.socket(self.conn).close();
        world.settle();
        Ok(())
    }

    fn endpoints(&self) -> Option<Endpoints> {
        let local = SocketAddr::from((ADDRESS, PORT));
        Some(Endpoints { local, remote: self.conn.address.into() })
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        // A case that has failed drops its connections while it holds the world.
        if let Ok(mut world) = self.world.try_borrow_mut() {
            world.drop(self.conn);
            world.settle();
        }
    }
}
