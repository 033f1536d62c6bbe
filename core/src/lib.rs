//! Core of a session server for devices that hold a TCP connection open for days: modems, meters,
//! trackers, cameras on GPRS and 4G.
//!
//! The core keeps a table of fixed capacity, speaks the framed IOCPDemo protocol, and ends
//! whoever has gone silent with one sweep. It is `no_std`, allocates nothing, reads no clock and
//! knows no network stack: an adapter drives it.
//!
//! | module | holds |
//! | --- | --- |
//! | [`frame`] | packets: incremental decoder, lengths, limits |
//! | [`command`] | command texts, replies, result codes |
//! | [`table`] | entries under handles that go stale; usable alone |
//! | [`sweep`] | deadlines of a table's entries; usable alone |
//! | [`socket`] | the abstract socket, and one in memory for tests |
//! | [`server`] | sessions of any protocol: accept, drive, judge, end |
//! | [`protocol`] | the IOCPDemo protocol |
//! | [`roster`] | the client list |
//! | [`store`], [`path`] | the file store behind Upload, Download and RemoteStream; paths that stay inside it |
//! | [`tail`] | the last lines of a log, for readers that follow it |
//! | [`app`] | what an application decides: who may log in, what happens when |
//! | `adapter` | a gateway on smoltcp (feature `smoltcp`) |
//!
//! # The driver contract
//!
//! 1. **New connection**: [`Server::accept`](server::Server::accept) gives its id, or says why not;
//!    then the caller still has the socket, and aborts it. It may name a session that had to make
//!    room: abort that one's socket. Drive the new session once.
//! 2. **Socket readable or writable**: [`Server::drive`](server::Server::drive) serves the session
//!    as far as its socket and a budget of bytes let it and says what it
//!    [`Wants`](server::Wants): another turn after the others had theirs, input, room for output,
//!    the application, or nothing, because it has ended: drop the socket.
//! 3. **The application has finished something slow**: [`Server::complete`](server::Server::complete),
//!    then drive. An answer that comes too late is told so and harms nobody.
//! 4. **Time**: [`Server::due`](server::Server::due) names the sessions whose deadline has passed,
//!    one by one; [`Server::judge`](server::Server::judge) each. It reads what the socket already
//!    holds and asks it for the last proof of life before it decides, so hand bytes that have
//!    arrived to the sockets first.
//! 5. **Sleep** until a socket is ready, the application is done, or
//!    [`Server::poll_at`](server::Server::poll_at), whichever is first. Coming early is harmless,
//!    coming late loses nothing.
//!
//! Time is a parameter everywhere, of [`embassy_time`]'s types, and must not go back.
//!
//! A complete loop over sockets in memory, with one device that beats and then goes silent:
//!
//! ```
//! use embassy_time::{Duration, Instant};
//! use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
//! use pulsegate_core::list::Head;
//! use pulsegate_core::protocol::{Flag, Iocp, IocpConfig, Reply};
//! use pulsegate_core::roster::Row;
//! use pulsegate_core::server::{CloseReason, Closed, Config, JobId, Lent, Server, Wants};
//! use pulsegate_core::socket::memory::MemorySocket;
//! use pulsegate_core::store::NoStore;
//! use pulsegate_core::table::{SessionId, Slot};
//!
//! /// Checks passwords slowly, somewhere else: the answers come later.
//! struct Gateway { question: Option<(SessionId, JobId)>, files: NoStore }
//!
//! impl App for Gateway {
//!     type Address = core::net::SocketAddr;
//!     type User = &'static str;
//!     type Store = NoStore;
//!     fn store(&mut self) -> &mut NoStore { &mut self.files }
//!     fn login(&mut self, ask: &Ask<Self::Address>, _: Flag, _: &str, _: &Digest) -> Answer<Login<&'static str>> {
//!         self.question = Some((ask.id, ask.job));
//!         Answer::Later
//!     }
//!     fn user_name<'a>(&'a self, user: &'a &'static str) -> &'a str { user }
//!     fn may_list(&self, _: &&'static str) -> bool { false }
//!     fn freeze_list(&mut self, _: &Ask<Self::Address>, _: Page,
//!         _: &mut dyn Iterator<Item = Row<'_, Self::Address, &'static str>>) -> Answer<List> {
//!         Answer::Now(List::Failed("no list here"))
//!     }
//!     fn read_list(&mut self, _: SessionId, _: u32, _: &mut [u8]) -> usize { 0 }
//!     fn release_list(&mut self, _: SessionId) {}
//!     fn event(&mut self, _: &Ask<Self::Address>, _: Event<'_, Iocp<Self>>) {}
//!     fn closed(&mut self, _: &Closed<Iocp<Self>>) {}
//! }
//!
//! // The memory: four sessions, a wheel, one reply, the last two ended sessions.
//! let mut slots = [const { Slot::EMPTY }; 4];
//! let mut wheel = [Head::EMPTY; 64];
//! let mut scratch = [0; 384];
//! let mut closes = [None, None];
//! let memory = Lent { slots: &mut slots[..], wheel: &mut wheel[..], scratch: &mut scratch[..], closes: &mut closes[..] };
//! let protocol = Iocp::new(IocpConfig::default(), Gateway { question: None, files: NoStore });
//! let config = Config { tick: Duration::from_secs(1), ..Config::default() };
//! let mut server = Server::new(config, protocol, memory);
//!
//! // The network stack: sockets under the index of their session.
//! let mut sockets: [Option<(SessionId, MemorySocket<512>)>; 4] = [const { None }; 4];
//! let mut now = Instant::from_secs(1000);
//! let mut turns = 0;
//!
//! // 1. A device connects; its flag and a login come in one segment, the heartbeat follows.
//! let address = "192.0.2.7:40000".parse().unwrap();
//! let admission = server.accept(now, "192.0.2.1:9999".parse().unwrap(), address).unwrap();
//! let mut socket = MemorySocket::new();
//! let login = b"[Request]\r\nCommand=Login\r\nUserName=meter\r\nPassword=21232f297a57a5a743894a0e4a801fc3";
//! socket.send(&[8, 4 + login.len() as u8, 0, 0, 0, login.len() as u8, 0, 0, 0], now);
//! socket.send(login, now);
//! socket.send(b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active", now);
//! sockets[admission.id.index()] = Some((admission.id, socket));
//!
//! let ended = 'run: loop {
//!     // 2. Every socket that may be ready. (A real adapter knows which are.)
//!     for entry in &mut sockets {
//!         let Some((id, socket)) = entry else { continue };
//!         if let Wants::Nothing(reason) = server.drive(now, *id, socket, 4096) {
//!             *entry = None;
//!             break 'run reason;
//!         }
//!         let read = socket.output().len();
//!         socket.take(read, now);
//!     }
//!     // 3. The password check is done.
//!     if let Some((id, job)) = server.protocol_mut().app_mut().question.take() {
//!         server.complete(now, id, job, Reply::Login(Login::Accepted("meter"))).unwrap();
//!         continue; // drive it
//!     }
//!     // 4. Whoever is due.
//!     let mut looks = 16;
//!     while let Some(id) = server.due(now, &mut looks) {
//!         let Some((_, socket)) = &mut sockets[id.index()] else { continue };
//!         if let Wants::Nothing(reason) = server.judge(now, id, socket, 4096) {
//!             sockets[id.index()] = None;
//!             break 'run reason;
//!         }
//!     }
//!     // 5. Sleep. Nothing but the deadline is left to happen here.
//!     now = server.poll_at().expect("a session always has a deadline").max(now);
//!     turns += 1;
//!     assert!(turns < 10, "the loop must not spin");
//! };
//!
//! assert_eq!(ended, CloseReason::Idle);
//! assert_eq!(now, Instant::from_secs(1060));
//! assert_eq!(server.protocol().work().heartbeats, 1);
//! let closed = server.closes().iter().next().unwrap();
//! assert_eq!((closed.user, closed.silence), (Some("meter"), Duration::from_secs(60)));
//! ```

//!
//! # Another protocol
//!
//! Two ways, depending on how much is wanted:
//!
//! - [`table`] and [`sweep`] alone, in a server that has its own loop: who is there, under handles
//!   that cannot hit the wrong device, and who has gone silent, without a timer per device and
//!   without scanning. An entry lends the sweep a [`Link`](list::Link) and tells its deadline; a
//!   sign of life is one store. `examples/tracker.rs` does this for trackers that register with a
//!   number and beat with one byte.
//! - [`Server<P>`](server::Server) with another [`Protocol`](server::Protocol): what the wire says
//!   is new; accepting, proof of life, back-pressure, orderly ends, eviction, records and every
//!   adapter stay.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]
#![deny(missing_docs)]
#![cfg_attr(
    not(test),
    deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)
)]

#[cfg(feature = "alloc")]
extern crate alloc;

#[cfg(feature = "smoltcp")]
pub mod adapter;
pub mod app;
pub mod command;
mod fmt;
pub mod frame;
mod front;
pub mod list;
pub mod path;
pub mod protocol;
pub mod roster;
pub mod server;
mod session;
pub mod socket;
pub mod store;
pub mod sweep;
pub mod table;
pub mod tail;
