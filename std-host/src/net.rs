//! Sockets of the operating system behind the core's socket trait.

mod conn;
mod listener;
mod options;
mod proof;

pub use conn::{Conn, IoBuffers, TcpSocket};
pub use listener::{BindError, bind};
pub use options::{abort, bound_output, keep_alive};
pub use proof::TcpState;
