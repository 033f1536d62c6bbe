//! A gateway on smoltcp, for microcontrollers.
//!
//! [`Gateway`] owns a [`Server`](crate::server::Server) and a pool of TCP sockets in a `SocketSet`
//! of the caller's. It is a value that is polled with the time and says when to be polled next, so
//! it runs in a plain loop, in a task of embassy's or under RTIC alike:
//!
//! ```text
//! loop {
//!     gateway.poll(now(), &mut iface, &mut device, &mut sockets);
//!     let next = gateway.poll_at(now(), &mut iface, &sockets);
//!     // Sleep until `next`, or until the device has received a frame or sent one.
//! }
//! ```
//!
//! smoltcp knows no backlog: each connection that is to be accepted needs a socket that listens.
//! So give the pool more sockets than the server has sessions; [`PoolConfig::spare`] of them. With
//! the spare ones newcomers are still heard when the table is full, and those that are being
//! closed are in nobody's way.
//!
//! # The order of the pool
//!
//! smoltcp hands a SYN to the first socket that takes it. A listening socket in front of a live
//! connection would answer a late copy of that connection's SYN, and from then on take the
//! connection's segments, and reset it. So the pool keeps its connections in front and its
//! listening sockets behind them: when a connection ends, the last connection moves into its
//! place and the listening sockets begin one place earlier. A listening socket that is hit by a
//! SYN is always the first of them, so connecting needs no moving.
//!
//! # Memory
//!
//! All is lent: the pool's slots, a scratch buffer for commands that wrap around the end of a
//! receive ring, and what the server itself needs. [`Gateway::add`] refuses a socket whose buffers
//! are too small for the longest command or reply: its session would wait for what cannot come.
//!
//! smoltcp remembers 8 neighbours unless it is told otherwise, and with more devices than that on
//! one LAN answers come seconds late. This crate asks for 32; the environment variable
//! `SMOLTCP_IFACE_NEIGHBOR_CACHE_COUNT` sets another number at build time.

mod gateway;
mod pool;
mod socket;
mod time;

pub use gateway::{Gateway, GatewayConfig, StackAddress};
pub use pool::{Census, Misfit, PoolConfig, PoolSlot, SlotState};
pub use socket::{Record, TcpSocket, fits};
pub use time::{duration, instant, stack_duration, stack_instant};
