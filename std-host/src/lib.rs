//! Pulsegate on a std host: the core behind the sockets of the operating system, and the command.
//!
//! [`server::start`] runs a server inside any program; the `pulsegate` command is a thin shell
//! around it. Each shard is a thread that owns its listener, its sockets and its session table, and
//! blocks in one readiness queue; everything slow (password hashes, client lists) happens elsewhere.

#![deny(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::unwrap_used))]

pub mod client;
pub mod clock;
pub mod commands;
pub mod config;
pub mod descriptors;
pub mod files;
pub mod fleet;
pub mod net;
mod priority;
pub mod server;
pub mod text;
pub mod users;
