//! The log read over the network while clients come and go, by readers good and bad; what it says is what the log over
//! the cable says.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use socket2::{Domain, Socket, Type};

use crate::clients::{connect, login, packet, reply};
use crate::qemu::Qemu;

const LOG_OUTPUT: u8 = 9;
const ESCAPE: u8 = 27;
const BANNER: &str = "ESC ends it";
/// The image's setting.
const READERS: usize = 8;
/// How long a reader may acknowledge nothing.
const IDLE: Duration = Duration::from_secs(90);
/// For a line that has to come; longer than the image keeps silent.
const PATIENCE: Duration = Duration::from_secs(35);
/// Keys that readers press who do not read the answers. Those are a fifth of that, and what lies between the image and
/// a reader holds three megabytes.
const KEYS: usize = 24 * 1024 * 1024;
/// Clients that come and go then, with more to tell than the image keeps.
const CLIENTS: usize = 30;

/// A reader of the log.
struct Reader {
    stream: BufReader<TcpStream>,
    seen: Vec<String>,
}

impl Reader {
    /// Connects, and sees that it reads the log from here on.
    fn open(server: SocketAddr) -> Result<Self> {
        let mut reader = Self::connect(server)?;
        let first = reader.line()?;
        ensure!(
            first.contains(", start ") && first.ends_with(" since power-up"),
            "the log begins with {first:?}"
        );
        reader.wait_for(": speaks LogOutput")?;
        Ok(reader)
    }

    fn connect(server: SocketAddr) -> Result<Self> {
        Self::new(connect(server)?)
    }

    fn new(mut stream: TcpStream) -> Result<Self> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&[LOG_OUTPUT])?;
        Ok(Self { stream: BufReader::new(stream), seen: Vec::new() })
    }

    /// The next line; `None` at the end of an orderly close.
    fn line_or_end(&mut self) -> Result<Option<String>> {
        let mut bytes = Vec::new();
        if self
            .stream
            .read_until(b'\n', &mut bytes)
            .with_context(|| format!("no line within {PATIENCE:?}"))?
            == 0
        {
            return Ok(None);
        }
        let text = String::from_utf8(bytes)?;
        let line = text.strip_suffix("\r\n").with_context(|| format!("no CR LF in {text:?}"))?;
        ensure!(!line.contains(char::is_control), "a control character in {line:?}");
        self.seen.push(line.to_owned());
        Ok(Some(line.to_owned()))
    }

    fn line(&mut self) -> Result<String> {
        self.line_or_end()?.context("the log has ended")
    }

    fn wait_for(&mut self, text: &str) -> Result<String> {
        // The image is never silent for long: this is looked at often enough.
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            let line = self.line()?;
            if line.contains(text) {
                return Ok(line);
            }
        }
        let end = self.seen.len().saturating_sub(30);
        bail!("no line with {text:?}; the last ones were:\n{}", self.seen[end..].join("\n"))
    }

    fn press(&mut self, key: u8) -> Result<()> {
        Ok(self.stream.get_mut().write_all(&[key])?)
    }

    /// Ends it as a person does.
    fn leave(mut self) -> Result<()> {
        self.press(ESCAPE)?;
        while self.line_or_end()?.is_some() {}
        Ok(())
    }
}

/// Runs it all.
pub(crate) fn run(qemu: &Qemu) -> Result<()> {
    let server = qemu.address();
    let mut reader = Reader::open(server)?;
    events(server, &mut reader)?;
    reader.press(b'x')?;
    reader.wait_for(BANNER)?;
    too_many(server, &mut reader)?;
    reader.leave()?;
    println!("ok    the log over the network tells what happens, to {READERS} readers");
    without_reading(qemu)?;
    let log = qemu.log();
    ensure!(qemu.starts() == 1, "the image started anew");
    ensure!(
        !log.iter().any(|line| line.contains("unhealthy")),
        "the watchdog had something to see"
    );
    Ok(())
}

/// A panic of the run before is told to whoever reads the log.
pub(crate) fn last_run(server: SocketAddr) -> Result<()> {
    let mut reader = Reader::connect(server)?;
    reader.wait_for(", start 2 since power-up")?;
    reader.wait_for("the last run ended: panic at src/main.rs")?;
    reader.leave()
}

/// One client after the other, and the lines that each of them makes.
fn events(server: SocketAddr, reader: &mut Reader) -> Result<()> {
    let mut client = connect(server)?;
    client.write_all(&login("admin"))?;
    ensure!(reply(&mut client)?.ends_with("Code=0"), "the login failed");
    let opened = reader.wait_for(": speaks Control")?;
    let session = session(&opened)?;
    reader.wait_for(&format!("{session}: admin logged in"))?;
    // Nobody writes a terminal's commands into the log.
    client.write_all(&wrong_login("m\u{1b}[2J"))?;
    reply(&mut client)?;
    reader.wait_for(&format!("{session}: wrong login no. 1 as m\\u{{1b}}[2J"))?;
    drop(client);
    let closed = reader.wait_for(&format!("{session}: closed, peer-closed; user admin, "))?;
    ensure!(
        [" ms old, silent for ", " bytes in, "].iter().all(|part| closed.contains(part)),
        "a close is told as {closed:?}"
    );

    let mut client = connect(server)?;
    client.write_all(&unknown_command("Nonsense"))?;
    reader.wait_for(": no command Nonsense")?;
    reader.wait_for(": closed, unknown-command; ")?;
    let mut client_of_none = connect(server)?;
    client_of_none.write_all(&[1])?;
    reader.wait_for(": flag 1 is not served")?;
    let mut broken = connect(server)?;
    broken.write_all(&[&[8][..], &[0xff; 8]].concat())?;
    reader.wait_for(": code 2, ")?;
    reader.wait_for(": closed, bad-packet; ")?;
    Ok(())
}

