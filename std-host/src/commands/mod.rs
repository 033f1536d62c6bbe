//! The commands of `pulsegate`, one file each.

pub mod clients;
pub mod demo;
pub mod demo_view;
pub mod download;
pub mod logs;
pub mod ping;
pub mod serve;
pub mod simulate;
pub mod upload;
pub mod user;

mod password;
mod transfer;
