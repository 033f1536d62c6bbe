//! Load generator, baselines and shape prototypes for measuring a session server.
//!
//! Absolute figures of a shared machine mean little, so everything here is built around ratios: two servers are run
//! alternately, each in a fresh process, under the same load, and the ratio of each pair is what is reported.
//!
//! Linux only: it pins threads and reads `/proc`.
#![forbid(unsafe_code)]

pub mod baseline;
pub mod compare;
pub mod dialect;
pub mod files;
pub mod host;
pub mod idle;
pub mod lateness;
pub mod loadgen;
pub mod server;
pub mod shapes;
pub mod shards;
pub mod soak;
pub mod stats;
pub mod table;
