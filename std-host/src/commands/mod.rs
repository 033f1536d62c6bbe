//! The subcommands of `pulsegate`, one file each.

pub mod serve;
pub mod user;
