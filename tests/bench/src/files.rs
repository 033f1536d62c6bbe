//! Upload and download beside the plain echo: how fast data moves through a server's files.
//!
//! Each connection moves one file of its own, all of them at once; what is timed is the whole of it, from the first
//! connection to the last answer.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::dialect::{Dialect, Speaks, packet};
use crate::host::{self, Cores};
use crate::loadgen::{self, Load, Work, connect};
use crate::server::Server;
use crate::stats::Summary;

const FLAG_UPLOAD: u8 = 2;
const FLAG_DOWNLOAD: u8 = 3;
/// The demo user, whose password's digest is that of `admin`.
const LOGIN: &str =
    "[Request]\r\nCommand=Login\r\nUserName=admin\r\nPassword=21232f297a57a5a743894a0e4a801fc3";
/// Nothing moves for so long: the run is broken.
const STALL: Duration = Duration::from_secs(30);
const READ_BUFFER: usize = 256 * 1024;

/// What is measured.
#[derive(Debug)]
pub struct Plan {
    /// The server's command line; `{dir}` in it is replaced by a directory for its files.
    pub server: String,
    /// Bytes of data per packet.
    pub packets: Vec<usize>,
    /// How many connections at once.
    pub connections: Vec<usize>,
    /// Bytes that each measurement moves, over all connections.
    pub total: u64,
    /// How often each is measured.
    pub rounds: usize,
    /// Where server and load generator run.
    pub cores: Cores,
}

/// Medians for one packet size and number of connections, in bytes per second.
#[derive(Debug)]
struct Row {
    packet: usize,
    connections: usize,
    upload: f64,
    download: f64,
    echo: f64,
}

/// What came of it.
#[derive(Debug)]
pub struct Table(Vec<Row>);

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| packet | connections | upload MB/s | download MB/s | echo MB/s, each way |"
        )?;
        writeln!(f, "| --- | --- | --- | --- | --- |")?;
        for Row { packet, connections, upload, download, echo } in &self.0 {
            let mb = |bytes: &f64| bytes / 1e6;
            let (kib, up, down, echo) = (packet / 1024, mb(upload), mb(download), mb(echo));
            writeln!(f, "| {kib} KiB | {connections} | {up:.0} | {down:.0} | {echo:.0} |")?;
        }
        Ok(())
    }
}

/// A directory that goes with its value.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // What is left would only take room.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Measures all combinations, each a few times, with a fresh directory for each.
pub fn measure(plan: &Plan) -> Result<Table> {
    ensure!(
        plan.server.contains("{dir}"),
        "the server's command needs {{dir}}, where its files go"
    );
    host::raise_descriptor_limit()?;
    let mut rows = Vec::new();
    for &packet in &plan.packets {
        for &connections in &plan.connections {
            let mut rates = [const { Vec::new() }; 3];
            for _ in 0..plan.rounds {
                for (all, rate) in rates.iter_mut().zip(round(plan, packet, connections)?) {
                    all.push(rate);
                }
            }
            let [upload, download, echo] = rates.map(|rates| Summary::of(rates).median);
            rows.push(Row { packet, connections, upload, download, echo });
        }
    }
    Ok(Table(rows))
}

/// Upload, download, echo.
fn round(plan: &Plan, packet: usize, connections: usize) -> Result<[f64; 3]> {
    let scratch =
        Scratch(std::env::temp_dir().join(format!("pulsegate-bench-{}", std::process::id())));
    fs::create_dir_all(&scratch.0).with_context(|| format!("{}", scratch.0.display()))?;
    let command = plan.server.replace("{dir}", &scratch.0.to_string_lossy());
    let server = Server::start(&command, &[plan.cores.server], &[plan.cores.load])?;
    let each = plan.total / connections as u64;
    let upload = transfer(server.address, connections, |index| Side::upload(index, each, packet))?;
    let down = |index| Side::download(index, each, packet);
    let download = transfer(server.address, connections, down)?;
    let load = Load {
        address: server.address,
        connections,
        work: Work::Requests { depth: 1, dialect: Dialect::Cycle(packet) },
        speaks: Speaks::Protocol,
        warm_up: Duration::from_millis(200),
        duration: Duration::from_secs(1),
    };
    let report = loadgen::run(&load, &mut |_| {})?;
    // Both directions are counted there.
    let echo = report.bytes as f64 / 2.0 / report.elapsed.as_secs_f64();
    let moved = (each * connections as u64) as f64;
    Ok([moved / upload.as_secs_f64(), moved / download.as_secs_f64(), echo])
}

/// Uploads to a server that runs already, the same files over and over until the time is up; gives the bytes per second.
pub fn keep_uploading(
    address: SocketAddr,
    connections: usize,
    packet: usize,
    each: u64,
    duration: Duration,
) -> Result<f64> {
    host::raise_descriptor_limit()?;
    let (mut moved, mut took) = (0, Duration::ZERO);
    while took < duration {
        took += transfer(address, connections, |index| Side::upload(index, each, packet))?;
        moved += each * connections as u64;
    }
    Ok(moved as f64 / took.as_secs_f64())
}

/// What one connection sends, and what it waits for.
struct Side {
    /// Sent first: flag, login, request.
    head: Vec<u8>,
    /// Sent so often after that.
    body: Vec<u8>,
    times: u64,
    /// Sent last.
    tail: Vec<u8>,
    /// Bytes of data, and packets without data, that come in all.
    data: u64,
    replies: u64,
}

