//! Instructions of the core, counted by callgrind and held against `instructions.txt` beside this file:
//! `cargo bench -p pulsegate-core --bench instructions`, with `-- --record` to record them anew.
//!
//! Unlike times they are the same in every run, so a growth of a few per cent can be told from noise. What another
//! compiler makes of the same code may differ by more than that and is nobody's mistake: figures recorded by another
//! compiler, or for another target, are printed and judge nothing. Record them anew together with the change of the
//! compiler, so that the check is not off for long.
//!
//! Needs valgrind. This program starts itself under it, once for each case and number of operations: the difference of
//! two numbers is free of what comes before the operations.

mod common;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::mem::forget;
use std::path::Path;
use std::process::{Command, ExitCode};

use common::{HEARTBEAT, Sink, TIMEOUT, WINDOW, fleet, open, server};
use embassy_time::Instant;
use pulsegate_core::server::Wants;

/// Growth beyond this, in percent, fails.
const TOLERANCE: f64 = 5.0;
/// The least that a figure must grow by to fail, in instructions: the smallest ones are a handful.
const SLACK: f64 = 2.0;
/// Numbers of operations whose difference is counted.
const FEW: u32 = 512;
const MANY: u32 = 1536;
const SESSIONS: usize = 2000;
const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");
const AGAIN: &str = "cargo bench -p pulsegate-core --bench instructions -- --record";

