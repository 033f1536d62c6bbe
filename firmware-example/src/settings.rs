//! The constants that the build made of `gateway.toml`.

use embassy_time::Duration;

include!(concat!(env!("OUT_DIR"), "/settings.rs"));