impl Side {
    fn upload(index: usize, each: u64, size: usize) -> Self {
        let remove = format!("[Request]\r\nCommand=DeleteFile\r\nDirName=\r\nItem=f{index}");
        let begin = format!("[Request]\r\nCommand=Upload\r\nDirName=\r\nFileName=f{index}");
        let times = each / size as u64;
        let last = vec![0x5a; (each % size as u64) as usize];
        let mut tail =
            if last.is_empty() { Vec::new() } else { packet("[Request]\r\nCommand=Data", &last) };
        tail.extend(packet(&format!("[Request]\r\nCommand=Eof\r\nFileSize={each}"), b""));
        Self {
            head: [head(FLAG_UPLOAD, &remove), packet(&begin, b"")].concat(),
            body: packet("[Request]\r\nCommand=Data", &vec![0x5a; size]),
            times,
            tail,
            data: 0,
            replies: 4,
        }
    }

    fn download(index: usize, each: u64, size: usize) -> Self {
        let get = format!(
            "[Request]\r\nCommand=Download\r\nDirName=\r\nFileName=f{index}\r\nFileSize=0\r\nPacketSize={size}"
        );
        Self {
            head: head(FLAG_DOWNLOAD, &get),
            body: vec![],
            times: 0,
            tail: vec![],
            data: each,
            replies: 3,
        }
    }
}

fn head(flag: u8, command: &str) -> Vec<u8> {
    [&[flag][..], &packet(LOGIN, b""), &packet(command, b"")].concat()
}

struct Connection {
    stream: TcpStream,
    side: Side,
    /// Pieces sent whole, head, bodies and tail, and bytes of the next one.
    piece: u64,
    at: usize,
    /// The front of a packet, until its command is whole.
    front: Vec<u8>,
    /// Data of the packet that is still to come.
    data_left: u64,
    data: u64,
    replies: u64,
}

impl Connection {
    fn is_done(&self) -> bool {
        self.data == self.side.data && self.replies == self.side.replies
    }

    /// Moves what the socket lets it; whether anything moved.
    fn turn(&mut self, buffer: &mut [u8]) -> Result<bool> {
        let sent = self.send()?;
        let mut moved = sent;
        while !self.is_done() {
            match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(n) => {
                    moved = true;
                    self.take(&buffer[..n])?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a connection broke"),
            }
        }
        Ok(moved)
    }

    fn send(&mut self) -> Result<bool> {
        let mut moved = false;
        loop {
            let bytes = match self.piece {
                0 => &self.side.head,
                n if n <= self.side.times => &self.side.body,
                n if n == self.side.times + 1 => &self.side.tail,
                _ => return Ok(moved),
            };
            if self.at == bytes.len() {
                (self.piece, self.at) = (self.piece + 1, 0);
                continue;
            }
            match self.stream.write(&bytes[self.at..]) {
                Ok(n) => (self.at, moved) = (self.at + n, true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(moved),
                Err(error) => return Err(error).context("a connection broke"),
            }
        }
    }

    /// Counts packets and data, and refuses failures.
    fn take(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            if self.data_left > 0 {
                let n = self.data_left.min(bytes.len() as u64);
                (self.data_left, self.data) = (self.data_left - n, self.data + n);
                bytes = &bytes[n as usize..];
                continue;
            }
            self.front.push(bytes[0]);
            bytes = &bytes[1..];
            if self.front.len() < 8 {
                continue;
            }
            let number = |at: usize| {
                let four =
                    [self.front[at], self.front[at + 1], self.front[at + 2], self.front[at + 3]];
                u32::from_le_bytes(four) as usize
            };
            let (total, command) = (number(0), number(4));
            if self.front.len() < 8 + command {
                continue;
            }
            let text = String::from_utf8_lossy(&self.front[8..]).into_owned();
            ensure!(text.contains("Code=0"), "the server said {text:?}");
            self.data_left = (total - 4 - command) as u64;
            self.replies += u64::from(self.data_left == 0);
            self.front.clear();
        }
        Ok(())
    }
}

/// Runs all connections to their ends, and says how long it took.
fn transfer(
    address: SocketAddr,
    connections: usize,
    side: impl Fn(usize) -> Side,
) -> Result<Duration> {
    let mut poll = Poll::new().context("cannot make an epoll instance")?;
    let mut events = Events::with_capacity(connections.max(64));
    let mut buffer = vec![0; READ_BUFFER];
    let began = Instant::now();
    let mut open = Vec::new();
    for index in 0..connections {
        let stream = connect(address, index)?;
        stream.set_nonblocking(true).context("cannot make a socket non-blocking")?;
        let mut stream = TcpStream::from_std(stream);
        let interest = Interest::READABLE | Interest::WRITABLE;
        poll.registry()
            .register(&mut stream, Token(index), interest)
            .context("cannot watch a socket")?;
        let (side, front) = (side(index), Vec::new());
        open.push(Some(Connection {
            stream,
            side,
            piece: 0,
            at: 0,
            front,
            data_left: 0,
            data: 0,
            replies: 0,
        }));
    }
    let (mut left, mut moved_at) = (connections, Instant::now());
    while left > 0 {
        poll.poll(&mut events, Some(Duration::from_millis(500)))
            .context("cannot wait for sockets")?;
        for event in &events {
            let slot = &mut open[event.token().0];
            let Some(connection) = slot else { continue };
            if connection.turn(&mut buffer)? {
                moved_at = Instant::now();
            }
            if connection.is_done() {
                *slot = None;
                left -= 1;
            }
        }
        ensure!(
            moved_at.elapsed() < STALL,
            "nothing has moved for {STALL:?}, {left} transfers are left"
        );
    }
    Ok(began.elapsed())
}
