//! Sockets of the operating system behind the core's socket trait.

mod conn;
mod listener;
mod proof;

pub use conn::{Conn, IoBuffers, TcpSocket, abort, keep_alive};
pub use listener::{BindError, bind};
pub use proof::TcpState;
