//! Builds the firmware's release image, measures it, runs it in QEMU, and talks to it through ordinary TCP.

mod clients;
mod image;
mod instructions;
mod log;
mod paced;
mod qemu;
mod sizes;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand};
use pulsegate_conformance::{Limits, Options, Target, run_parallel};

use crate::paced::Paced;
use crate::qemu::Qemu;

/// Tests of the firmware in `firmware-example`.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The repository
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))]
    root: PathBuf,
    #[command(subcommand)]
    what: Option<What>,
}

/// Without one: all of them.
#[derive(Subcommand, Clone, Copy, PartialEq)]
enum What {
    /// Flash and RAM of the images, against the recorded figures
    Sizes {
        /// Record the figures anew
        #[arg(long)]
        record: bool,
    },
    /// The wire cases against the image in QEMU; takes four minutes, for the image has the timeouts it is shipped with
    Conformance,
    /// Instructions of a heartbeat's round trip, against the recorded figures
    Instructions {
        /// Record the figures anew
        #[arg(long)]
        record: bool,
    },
    /// Two dozen clients at once, good and bad
    Clients,
    /// The log over the network, with readers good and bad; takes three minutes
    Log,
    /// A panic's message outlives the reset
    Drill,
    /// The image with DHCP gets an address
    Dhcp,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = &arguments.root;
    let asked = |what| arguments.what.is_none_or(|asked| asked == what);
    if matches!(arguments.what, None | Some(What::Sizes { .. })) {
        let record = arguments.what == Some(What::Sizes { record: true });
        sizes::check(root, record)?;
    }
    if asked(What::Drill) {
        drill(root)?;
    }
    if asked(What::Dhcp) {
        dhcp(root)?;
    }
    let image = image::build(root, &[])?;
    if matches!(arguments.what, None | Some(What::Instructions { .. })) {
        let record = arguments.what == Some(What::Instructions { record: true });
        instructions::check(root, &image, record)?;
    }
    // Each has a gateway of its own: they would take one another's sessions.
    std::thread::scope(|scope| {
        let cases = asked(What::Conformance).then(|| scope.spawn(|| conformance(root, &image)));
        let clients = asked(What::Clients).then(|| scope.spawn(|| two_dozen(root, &image)));
        let log = asked(What::Log).then(|| scope.spawn(|| log(root, &image)));
        for thread in [cases, clients, log].into_iter().flatten() {
            thread.join().expect("a test thread panicked")?;
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// What the cases may ask of the image: its settings are those of `gateway.toml`.
fn limits() -> Limits {
    Limits {
        max_sessions: 24,
        flag_timeout: Duration::from_secs(6),
        idle_timeout: Duration::from_secs(60),
        // The emulator's clock is the host's, but its processor waits its turn.
        grain: Duration::from_millis(20),
        ..Limits::microcontroller()
    }
}

fn conformance(root: &Path, image: &Path) -> Result<()> {
    let qemu = Qemu::start(root, image)?;
    let address = qemu.address();
    let factory = || Ok(Box::new(Paced::new(address, limits())) as Box<dyn Target>);
    let report = run_parallel(factory, &Options { filter: None, jobs: 6 });
    ensure!(
        report.is_success(),
        "wire cases failed against the image; its log:\n{}",
        qemu.log().join("\n")
    );
    ensure!(
        qemu.starts() == 1,
        "the image started anew under the wire cases:\n{}",
        qemu.log().join("\n")
    );
    Ok(())
}

fn two_dozen(root: &Path, image: &Path) -> Result<()> {
    let mut qemu = Qemu::start(root, image)?;
    let result = clients::run(&mut qemu);
    result.with_context(|| format!("its log:\n{}", qemu.log().join("\n")))
}

fn log(root: &Path, image: &Path) -> Result<()> {
    let qemu = Qemu::start(root, image)?;
    let result = log::run(&qemu);
    result.with_context(|| format!("its log:\n{}", qemu.log().join("\n")))
}

/// Sees a panic, the reset, and the message at the next start; and what the emulator's build makes of a panic.
fn drill(root: &Path) -> Result<()> {
    let qemu = Qemu::start(root, &image::build(root, &["drill"])?)?;
    qemu.wait_for("start 2 since power-up", Duration::from_secs(20))?;
    qemu.wait_for("the last run ended: panic at src/main.rs", Duration::from_secs(5))?;
    log::last_run(qemu.address())?;
    println!("ok    a panic's message outlives the reset, and is told over the network");
    let mut qemu = Qemu::start(root, &image::build(root, &["drill", "qemu"])?)?;
    let status = qemu.status(Duration::from_secs(20))?;
    ensure!(status == Some(101), "a panic ended the emulator with {status:?}");
    qemu.wait_for("panic at src/main.rs", Duration::from_secs(5))?;
    println!("ok    a panic ends the emulator with status 101");
    Ok(())
}

/// Has an address given by the emulator's DHCP server, and is reached there.
fn dhcp(root: &Path) -> Result<()> {
    let qemu = Qemu::start(root, &image::build(root, &["dhcp"])?)?;
    qemu.wait_for("address 10.0.2.15/24", Duration::from_secs(20))?;
    clients::one(qemu.address())?;
    println!("ok    an address by DHCP");
    Ok(())
}
