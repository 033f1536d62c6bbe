//! The commands of `pulsegate`, one file each.

pub mod clients;
pub mod demo_view;
pub mod ping;
pub mod simulate;

mod password;
