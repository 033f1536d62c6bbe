//! The [`Socket`](crate::socket::Socket) trait on network stacks.
//!
//! Each stack has one file, the only one that names its types: stacks change their minds more often
//! than protocols do. An adapter translates and keeps what its stack does not keep; the loop around
//! it is the one of the crate's documentation.

pub mod smoltcp;