/// What an operation is, and code that carries out so many of them.
type Case = (&'static str, fn(u32));

const CASES: [Case; 8] = [
    ("heartbeat, alone in its turn", |n| heartbeats(HEARTBEAT, 1, n)),
    ("heartbeat, one of 16 in a turn", |n| heartbeats(HEARTBEAT, 16, n)),
    ("heartbeat in other spelling", |n| {
        heartbeats(b"\x1d\0\0\0\x19\0\0\0[request]\r\ncommand=active", 1, n);
    }),
    ("packet with data, sent back", packets),
    ("sweep, nothing due", nothing_due),
    ("sweep, one due and removed", expiries_of_the_sweep),
    ("session found silent and ended", expiries),
    ("session found alive and filed anew", looks),
];

/// `n` heartbeats in turns of `glued`.
fn heartbeats(heartbeat: &[u8], glued: u32, n: u32) {
    turns(8, &heartbeat.repeat(glued as usize), n / glued);
}

/// `n` packets of Throughput with a little data, one in each turn.
fn packets(n: u32) {
    turns(5, b"\x2f\0\0\0\x28\0\0\0[Request]\r\nCommand=CyclePacket\r\nCount=41abc", n);
}

/// `n` turns of one session, each with this input.
fn turns(flag: u8, input: &[u8], n: u32) {
    let now = Instant::from_secs(1);
    let mut server = server(SESSIONS);
    let id = open(&mut server, flag, now);
    // What only the first one does.
    let _ = server.drive(now, id, &mut Sink::new(input, now), WINDOW);
    for _ in 0..n {
        let mut socket = Sink::new(black_box(input), now);
        assert_eq!(server.drive(now, id, &mut socket, WINDOW), Wants::Input);
    }
}

/// `n` sweeps of sessions none of which is due.
fn nothing_due(n: u32) {
    let (mut table, mut sweep, _) = fleet(SESSIONS as u64);
    let now = Instant::from_secs(1001);
    for _ in 0..n {
        let mut looks = u32::MAX;
        assert_eq!(sweep.due(black_box(now), &mut table, &mut looks), None);
    }
}

/// `n` entries of the structure alone that are due at once and taken out.
fn expiries_of_the_sweep(n: u32) {
    let (mut table, mut sweep, _) = fleet(u64::from(MANY) * 100);
    for _ in 0..n {
        let mut looks = u32::MAX;
        let id = sweep.due(Instant::from_secs(1060), &mut table, &mut looks).expect("one is due");
        assert!(sweep.remove(&mut table, black_box(id)).is_some());
    }
    forget((table, sweep));
}

/// `n` sessions of a whole server that are due and end.
fn expiries(n: u32) {
    let now = Instant::from_secs(1);
    let mut server = server(SESSIONS);
    for _ in 0..SESSIONS {
        open(&mut server, 8, now);
    }
    let due = now + TIMEOUT;
    for _ in 0..n {
        let mut looks = u32::MAX;
        let id = server.due(due, &mut looks).expect("one is due");
        let wants = server.judge(due, id, &mut Sink::new(b"", now), WINDOW);
        assert!(matches!(wants, Wants::Nothing(_)));
    }
    forget(server);
}

/// `n` sessions that have beaten since their deadline was filed.
fn looks(n: u32) {
    let now = Instant::from_secs(1);
    let mut server = server(SESSIONS);
    let ids: Vec<_> = (0..SESSIONS).map(|_| open(&mut server, 8, now)).collect();
    // The first heartbeat files the deadline anew, the second one does not.
    for later in [now, now + TIMEOUT / 2] {
        for &id in &ids {
            let mut socket = Sink::new(HEARTBEAT, later);
            assert_eq!(server.drive(later, id, &mut socket, WINDOW), Wants::Input);
        }
    }
    let mut left = n;
    assert_eq!(server.due(now + TIMEOUT, &mut left), None);
    assert_eq!(left, 0);
    // Its end is not to be counted.
    forget(server);
}

type Figures = BTreeMap<String, f64>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match arguments[..] {
        ["work", case, n] => work(case, n),
        // Cargo adds the last one.
        ["--record", "--bench"] | ["--record"] => record(),
        ["--bench"] | [] => check(),
        _ => Err(format!("unexpected arguments {arguments:?}; the only one there is: --record")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn work(case: &str, n: &str) -> Result<(), String> {
    let case = case.parse().ok().and_then(|case: usize| CASES.get(case));
    let ((_, run), n) = case.zip(n.parse().ok()).ok_or("no such case or number")?;
    run(n);
    Ok(())
}

fn record() -> Result<(), String> {
    let figures = count_all()?;
    let mut text = format!("{}\n", compiler()?);
    for (name, instructions) in &figures {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name}: {instructions:.1}");
    }
    std::fs::write(RECORDED, text).map_err(|error| format!("{RECORDED}: {error}"))?;
    println!("recorded in {RECORDED}");
    Ok(())
}

fn check() -> Result<(), String> {
    let text = std::fs::read_to_string(RECORDED)
        .map_err(|error| format!("{RECORDED}: {error}; to record them, type: {AGAIN}"))?;
    let (by, recorded) = parse(&text)?;
    let figures = count_all()?;
    let mut grown = String::new();
    for (name, &now) in &figures {
        let before = *recorded
            .get(name)
            .ok_or_else(|| format!("instructions.txt lacks {name:?}; type: {AGAIN}"))?;
        let growth = (now / before - 1.0) * 100.0;
        if growth.abs() >= 0.05 {
            println!("{growth:>+8.1} % since recorded: {name}");
        }
        if now > before + (before * TOLERANCE / 100.0).max(SLACK) {
            let _ = writeln!(grown, "{name} has grown from {before:.1} to {now:.1} instructions");
        }
    }
    let compiler = compiler()?;
    if by != compiler {
        println!(
            "NOT COMPARED: instructions of the core, for {by} has recorded them; type: {AGAIN}"
        );
    } else if grown.is_empty() {
        println!("passed: instructions of the core, within {TOLERANCE} % of those recorded");
    } else {
        return Err(format!("{grown}if it must, type: {AGAIN}"));
    }
    Ok(())
}

/// The compiler that recorded the figures, and the figures.
fn parse(text: &str) -> Result<(&str, Figures), String> {
    let (compiler, figures) = text.split_once('\n').ok_or("instructions.txt is empty")?;
    let figure = |line: &str| {
        let (name, instructions) = line.rsplit_once(": ")?;
        Some((name.to_owned(), instructions.parse().ok()?))
    };
    let figures = figures
        .lines()
        .map(|line| figure(line).ok_or_else(|| format!("instructions.txt: {line:?} is no figure")))
        .collect::<Result<_, _>>()?;
    Ok((compiler, figures))
}

/// Version and target of the compiler in use.
fn compiler() -> Result<String, String> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output =
        Command::new(rustc).arg("-vV").output().map_err(|error| format!("rustc: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    let (version, host) = text.lines().next().zip(host).ok_or("rustc -vV says nothing")?;
    Ok(format!("{version} for {host}"))
}

/// Counts every case, and prints it.
fn count_all() -> Result<Figures, String> {
    let program = std::env::current_exe().map_err(|error| format!("no path: {error}"))?;
    let mut figures = Figures::new();
    for (case, (name, _)) in CASES.iter().enumerate() {
        let (few, many) = (count(&program, case, FEW)?, count(&program, case, MANY)?);
        let each = many.saturating_sub(few) as f64 / f64::from(MANY - FEW);
        println!("{each:>9.1} instructions: {name}");
        figures.insert((*name).to_owned(), each);
    }
    Ok(figures)
}

fn count(program: &Path, case: usize, n: u32) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .args(["work", &case.to_string(), &n.to_string()])
        // Every machine copies memory with the same code.
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX,-AVX2,-AVX512F,-AVX512VL,-ERMS,-FSRM")
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().filter_map(|line| line.split_once("Collected : ")).next_back();
    collected
        .filter(|_| output.status.success())
        .and_then(|(_, count)| count.trim().parse().ok())
        .ok_or_else(|| format!("valgrind has counted nothing:\n{text}"))
}
