//! Pulsegate on a std host.
#![forbid(unsafe_code)]

pub mod commands;
pub mod users;
