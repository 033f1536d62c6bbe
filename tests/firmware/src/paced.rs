//! A target whose connections come one after the other.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

use pulsegate_conformance::tcp::TcpTarget;
use pulsegate_conformance::{Clock, Limits, Target, Wire, WireError};

/// Between two connects: the emulator's port forwarding lets one connection wait to be accepted. Of what comes on top
/// the host drops the end of the handshake, and a client that says nothing is accepted seconds later.
const GAP: Duration = Duration::from_millis(50);

static LAST: Mutex<Option<Instant>> = Mutex::new(None);

/// The image in the emulator. Cases run beside one another, and share the gap.
pub(crate) struct Paced(TcpTarget);

impl Paced {
    pub(crate) fn new(address: SocketAddr, limits: Limits) -> Self {
        Self(TcpTarget::new(address, limits).translated(true))
    }

    fn in_turn<T>(&mut self, connect: impl FnOnce(&mut TcpTarget) -> T) -> T {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(last) = *last {
            sleep(GAP.saturating_sub(last.elapsed()));
        }
        let connected = connect(&mut self.0);
        *last = Some(Instant::now());
        connected
    }
}

impl Target for Paced {
    fn connect(&mut self) -> Result<Box<dyn Wire>, WireError> {
        self.in_turn(TcpTarget::connect)
    }

    fn connect_narrow(&mut self, window: usize) -> Option<Result<Box<dyn Wire>, WireError>> {
        self.in_turn(|target| target.connect_narrow(window))
    }

    fn limits(&self) -> &Limits {
        self.0.limits()
    }

    fn clock(&self) -> Rc<dyn Clock> {
        self.0.clock()
    }
}
