//! Two dozen clients at once: most beat, some are silent, stuck or break off. The log must tell how each ended.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pulsegate_conformance::Login;
use pulsegate_conformance::pace::Pace;
use socket2::SockRef;

use crate::qemu::Qemu;

const BEATING: usize = 16;
const SILENT: usize = 3;
const STUCK: usize = 1;
const FLAGLESS: usize = 1;
const BREAKING_OFF: usize = 3;
/// The image's settings.
const IDLE: Duration = Duration::from_secs(60);
const FLAG: Duration = Duration::from_secs(6);
/// Long enough for a silent session to be swept.
const WHOLE: Duration = Duration::from_secs(66);
/// Between two connects: the emulator's port forwarding lets one connection wait to be accepted, and the host drops what
/// comes on top, to be repeated seconds later.
const GAP: Duration = Duration::from_millis(100);
const STACK_TO_SPARE: usize = 4096;

/// Runs them all and reads the log.
pub(crate) fn run(qemu: &mut Qemu) -> Result<()> {
    let server = qemu.address();
    let (pace, began) = (Pace::watch(), Instant::now());
    let end = began + WHOLE;
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..BEATING {
            thread::sleep(GAP);
            threads.push(scope.spawn(move || beat(server, number, end)));
        }
        for _ in 0..SILENT {
            thread::sleep(GAP);
            threads.push(scope.spawn(move || silent(server, &login("meter"), IDLE)));
        }
        for _ in 0..FLAGLESS {
            thread::sleep(GAP);
            threads.push(scope.spawn(move || silent(server, &[], FLAG)));
        }
        for _ in 0..STUCK {
            thread::sleep(GAP);
            threads.push(scope.spawn(move || stuck(server, end)));
        }
        for _ in 0..BREAKING_OFF {
            thread::sleep(GAP);
            threads.push(scope.spawn(move || break_off(server, end)));
        }
        for thread in threads {
            thread.join().expect("a client panicked")?;
        }
        Ok::<_, anyhow::Error>(())
    })?;
    // The next report comes within half a minute.
    let reports = reports(qemu).len();
    while self::reports(qemu).len() <= reports {
        thread::sleep(Duration::from_millis(200));
        ensure!(end.elapsed() < Duration::from_secs(40), "the image has stopped reporting");
    }
    judge(qemu, pace.held_up_since(began))
}

fn reports(qemu: &Qemu) -> Vec<String> {
    qemu.log().into_iter().filter(|line| line.contains("never used")).collect()
}

/// What the log must say, where the machine has held the emulator up for this long.
fn judge(qemu: &Qemu, held_up: Duration) -> Result<()> {
    let log = qemu.log();
    let whole = || log.join("\n");
    let closed = |reason: &str| {
        log.iter().filter(|line| line.contains(&format!("closed, {reason};"))).count()
    };
    ensure!(qemu.starts() == 1, "the image started anew:\n{}", whole());
    ensure!(
        !log.iter().any(|line| line.contains("unhealthy")),
        "a session has lost its deadline:\n{}",
        whole()
    );
    let swept = log.iter().filter_map(|line| swept_after(line)).collect::<Vec<_>>();
    ensure!(
        swept.len() >= SILENT,
        "{} of {SILENT} silent clients were swept:\n{}",
        swept.len(),
        whole()
    );
    let latest = IDLE + Duration::from_millis(400) + held_up;
    let in_time = |silence: &u64| (IDLE..latest).contains(&Duration::from_millis(*silence));
    ensure!(
        swept.iter().all(in_time),
        "swept after {swept:?} ms of silence, held up for {held_up:?}:\n{}",
        whole()
    );
    ensure!(closed("no-flag") == FLAGLESS, "no flag was missed:\n{}", whole());
    ensure!(closed("peer-reset") >= BREAKING_OFF, "no broken connection was noticed:\n{}", whole());
    ensure!(closed("evicted") == 0, "somebody had to make room:\n{}", whole());
    let last = reports(qemu).pop().context("the image never reported")?;
    let unused = stack_unused(&last).with_context(|| format!("no stack in {last:?}"))?;
    ensure!(unused >= STACK_TO_SPARE, "only {unused} bytes of stack were never used");
    println!(
        "ok    24 clients at once: {} swept after {swept:?} ms of silence, {} reset; {last}",
        swept.len(),
        closed("peer-reset")
    );
    Ok(())
}

/// How long a session had been silent that was swept.
fn swept_after(line: &str) -> Option<u64> {
    line.split_once("closed, idle;")?.1.split_once("silent for ")?.1.split(' ').next()?.parse().ok()
}

fn stack_unused(line: &str) -> Option<usize> {
    line.split_once(" never used")?.0.rsplit(' ').next()?.parse().ok()
}

