//! A device gateway for a microcontroller: the core's server on smoltcp, in tasks of embassy's executor. There is no
//! heap; all memory is `static` and counted when the image is built.
//!
//! What differs between parts is in `board`; the rest is the same on each.

#![no_std]
#![no_main]

mod address;
mod application;
mod board;
mod gateway;
mod idle;
mod kept;
mod log;
mod memory;
mod settings;
mod stack;

use defmt::{error, info};
use embassy_time::{Duration, Timer};
use static_cell::StaticCell;

use crate::gateway::Station;
use crate::kept::LastRun;

static STATION: StaticCell<Station> = StaticCell::new();
static LAST: StaticCell<LastRun> = StaticCell::new();

#[cortex_m_rt::entry]
fn main() -> ! {
    let board = board::start();
    let last: &LastRun = LAST.init(kept::take(board.random));
    info!("{}: start {} since power-up", board::NAME, last.starts);
    if let Some(panic) = &last.panic {
        error!("the last run ended: {}", panic.as_str());
    }
    let station = STATION.init_with(|| Station::new(board.network, board.watchdog, last, memory::take()));
    info!(
        "listening: port {}, {} sockets of {} bytes, {} sessions of {} bytes",
        settings::PORT,
        settings::SOCKETS,
        settings::plan::PER_SOCKET,
        settings::SESSIONS,
        settings::plan::PER_SESSION
    );
    idle::run(|spawner| {
        // Each is spawned once, and there is room for one of each.
        spawner.spawn(serve(station).expect("the first"));
        spawner.spawn(blink(board.led).expect("the first"));
        #[cfg(feature = "drill")]
        if last.starts == 1 {
            spawner.spawn(drill().expect("the first"));
        }
    })
}

/// Serves whoever connects.
#[embassy_executor::task]
async fn serve(station: &'static mut Station) -> ! {
    station.run().await
}

/// Shows that the executor turns.
#[embassy_executor::task]
async fn blink(mut led: board::Led) -> ! {
    let mut on = false;
    loop {
        on = !on;
        led.set(on);
        Timer::after(Duration::from_millis(500)).await;
    }
}

/// Panics, to show that the message outlives the reset.
#[cfg(feature = "drill")]
#[embassy_executor::task]
async fn drill() -> ! {
    Timer::after(Duration::from_secs(2)).await;
    panic!("a drill");
}