/// The session that a line is about, with its address.
fn session(line: &str) -> Result<String> {
    let line = line.split_once("session ").and_then(|(_, rest)| rest.split_once(": "));
    let (session, _) = line.context("the line names no session")?;
    Ok(format!("session {session}"))
}

/// The flag of Throughput, where no login is wanted before the name of a command is looked at, and a command.
fn unknown_command(name: &str) -> Vec<u8> {
    [&[5][..], &packet(&format!("[Request]\r\nCommand={name}"))].concat()
}

fn wrong_login(user: &str) -> Vec<u8> {
    let password = "0".repeat(32);
    packet(&format!("[Request]\r\nCommand=Login\r\nUserName={user}\r\nPassword={password}"))
}

/// One reader more than there may be is turned away; when one has left, the next is let in.
fn too_many(server: SocketAddr, first: &mut Reader) -> Result<()> {
    let others = (1..READERS).map(|_| Reader::open(server)).collect::<Result<Vec<_>>>()?;
    let mut refused = Reader::connect(server)?;
    ensure!(matches!(refused.line_or_end(), Ok(None)), "one reader more than {READERS} was let in");
    first.wait_for(": flag 9 is not served")?;
    for other in others {
        other.leave()?;
    }
    Reader::open(server)?.leave()
}

/// Two readers that read nothing, and press keys as fast as they can until nothing fits between them and the image any
/// more; and a third one, which must miss nothing. One of the two reads at last.
fn without_reading(qemu: &Qemu) -> Result<()> {
    let (lazy, mut never) = lazy_reader(qemu)?;
    let (_, mut late) = lazy_reader(qemu)?;
    let mut good = Reader::open(qemu.address())?;
    thread::scope(|scope| {
        let pressing = [&mut never, &mut late].map(|reader| scope.spawn(|| press_on(reader)));
        pressing.into_iter().try_for_each(|thread| thread.join().expect("a reader panicked"))
    })?;
    for _ in 0..CLIENTS {
        come_and_go(qemu.address(), &mut good)?;
    }
    let lost = as_on_the_cable(qemu, &good.seen)?;
    ensure!(lost == 0, "a good reader was told that it lost {lost} lines");
    // What was told meanwhile is gone for this one.
    late.wait_for("never used")?;
    let lost = as_on_the_cable(qemu, &late.seen)?;
    ensure!(lost > CLIENTS, "a reader that did not read lost {lost} lines");
    late.leave()?;
    let end = qemu.wait_for(&format!("{lazy}: closed, "), 2 * IDLE)?;
    ensure!(end.contains("closed, idle;"), "a reader that never reads ended so: {end}");
    // The good one has said nothing for longer than that.
    good.wait_for("never used")?;
    good.leave()?;
    println!(
        "ok    a reader that did not read lost {lost} lines, one that never did was ended, another one missed nothing"
    );
    Ok(())
}

/// A reader that reads nothing yet, and its session.
fn lazy_reader(qemu: &Qemu) -> Result<(String, Reader)> {
    let readers = || qemu.log().into_iter().filter(|line| line.contains(": speaks LogOutput"));
    let before = readers().count();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_recv_buffer_size(4096)?;
    socket.connect(&qemu.address().into())?;
    let reader = Reader::new(socket.into())?;
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        if let Some(line) = readers().nth(before) {
            return Ok((session(&line)?, reader));
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("a reader of the log was not let in")
}

fn press_on(reader: &mut Reader) -> Result<()> {
    let keys = [b'x'; 512];
    for _ in 0..KEYS / keys.len() {
        reader.stream.get_mut().write_all(&keys).context("pressing keys")?;
    }
    Ok(())
}

/// A client with several lines, all of which the reader must see before the next one comes.
fn come_and_go(server: SocketAddr, reader: &mut Reader) -> Result<()> {
    let mut client = connect(server)?;
    client.write_all(&[8])?;
    let session = session(&reader.wait_for(": speaks Control")?)?;
    for number in 1..=3 {
        client.write_all(&wrong_login("nobody"))?;
        ensure!(reply(&mut client)?.contains("Code=7"), "a wrong password was let in");
        reader.wait_for(&format!("{session}: wrong login no. {number} as nobody"))?;
    }
    ensure!(client.read(&mut [0])? == 0, "three wrong passwords were not enough");
    drop(client);
    reader.wait_for(&format!("{session}: closed, login-failures; "))?;
    Ok(())
}

/// What a reader saw must be what the cable told, but for as many lines as it was told that it lost. Gives their number.
fn as_on_the_cable(qemu: &Qemu, seen: &[String]) -> Result<usize> {
    if let Some((_, last)) = seen.last().and_then(|line| line.split_once(' ')) {
        // The network may be the faster one.
        qemu.wait_for(last, PATIENCE)?;
    }
    let cable = qemu.log();
    let mut cable = cable.iter();
    let (mut gap, mut lost) = (None, 0);
    for line in seen {
        let number = line.strip_prefix("... ").and_then(|rest| rest.strip_suffix(" lines lost"));
        if let Some(number) = number {
            let number = number.parse::<usize>()?;
            lost += number;
            gap = gap.map(|gap: usize| gap + number);
            continue;
        }
        let (_, text) = line.split_once(' ').context("a line without a time")?;
        if text.contains(", start ") || line.contains(BANNER) {
            // These are for readers only.
            continue;
        }
        let passed = cable
            .position(|told| told.contains(text))
            .with_context(|| format!("the cable did not tell {line:?}, or not then"))?;
        ensure!(
            gap.is_none_or(|gap| gap == passed),
            "{passed} lines are missing before {line:?}, told were {gap:?}"
        );
        gap = Some(0);
    }
    Ok(lost)
}
