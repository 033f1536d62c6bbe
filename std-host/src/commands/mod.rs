//! The commands of `pulsegate`, one file each.

pub mod clients;
pub mod demo;
pub mod demo_view;
pub mod ping;
pub mod serve;
pub mod simulate;
pub mod user;

mod password;
