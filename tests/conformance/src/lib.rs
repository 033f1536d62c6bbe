//! Wire cases that every build of the server must pass.
//!
//! A case is a small synchronous script: it opens connections through a [`Target`], sends bytes, and says what must
//! come back and when. It knows neither sockets nor clocks: both come from the target, so that one suite serves a
//! server behind real TCP ([`tcp::TcpTarget`]), a network stack stepped by hand under a manual clock, and firmware in
//! an emulator. What a target cannot be asked to do (an amount of data, a number of connections) it states in its
//! [`Limits`]; a case sizes itself by them or reports itself as skipped.
//!
//! ```no_run
//! use pulsegate_conformance::{Limits, Options, Target, run_parallel, tcp::TcpTarget};
//!
//! let address = "127.0.0.1:9999".parse().expect("an address");
//! let factory = || Ok(Box::new(TcpTarget::new(address, Limits::host())) as Box<dyn Target>);
//! let report = run_parallel(factory, &Options::default());
//! assert!(report.is_success());
//! ```
//!
//! Section numbers are those of `docs/protocol.md`.

pub mod cases;
mod client;
mod failure;
pub mod pace;
mod packet;
mod runner;
mod target;
pub mod tcp;

pub use cases::{Case, cases};
pub use failure::{Failure, Outcome, Stop};
pub use runner::{CaseReport, Options, Report, Verdict, run, run_parallel};
pub use target::{
    Clock, Closed, Endpoints, Files, Limits, Login, Received, RemoteStream, Target, Wire, WireError,
};
