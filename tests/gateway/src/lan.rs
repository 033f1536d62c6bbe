//! The LAN: a switch with ports, and what can go wrong between them.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use embassy_time::{Duration, Instant};
use pulsegate_core::adapter::smoltcp::instant;
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::wire::EthernetAddress;

use crate::rng::Rng;

/// What happens to frames on their way.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// How many of a hundred frames are lost.
    pub loss: u32,
    /// How many of a hundred frames arrive twice.
    pub duplicates: u32,
    /// How long a frame takes.
    pub delay: Duration,
    /// How much longer it may take; frames overtake one another then.
    pub jitter: Duration,
}

impl Faults {
    /// A good LAN.
    pub const NONE: Self = Self {
        loss: 0,
        duplicates: 0,
        delay: Duration::from_micros(100),
        jitter: Duration::from_ticks(0),
    };
}

/// How fast a port sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// How many frames wait in the device at most.
    pub(crate) depth: usize,
    /// How long each takes to leave.
    pub(crate) frame: Duration,
    /// Whether the device says when it has room again.
    pub(crate) interrupt: bool,
}

#[derive(Debug)]
struct Plug {
    address: EthernetAddress,
    /// Frames that have arrived.
    input: VecDeque<Vec<u8>>,
    cut: bool,
    pace: Option<Pace>,
    /// When the frames in the device will have left.
    leaving: VecDeque<Instant>,
    woken: bool,
}

struct Inner {
    faults: Faults,
    rng: Rng,
    plugs: Vec<Plug>,
    /// Frames under way, by the time they arrive and the order in which they were sent.
    under_way: BTreeMap<(Instant, u64), (usize, Vec<u8>)>,
    /// Numbers frames and their copies.
    number: u64,
    sent: u64,
    lost: u64,
    recorded: Option<Vec<Vec<u8>>>,
}

/// The switch.
#[derive(Clone)]
pub struct Lan(Rc<RefCell<Inner>>);

impl Lan {
    /// A LAN without ports.
    #[must_use]
    pub fn new(faults: Faults, seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Inner {
            faults,
            rng: Rng::new(seed),
            plugs: Vec::new(),
            under_way: BTreeMap::new(),
            number: 0,
            sent: 0,
            lost: 0,
            recorded: None,
        })))
    }

    /// A new port for a device of this address.
    pub fn plug(&self, address: EthernetAddress) -> Port {
        let mut inner = self.0.borrow_mut();
        inner.plugs.push(Plug {
            address,
            input: VecDeque::new(),
            cut: false,
            pace: None,
            leaving: VecDeque::new(),
            woken: false,
        });
        Port { lan: self.clone(), index: inner.plugs.len() - 1 }
    }

    /// What happens to frames from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.0.borrow_mut().faults = faults;
    }

    /// Frames sent so far, and how many of them were lost.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64) {
        let inner = self.0.borrow();
        (inner.sent, inner.lost)
    }

    /// Keeps a copy of every frame from now on.
    pub fn record(&self) {
        self.0.borrow_mut().recorded = Some(Vec::new());
    }

    /// The frames kept so far.
    #[must_use]
    pub fn recorded(&self) -> Vec<Vec<u8>> {
        self.0.borrow().recorded.clone().unwrap_or_default()
    }

    /// Hands over what is due.
    pub(crate) fn deliver(&self, now: Instant) {
        let mut inner = self.0.borrow_mut();
        while let Some(entry) = inner.under_way.first_entry()
            && entry.key().0 <= now
        {
            let (to, frame) = entry.remove();
            if !inner.plugs[to].cut {
                inner.plugs[to].input.push_back(frame);
            }
        }
        for plug in &mut inner.plugs {
            while plug.leaving.front().is_some_and(|&at| at <= now) {
                plug.leaving.pop_front();
                plug.woken |= plug.pace.is_some_and(|pace| pace.interrupt);
            }
        }
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Instant> {
        let inner = self.0.borrow();
        let arrival = inner.under_way.keys().next().map(|&(at, _)| at);
        let departures = inner.plugs.iter().filter_map(|plug| plug.leaving.front().copied());
        arrival.into_iter().chain(departures).min()
    }
}