pub(crate) fn packet(text: &str) -> Vec<u8> {
    let len = u32::try_from(text.len()).expect("a short text");
    [&(len + 4).to_le_bytes(), &len.to_le_bytes(), text.as_bytes()].concat()
}

/// The flag of Control and a login.
pub(crate) fn login(user: &str) -> Vec<u8> {
    let Login { user, digest } = Login::new(user, user);
    let text = format!("[Request]\r\nCommand=Login\r\nUserName={user}\r\nPassword={digest}");
    [&[8][..], &packet(&text)].concat()
}

/// Reads one reply and gives its text.
pub(crate) fn reply(stream: &mut TcpStream) -> Result<String> {
    let mut lengths = [0; 8];
    stream.read_exact(&mut lengths)?;
    let [a, b, c, d, ..] = lengths;
    let mut text = vec![0; (u32::from_le_bytes([a, b, c, d]) as usize).saturating_sub(4)];
    stream.read_exact(&mut text)?;
    Ok(String::from_utf8(text)?)
}

pub(crate) fn connect(server: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(stream)
}

/// Logs in and beats; the first one looks at the client list too.
fn beat(server: SocketAddr, number: usize, end: Instant) -> Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(&login(if number == 0 { "admin" } else { "meter" }))?;
    ensure!(reply(&mut stream)?.ends_with("Code=0"), "the login failed");
    while Instant::now() < end {
        thread::sleep(Duration::from_secs(5));
        stream.write_all(&packet("[Request]\r\nCommand=Active"))?;
        let answer = reply(&mut stream).with_context(|| format!("heartbeat of client {number}"))?;
        ensure!(answer.ends_with("Code=0"), "a heartbeat got {answer:?}");
        // Towards the end the others leave.
        if number == 0 && Instant::now() + Duration::from_secs(10) < end {
            stream.write_all(&packet("[Request]\r\nCommand=GetClients"))?;
            let list = reply(&mut stream)?;
            let beating = list.lines().filter(|line| line.contains("\tControl\tmeter\t")).count();
            ensure!(beating >= BEATING - 1, "the list lacks clients that beat:\n{list}");
        }
    }
    Ok(())
}

/// Connects, beats once, and leaves.
pub(crate) fn one(server: SocketAddr) -> Result<()> {
    let mut stream = connect(server)?;
    stream.write_all(&[&[8][..], &packet("[Request]\r\nCommand=Active")].concat())?;
    let answer = reply(&mut stream)?;
    ensure!(answer.ends_with("Code=0"), "a heartbeat got {answer:?}");
    Ok(())
}

/// Says `first` and no more, and must be ended after `timeout`.
fn silent(server: SocketAddr, first: &[u8], timeout: Duration) -> Result<()> {
    let mut stream = connect(server)?;
    stream.set_read_timeout(Some(timeout + Duration::from_secs(5)))?;
    stream.write_all(first)?;
    let begin = Instant::now();
    let mut bytes = [0; 256];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error).context("a silent client was not ended"),
        }
    }
    let took = begin.elapsed();
    // The emulator's clock and this one differ by a little.
    let early = took + Duration::from_millis(50) < timeout;
    ensure!(
        !early && took < timeout + Duration::from_secs(2),
        "ended after {took:?}, not {timeout:?}"
    );
    Ok(())
}

/// Wants echoes and reads none of them, until nothing moves any more.
fn stuck(server: SocketAddr, end: Instant) -> Result<()> {
    let mut stream = connect(server)?;
    SockRef::from(&stream).set_recv_buffer_size(4096)?;
    stream.set_write_timeout(Some(Duration::from_millis(500)))?;
    stream.write_all(&[5])?;
    let text = "[Request]\r\nCommand=CyclePacket\r\nCount=1";
    let data = [0x55; 4096];
    let command = u32::try_from(text.len())?;
    let head =
        [&(command + 4 + 4096).to_le_bytes()[..], &command.to_le_bytes(), text.as_bytes()].concat();
    while Instant::now() < end {
        // That it is refused or ended is what this client is for.
        if stream.write_all(&[&head[..], &data].concat()).is_err() {
            thread::sleep(Duration::from_millis(500));
        }
    }
    Ok(())
}

/// Connects, beats, and resets the connection, again and again.
fn break_off(server: SocketAddr, end: Instant) -> Result<()> {
    while Instant::now() < end {
        let mut stream = connect(server)?;
        stream.write_all(&[&[8][..], &packet("[Request]\r\nCommand=Active")].concat())?;
        ensure!(reply(&mut stream)?.ends_with("Code=0"), "a heartbeat failed");
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
        drop(stream);
        thread::sleep(Duration::from_secs(2));
    }
    Ok(())
}
