//! Gateways on network stacks.
//!
//! Each stack has one module, the only one that names its types: stacks change their minds more
//! often than protocols do. An adapter keeps what its stack does not keep, and is the loop of the
//! crate's documentation.

pub mod smoltcp;
