//! Instructions that the image executes for one heartbeat, and whose they are.
//!
//! The emulator runs one instruction at a time and writes down where each one stands.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::qemu::Qemu;
use crate::sizes::{self, Figures};

const HEARTBEAT: &[u8] = b"\x1d\0\0\0\x19\0\0\0[Request]\r\nCommand=Active";
const REPLY_LEN: usize = 42;

/// Heartbeats that are counted; the lower quartile of each figure is reported. What comes in between only adds to them:
/// the LED, and on a busy host a round trip in more turns than it takes.
const COUNTED: usize = 31;

/// How long after a reply its acknowledgement has been dealt with.
const SETTLED: Duration = Duration::from_millis(60);

/// Growth beyond this, in percent, fails.
const TOLERANCE: u64 = 5;

/// Small figures may grow by this much in any case.
const SLACK: u64 = 100;

/// Counts, prints, and compares with `instructions.txt`, or writes it.
pub(crate) fn check(root: &Path, image: &Path, record: bool) -> Result<()> {
    let figures = count(root, image)?;
    let mut text = String::new();
    for (name, instructions) in &figures {
        writeln!(text, "{name}: {instructions}")?;
    }
    print!(
        "instructions of a heartbeat's round trip on the Cortex-M3, its acknowledgement included:\n{text}"
    );
    let file = root.join("tests/firmware/instructions.txt");
    if record {
        std::fs::write(&file, &text)?;
    }
    let recorded =
        std::fs::read_to_string(&file).with_context(|| format!("{} is missing", file.display()))?;
    let recorded = sizes::parse(&recorded)?;
    for (name, &now) in &figures {
        let before = recorded.get(name).copied().unwrap_or(0);
        let limit = before + (before * TOLERANCE / 100).max(SLACK);
        ensure!(
            now <= limit,
            "{name} has grown from {before} to {now} instructions; if it must, type: cargo run -p pulsegate-firmware-tests -- instructions --record"
        );
    }
    println!("ok    instructions are within {TOLERANCE} % of those recorded");
    Ok(())
}

fn count(root: &Path, image: &Path) -> Result<Figures> {
    let trace = tempfile::NamedTempFile::new()?;
    let path =
        trace.path().to_str().context("the directory for temporary files has an odd name")?;
    ensure!(!path.contains(' '), "the directory for temporary files has a space in its name");
    let qemu = Qemu::start_with(root, image, &format!("-singlestep -d exec,nochain -D {path}"))?;
    let mut device = TcpStream::connect(qemu.address())?;
    device.set_nodelay(true)?;
    device.set_read_timeout(Some(Duration::from_secs(30)))?;
    device.write_all(&[8])?;
    for _ in 0..3 {
        beat(&mut device)?;
    }
    let loader = addr2line::Loader::new(image)
        .map_err(|error| anyhow::anyhow!("no debug information: {error}"))?;
    let mut owners = HashMap::new();
    let mut samples: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
    let mut file = File::open(trace.path())?;
    for sample in 0..COUNTED {
        file.seek(SeekFrom::End(0))?;
        beat(&mut device)?;
        let mut lines = String::new();
        file.read_to_string(&mut lines)?;
        let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
        for address in lines.lines().filter_map(address) {
            let owner = match owners.get(&address) {
                Some(owner) => *owner,
                None => *owners.entry(address).or_insert(sizes::whose(&loader, address)?),
            };
            *counts.entry(owner).or_default() += 1;
            *counts.entry("all").or_default() += 1;
        }
        for (owner, instructions) in counts {
            let of_owner = samples.entry(owner).or_default();
            of_owner.resize(sample, 0);
            of_owner.push(instructions);
        }
    }
    Ok(samples
        .into_iter()
        .map(|(owner, counts)| (owner.to_owned(), lower_quartile(counts)))
        .collect())
}

fn beat(device: &mut TcpStream) -> Result<()> {
    device.write_all(HEARTBEAT)?;
    device.read_exact(&mut [0; REPLY_LEN]).context("no answer to a heartbeat")?;
    sleep(SETTLED);
    Ok(())
}

/// The address in a line of the trace: `Trace 0: 0x7f… [0000000000/00001234/…/…] `.
fn address(line: &str) -> Option<u64> {
    let (_, inside) = line.strip_prefix("Trace ")?.split_once('[')?;
    u64::from_str_radix(inside.split('/').nth(1)?, 16).ok()
}

fn lower_quartile(mut counts: Vec<u64>) -> u64 {
    counts.resize(COUNTED, 0);
    counts.sort_unstable();
    counts[COUNTED / 4]
}
