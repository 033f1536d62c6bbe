//! The timing cases under a clock that moves only when a case waits, against a model that knows heartbeats alone:
//! minutes of timeouts in no time, and a model that is a little early or late is found out.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use pulsegate_conformance::{
    Clock, Closed, Endpoints, Limits, Options, Received, Report, Target, Wire, WireError, run,
};

const STEP: Duration = Duration::from_millis(10);
const REPLY: &[u8] = b"\x26\0\0\0\x22\0\0\0[Response]\r\nCommand=Active\r\nCode=0";

#[derive(Default)]
struct Connection {
    flagged: bool,
    /// Bytes of a packet that is not whole yet.
    input: Vec<u8>,
    output: Vec<u8>,
    alive_at: Duration,
    closed: bool,
}

struct World {
    now: Duration,
    limits: Limits,
    /// How far from the right moment the model closes, in percent of the timeout.
    percent: u32,
    connections: Vec<Connection>,
}

impl World {
    fn step(&mut self) {
        self.now += STEP;
        for connection in &mut self.connections {
            let timeout = if connection.flagged {
                self.limits.idle_timeout
            } else {
                self.limits.flag_timeout
            };
            connection.closed |= self.now - connection.alive_at >= timeout * self.percent / 100;
        }
    }

    fn receive(&mut self, index: usize, mut bytes: &[u8]) {
        let now = self.now;
        let connection = &mut self.connections[index];
        connection.alive_at = now;
        if !std::mem::replace(&mut connection.flagged, true) {
            bytes = &bytes[1..];
        }
        connection.input.extend_from_slice(bytes);
        while let Some(len) = connection.input.first_chunk::<4>() {
            let len = 4 + u32::from_le_bytes(*len) as usize;
            if connection.input.len() < len {
                break;
            }
            connection.input.drain(..len);
            connection.output.extend_from_slice(REPLY);
        }
    }
}

#[derive(Clone)]
struct Handle(Rc<RefCell<World>>);

impl Clock for Handle {
    fn now(&self) -> Duration {
        self.0.borrow().now
    }

    fn sleep(&self, time: Duration) {
        let end = self.now() + time;
        while self.now() < end {
            self.0.borrow_mut().step();
        }
    }
}

struct Model {
    world: Handle,
    limits: Limits,
}

impl Target for Model {
    fn connect(&mut self) -> Result<Box<dyn Wire>, WireError> {
        let mut world = self.world.0.borrow_mut();
        let alive_at = world.now;
        world.connections.push(Connection { alive_at, ..Connection::default() });
        Ok(Box::new(Line { index: world.connections.len() - 1, world: self.world.clone() }))
    }

    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn clock(&self) -> Rc<dyn Clock> {
        Rc::new(self.world.clone())
    }
}

struct Line {
    index: usize,
    world: Handle,
}

impl Wire for Line {
    fn send(&mut self, bytes: &[u8], _: Duration) -> Result<usize, WireError> {
        let mut world = self.world.0.borrow_mut();
        if world.connections[self.index].closed {
            return Err(WireError::Closed);
        }
        world.receive(self.index, bytes);
        Ok(bytes.len())
    }

    fn recv(&mut self, buffer: &mut [u8], timeout: Duration) -> Result<Received, WireError> {
        let end = self.world.now() + timeout;
        loop {
            {
                let connection = &mut self.world.0.borrow_mut().connections[self.index];
                let count = connection.output.len().min(buffer.len());
                if count > 0 {
                    buffer[..count].copy_from_slice(&connection.output[..count]);
                    connection.output.drain(..count);
                    return Ok(Received::Bytes(count));
                }
                if connection.closed {
                    return Ok(Received::Closed(Closed::Reset));
                }
            }
            if self.world.now() >= end {
                return Ok(Received::Quiet);
            }
            self.world.sleep(STEP);
        }
    }

    fn half_close(&mut self) -> Result<(), WireError> {
        Ok(())
    }

    fn endpoints(&self) -> Option<Endpoints> {
        None
    }
}

fn timing(percent: u32) -> Report {
    let limits =
        Limits { login: None, slack: Duration::from_millis(100), ..Limits::microcontroller() };
    let factory = || {
        let world =
            World { now: Duration::ZERO, limits: limits.clone(), percent, connections: Vec::new() };
        let world = Handle(Rc::new(RefCell::new(world)));
        Ok(Box::new(Model { world, limits: limits.clone() }) as Box<dyn Target>)
    };
    run(factory, &Options { filter: Some("timing/".to_owned()), jobs: 1 })
}

#[test]
fn a_punctual_server_passes() {
    let report = timing(100);
    assert!(report.is_success());
    assert_eq!((report.passed(), report.skipped()), (7, 3));
}

#[test]
fn an_early_and_a_late_server_are_found_out() {
    assert_eq!(timing(99).failed(), 5);
    assert_eq!(timing(104).failed(), 5);
}
