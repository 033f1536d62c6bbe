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

//!
//! # Example
//!
//! A gateway and one client on a loopback interface, in time that the example makes itself:
//!
//! ```
//! use core::net::{Ipv4Addr, SocketAddrV4};
//! use embassy_time::{Duration, Instant};
//! use pulsegate_core::adapter::smoltcp::{Gateway, GatewayConfig, PoolSlot, stack_instant};
//! # use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
//! use pulsegate_core::frame::Limits;
//! use pulsegate_core::list::Head;
//! use pulsegate_core::protocol::{Flag, Iocp, IocpConfig};
//! # use pulsegate_core::roster::Row;
//! use pulsegate_core::server::{Closed, Config, Lent, Server};
//! # use pulsegate_core::store::NoStore;
//! # use pulsegate_core::table::SessionId;
//! use pulsegate_core::table::Slot;
//! use smoltcp::iface::{self, Interface, SocketSet};
//! use smoltcp::phy::{Loopback, Medium};
//! use smoltcp::socket::tcp;
//! use smoltcp::wire::{EthernetAddress, IpCidr};
//!
//! # struct Application(NoStore);
//! # impl App for Application {
//! #     type Address = SocketAddrV4;
//! #     type User = u16;
//! #     type Store = NoStore;
//! #     fn store(&mut self) -> &mut NoStore { &mut self.0 }
//! #     fn login(&mut self, _: &Ask<SocketAddrV4>, _: Flag, _: &str, _: &Digest) -> Answer<Login<u16>> { Answer::Now(Login::Wrong) }
//! #     fn user_name<'a>(&'a self, _: &'a u16) -> &'a str { "" }
//! #     fn may_list(&self, _: &u16) -> bool { false }
//! #     fn freeze_list(&mut self, _: &Ask<SocketAddrV4>, _: Page,
//! #         _: &mut dyn Iterator<Item = Row<'_, SocketAddrV4, u16>>) -> Answer<List> { Answer::Now(List::Failed("no list")) }
//! #     fn read_list(&mut self, _: SessionId, _: u32, _: &mut [u8]) -> usize { 0 }
//! #     fn release_list(&mut self, _: SessionId) {}
//! #     fn event(&mut self, _: &Ask<SocketAddrV4>, _: Event<'_, Iocp<Self>>) {}
//! #     fn closed(&mut self, _: &Closed<Iocp<Self>>) {}
//! # }
//! // The server: four sessions, replies of up to 384 bytes.
//! let (mut slots, mut wheel) = ([const { Slot::EMPTY }; 4], [Head::EMPTY; 64]);
//! let (mut reply, mut closes) = ([0; 384], [None, None]);
//! let memory = Lent { slots: &mut slots[..], wheel: &mut wheel[..], scratch: &mut reply[..], closes: &mut closes[..] };
//! let protocol = Iocp::new(IocpConfig { limits: Limits::SMALL, ..IocpConfig::default() }, Application(NoStore));
//! let server = Server::new(Config { tick: Duration::from_secs(1), ..Config::default() }, protocol, memory);
//!
//! // The pool: six sockets, two of which listen when all sessions are taken.
//! let (mut pool, mut scratch) = ([const { PoolSlot::EMPTY }; 6], [0; 264]);
//! let mut gateway = Gateway::new(GatewayConfig::default(), server, &mut pool, &mut scratch);
//! let mut sockets = SocketSet::new(Vec::new());
//! for _ in 0..6 {
//!     let buffer = |len| tcp::SocketBuffer::new(vec![0; len]);
//!     let handle = sockets.add(tcp::Socket::new(buffer(512), buffer(384)));
//!     gateway.add(&mut sockets, handle).unwrap();
//! }
//!
//! // The interface.
//! let mut now = Instant::from_secs(1);
//! let address = Ipv4Addr::new(127, 0, 0, 1);
//! let mut device = Loopback::new(Medium::Ethernet);
//! let config = iface::Config::new(EthernetAddress([2, 0, 0, 0, 0, 1]).into());
//! let mut iface = Interface::new(config, &mut device, stack_instant(now));
//! iface.update_ip_addrs(|addresses| addresses.push(IpCidr::new(address.into(), 8)).unwrap());
//!
//! // A client, behind the pool in the set.
//! let buffer = || tcp::SocketBuffer::new(vec![0; 512]);
//! let client = sockets.add(tcp::Socket::new(buffer(), buffer()));
//! sockets.get_mut::<tcp::Socket>(client).connect(iface.context(), (address, 9999), 40000).unwrap();
//!
//! let mut said = false;
//! let answer = loop {
//!     gateway.poll(now, &mut iface, &mut device, &mut sockets);
//!     let client = sockets.get_mut::<tcp::Socket>(client);
//!     if client.may_send() && !said {
//!         client.send_slice(b"\x08\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active").unwrap();
//!         said = true;
//!     }
//!     if client.recv_queue() == 42 {
//!         break client.recv(|bytes| (bytes.len(), bytes.to_vec())).unwrap();
//!     }
//!     // The client's doings are unknown to the gateway, so it is not slept for long.
//!     let next = gateway.poll_at(now, &mut iface, &sockets);
//!     let most = now + Duration::from_millis(1);
//!     now = next.map_or(most, |at| at.clamp(now, most));
//!     assert!(now < Instant::from_secs(2));
//! };
//! assert!(answer.ends_with(b"[Response]\r\nCommand=Active\r\nCode=0"));
//! assert_eq!(gateway.census().listening, 5);
//! ```

mod gateway;
mod pool;
mod socket;
mod time;

pub use gateway::{Gateway, GatewayConfig, StackAddress};
pub use pool::{Census, Misfit, PoolConfig, PoolSlot, SlotState};
pub use socket::{Moved, Record, TcpSocket, fits};
pub use time::{duration, instant, stack_duration, stack_instant};