impl Inner {
    fn send(&mut self, now: Instant, from: usize, frame: &[u8]) {
        if self.plugs[from].cut {
            return;
        }
        if let Some(recorded) = &mut self.recorded {
            recorded.push(frame.to_vec());
        }
        let to = EthernetAddress::from_bytes(&frame[..6]);
        let targets: Vec<usize> = (0..self.plugs.len())
            .filter(|&port| port != from && (to.is_broadcast() || self.plugs[port].address == to))
            .collect();
        for port in targets {
            self.sent += 1;
            if self.rng.happens(self.faults.loss) {
                self.lost += 1;
                continue;
            }
            let copies = 1 + u32::from(self.rng.happens(self.faults.duplicates));
            for _ in 0..copies {
                let jitter = self.rng.below(self.faults.jitter.as_ticks() + 1);
                let at = now + self.faults.delay + Duration::from_ticks(jitter);
                self.number += 1;
                self.under_way.insert((at, self.number), (port, frame.to_vec()));
            }
        }
    }
}

/// A device's place on the LAN.
#[derive(Clone)]
pub struct Port {
    lan: Lan,
    index: usize,
}

impl Port {
    fn with<R>(&self, f: impl FnOnce(&mut Plug) -> R) -> R {
        f(&mut self.lan.0.borrow_mut().plugs[self.index])
    }

    /// Pulls the cable out, or puts it in again.
    pub fn cut(&self, cut: bool) {
        self.with(|plug| {
            plug.cut = cut;
            if cut {
                plug.input.clear();
            }
        });
    }

    /// Lets the device hold `depth` frames, each of which takes `frame` to leave. `interrupt`: it
    /// says when it has room again.
    pub fn slow(&self, depth: usize, frame: Duration, interrupt: bool) {
        self.with(|plug| plug.pace = Some(Pace { depth, frame, interrupt }));
    }

    /// Sends a frame made by hand.
    pub fn inject(&self, now: Instant, frame: &[u8]) {
        self.lan.0.borrow_mut().send(now, self.index, frame);
    }

    /// Whether there is something to poll for.
    pub(crate) fn is_ready(&self) -> bool {
        self.with(|plug| {
            (!plug.input.is_empty() && plug.has_room()) || std::mem::take(&mut plug.woken)
        })
    }

    /// The device is switched off and on.
    pub(crate) fn clear(&self) {
        self.with(|plug| plug.input.clear());
    }
}

impl Plug {
    fn has_room(&self) -> bool {
        self.pace.is_none_or(|pace| self.leaving.len() < pace.depth)
    }
}

/// A frame that has arrived.
pub struct Frame(Vec<u8>);

impl RxToken for Frame {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

/// Room for a frame.
pub struct Room {
    port: Port,
    now: Instant,
}

impl TxToken for Room {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        let mut at = self.now;
        self.port.with(|plug| {
            if let Some(pace) = plug.pace {
                at = plug.leaving.back().copied().unwrap_or(at).max(at) + pace.frame;
                plug.leaving.push_back(at);
            }
        });
        self.port.inject(at, &frame);
        result
    }
}

impl Device for Port {
    type RxToken<'a> = Frame;
    type TxToken<'a> = Room;

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
        capabilities
    }

    fn receive(&mut self, at: smoltcp::time::Instant) -> Option<(Frame, Room)> {
        // As with most drivers, a frame is handed over only where an answer could be sent.
        let room = self.transmit(at)?;
        let frame = self.with(|plug| plug.input.pop_front())?;
        Some((Frame(frame), room))
    }

    fn transmit(&mut self, at: smoltcp::time::Instant) -> Option<Room> {
        let room = self.with(|plug| plug.has_room());
        room.then(|| Room { port: self.clone(), now: instant(at) })
    }
}
