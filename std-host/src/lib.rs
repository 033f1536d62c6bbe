//! Pulsegate on a std host.

pub mod client;
pub mod commands;
pub mod fleet;
pub mod text;
