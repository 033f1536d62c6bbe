//! The gateway on smoltcp against client stacks, also smoltcp, on a virtual LAN.
//!
//! Everything runs in one thread and in virtual time: a [`World`] moves its clock from one event
//! to the next, hands frames over when they are due, polls whoever has frames or has asked to be
//! polled, and checks the gateway's pool after each of the gateway's polls. The LAN loses,
//! duplicates, delays and reorders frames as its seed has it, so a run can be repeated exactly.

mod app;
mod check;
mod host;
mod lan;
mod rng;
mod segment;
mod site;
mod target;
mod world;

pub use app::{DIGEST, FILES, Gatekeeper};
pub use host::Host;
pub use lan::{Faults, Lan, Port};
pub use rng::Rng;
pub use segment::syn;
pub use site::{PORT, Setup, Site};
pub use target::LanTarget;
pub use world::{Conn, Got, World};

/// The bytes of a heartbeat, without the flag.
pub const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
/// The bytes of its reply.
pub const HEARTBEAT_REPLY: &[u8] = b"\x26\0\0\0\x22\0\0\0[Response]\r\nCommand=Active\r\nCode=0";
