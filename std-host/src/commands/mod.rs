//! The subcommands of `pulsegate`, one file each.

pub mod user;
