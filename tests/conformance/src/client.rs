//! A client for cases: sends, reads replies strictly, and turns every surprise into a failure with its bytes.

use std::fmt::Display;
use std::rc::Rc;
use std::time::Duration;

use crate::failure::{Failure, Outcome, Stop, show};
use crate::packet::{MAX_TOTAL, Packet, Reply, heartbeat};
use crate::target::{Clock, Closed, Endpoints, Limits, Login, Received, Target, Wire, WireError};

/// The flag of Upload connections.
pub(crate) const UPLOAD: u8 = 2;
/// The flag of Download connections.
pub(crate) const DOWNLOAD: u8 = 3;
/// The flag of RemoteStream connections.
pub(crate) const REMOTE_STREAM: u8 = 4;
/// The flag of Throughput connections.
pub(crate) const THROUGHPUT: u8 = 5;
/// The flag of Control connections.
pub(crate) const CONTROL: u8 = 8;
/// The flag of LogOutput connections.
pub(crate) const LOG_OUTPUT: u8 = 9;

/// How many of the sent bytes are kept for a failure's text.
const KEPT: usize = 160;

/// What comes of waiting for a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// A line, without the CR LF that ended it.
    Whole(String),
    /// None in time, or none that is whole.
    Quiet,
    /// The connection has ended.
    End(Closed),
}

pub(crate) struct Client {
    wire: Box<dyn Wire>,
    clock: Rc<dyn Clock>,
    limits: Limits,
    sent: Vec<u8>,
    sent_total: usize,
    answered: bool,
    inbox: Vec<u8>,
}

/// Opening.
impl Client {
    /// A connection on which nothing has been sent.
    pub(crate) fn connect(target: &mut dyn Target) -> Result<Self, Stop> {
        let wire = target.connect();
        Self::over(target, wire)
    }

    /// A connection on which the server can have only about `window` unread bytes under way.
    pub(crate) fn connect_narrow(target: &mut dyn Target, window: usize) -> Result<Self, Stop> {
        let wire = target
            .connect_narrow(window)
            .ok_or_else(|| Stop::skip("no means to narrow a connection"))?;
        Self::over(target, wire)
    }

    fn over(target: &dyn Target, wire: Result<Box<dyn Wire>, WireError>) -> Result<Self, Stop> {
        let wire = wire.map_err(|error| Stop::fail("a connection", error.to_string()))?;
        Ok(Self {
            wire,
            clock: target.clock(),
            limits: target.limits().clone(),
            sent: Vec::new(),
            sent_total: 0,
            answered: false,
            inbox: Vec::new(),
        })
    }

    /// A connection that has sent its flag.
    pub(crate) fn flagged(target: &mut dyn Target, flag: u8) -> Result<Self, Stop> {
        let mut client = Self::connect(target)?;
        client.send(&[flag])?;
        Ok(client)
    }

    pub(crate) fn control(target: &mut dyn Target) -> Result<Self, Stop> {
        Self::flagged(target, CONTROL)
    }

    pub(crate) fn throughput(target: &mut dyn Target) -> Result<Self, Stop> {
        Self::flagged(target, THROUGHPUT)
    }

    /// A Control connection that has logged in.
    pub(crate) fn operator(target: &mut dyn Target) -> Result<Self, Stop> {
        let login = credentials(target)?;
        Self::logged_in(target, CONTROL, &login)
    }

    /// A connection that has sent its flag and logged in.
    pub(crate) fn logged_in(
        target: &mut dyn Target,
        flag: u8,
        login: &Login,
    ) -> Result<Self, Stop> {
        let mut client = Self::flagged(target, flag)?;
        client.ask(&login_request(login), "Login", 0)?;
        Ok(client)
    }
}

/// The user for cases that need one; skips them where there is none.
pub(crate) fn credentials(target: &dyn Target) -> Result<Login, Stop> {
    target.limits().login.clone().ok_or_else(|| Stop::skip("no user to log in as"))
}

pub(crate) fn login_request(login: &Login) -> Packet {
    Packet::request("Login").key("UserName", &login.user).key("Password", &login.digest)
}

/// Sending.
impl Client {
    pub(crate) fn send(&mut self, bytes: &[u8]) -> Result<(), Stop> {
        self.note(bytes);
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.wire.send(rest, self.limits.reply_timeout) {
                Ok(0) => return Err(self.fail("the server to go on reading", "no progress")),
                Ok(count) => rest = &rest[count..],
                Err(error) => {
                    return Err(self.fail("the server to take what is sent", &error.to_string()));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn send_packet(&mut self, packet: &Packet) -> Result<(), Stop> {
        self.send(&packet.bytes())
    }

    /// Sends parts so that the server sees them as separate arrivals.
    pub(crate) fn send_parts<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(), Stop> {
        for part in parts {
            self.send(part)?;
            self.clock.sleep(self.limits.segment_gap);
        }
        Ok(())
    }

    /// Sends a packet and collects the replies while it goes: what a client must do whose packet is larger than the
    /// two ends can hold.
    pub(crate) fn send_while_reading(&mut self, packet: &Packet) -> Result<(), Stop> {
        const CHUNK: usize = 64 * 1024;
        let bytes = packet.bytes();
        self.note(&bytes);
        let mut rest = bytes.as_slice();
        let mut moved_at = self.now();
        while !rest.is_empty() {
            let part = &rest[..rest.len().min(CHUNK)];
            let count = match self.wire.send(part, Duration::from_millis(1)) {
                Ok(count) => count,
                Err(error) => {
                    return Err(self.fail("the server to take what is sent", &error.to_string()));
                }
            };
            rest = &rest[count..];
            let read = self.fill(Duration::ZERO)?;
            match read {
                Received::Closed(how) => {
                    return Err(self.fail("the server to take the packet", &format!("{how:?}")));
                }
                Received::Bytes(_) => moved_at = self.now(),
                Received::Quiet if count > 0 => moved_at = self.now(),
                Received::Quiet => self.clock.sleep(Duration::from_millis(1)),
            }
            if self.now() - moved_at > self.limits.reply_timeout {
                return Err(self.fail("the packet to move", "no progress in either direction"));
            }
        }
        Ok(())
    }

    /// Offers bytes without insisting; says how many were taken, or that the connection is gone.
    pub(crate) fn offer(&mut self, bytes: &[u8], timeout: Duration) -> Result<usize, WireError> {
        self.note(bytes);
        self.wire.send(bytes, timeout)
    }

    pub(crate) fn half_close(&mut self) -> Result<(), Stop> {
        self.wire.half_close().map_err(|error| self.fail("to half-close", &error.to_string()))
    }

    fn note(&mut self, bytes: &[u8]) {
        if std::mem::take(&mut self.answered) {
            self.sent.clear();
            self.sent_total = 0;
        }
        let room = KEPT.saturating_sub(self.sent.len());
        self.sent.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.sent_total += bytes.len();
    }
}

/// Receiving.
impl Client {
    /// The next reply, whatever it says.
    pub(crate) fn reply(&mut self) -> Result<Reply, Stop> {
        let total = self.next_packet()?;
        self.answered = true;
        let packet: Vec<u8> = self.inbox.drain(..total).collect();
        Reply::parse(&packet[4..])
            .map_err(|why| self.fail_bytes("a well-formed reply", &packet, &why))
    }

    /// The next reply, which must be to this command as it was spelled and with this code.
    pub(crate) fn expect(&mut self, command: &str, code: u32) -> Result<Reply, Stop> {
        let reply = self.reply()?;
        if reply.command == command && reply.code == code {
            return Ok(reply);
        }
        let got =
            format!("Command={} Code={} Message={:?}", reply.command, reply.code, reply.message);
        Err(self.fail(&format!("a reply with Command={command} Code={code}"), &got))
    }

    /// Sends a request and takes its reply.
    pub(crate) fn ask(&mut self, packet: &Packet, command: &str, code: u32) -> Result<Reply, Stop> {
        self.send_packet(packet)?;
        self.expect(command, code)
    }

    /// The next reply, which must be a success with these keys, this data and nothing else.
    pub(crate) fn expect_success(
        &mut self,
        command: &str,
        keys: &[(&str, &dyn Display)],
        data: &[u8],
    ) -> Outcome {
        let reply = self.expect(command, 0)?;
        let keys: Vec<_> =
            keys.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
        if reply.keys != keys {
            let expected = format!("a reply to {command} with the further keys {keys:?}");
            return Err(self.fail(&expected, &format!("{:?}", reply.keys)));
        }
        self.same_data(data, &reply.data)
    }

    /// Sends a request and takes its reply, which must be a success with these keys and no data.
    pub(crate) fn succeed(
        &mut self,
        packet: &Packet,
        command: &str,
        keys: &[(&str, &dyn Display)],
    ) -> Outcome {
        self.send_packet(packet)?;
        self.expect_success(command, keys, &[])
    }

    /// What came is what was to come; else says where they part.
    pub(crate) fn same_data(&self, expected: &[u8], got: &[u8]) -> Outcome {
        if got == expected {
            return Ok(());
        }
        let at = got.iter().zip(expected).position(|(got, expected)| got != expected);
        let at = at.unwrap_or(got.len().min(expected.len()));
        let got = format!("{} bytes, which differ from offset {at}", got.len());
        Err(self.fail(&format!("{} certain bytes of data", expected.len()), &got))
    }

    /// A heartbeat and its reply: the connection stays, and nothing else was owed.
    pub(crate) fn alive(&mut self) -> Result<(), Stop> {
        self.ask(&heartbeat(), "Active", 0)
            .map(|_| ())
            .map_err(|stop| stop.within("the connection stays"))
    }

    /// Exactly these bytes come next.
    pub(crate) fn expect_bytes(&mut self, expected: &[u8]) -> Result<(), Stop> {
        while self.inbox.len() < expected.len() {
            if !matches!(self.fill(self.limits.reply_timeout)?, Received::Bytes(_)) {
                break;
            }
        }
        if self.inbox.starts_with(expected) {
            self.answered = true;
            self.inbox.drain(..expected.len());
            return Ok(());
        }
        Err(self.fail_bytes(&show(expected, expected.len()), &self.inbox, "other bytes"))
    }

    /// The fatal reply to what was sent, then the orderly end of the connection.
    pub(crate) fn expect_fatal(&mut self, command: &str, code: u32) -> Result<Reply, Stop> {
        let reply = self.expect(command, code)?;
        self.expect_eof()?;
        Ok(reply)
    }

    /// Nothing more, then at once the orderly end: by FIN, as a reset could overtake what was sent before.
    pub(crate) fn expect_eof(&mut self) -> Result<(), Stop> {
        match self.end_within(self.limits.at_once())? {
            Closed::Eof => Ok(()),
            Closed::Reset => Err(self.fail("an orderly close (FIN)", "a reset")),
        }
    }

    /// Nothing more, then at once the end, orderly or not.
    pub(crate) fn expect_gone(&mut self) -> Result<(), Stop> {
        self.end_within(self.limits.at_once()).map(|_| ())
    }

    /// Nothing more, then the end within this time.
    pub(crate) fn end_within(&mut self, time: Duration) -> Result<Closed, Stop> {
        let end = if self.inbox.is_empty() {
            self.fill(time)?
        } else {
            Received::Bytes(self.inbox.len())
        };
        match end {
            Received::Closed(how) => Ok(how),
            Received::Quiet => {
                Err(self
                    .fail(&format!("the connection closed within {time:?}"), "it is still open"))
            }
            Received::Bytes(_) => Err(self.fail_bytes(
                "the connection closed and nothing before",
                &self.inbox,
                "bytes",
            )),
        }
    }

    /// Nothing arrives for this long, the end neither.
    pub(crate) fn expect_quiet(&mut self, time: Duration) -> Result<(), Stop> {
        let got = if self.inbox.is_empty() {
            self.fill(time)?
        } else {
            Received::Bytes(self.inbox.len())
        };
        match got {
            Received::Quiet => Ok(()),
            Received::Bytes(_) => {
                Err(self.fail_bytes(&format!("nothing for {time:?}"), &self.inbox, "bytes"))
            }
            Received::Closed(how) => {
                Err(self.fail("the connection to stay", &format!("it ended: {how:?}")))
            }
        }
    }

    /// Reads at most `most` bytes into the inbox, for a client that reads slowly.
    pub(crate) fn sip(&mut self, most: usize) -> Result<(), Stop> {
        let mut buffer = vec![0; most];
        match self.wire.recv(&mut buffer, self.limits.reply_timeout) {
            Ok(Received::Bytes(count)) => {
                self.inbox.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            other => Err(self
                .fail("more of the reply", &format!("{other:?} after {} bytes", self.inbox.len()))),
        }
    }

    /// Offers a packet to its end while reading whatever comes, unless the server ends the connection first; then waits
    /// for what is still to come. Says how long a reply the server has promised, if any.
    pub(crate) fn probe(&mut self, packet: &Packet) -> Result<Option<usize>, Stop> {
        const CHUNK: usize = 64 * 1024;
        let bytes = packet.bytes();
        let deadline = self.now() + self.limits.reply_timeout;
        let mut sent = 0;
        while self.now() < deadline {
            let part = &bytes[sent..bytes.len().min(sent + CHUNK)];
            match self.offer(part, Duration::from_millis(1)) {
                Ok(count) => sent += count,
                Err(WireError::Closed) => break,
                Err(error) => return Err(self.fail("to send", &error.to_string())),
            }
            let patience = if part.is_empty() { self.limits.at_once() / 2 } else { Duration::ZERO };
            match self.fill(patience)? {
                Received::Closed(_) => break,
                Received::Quiet if part.is_empty() => break,
                Received::Quiet | Received::Bytes(_) => {}
            }
        }
        Ok(self.inbox.first_chunk::<4>().map(|len| u32::from_le_bytes(*len) as usize))
    }

    /// The next line of text, if a whole one comes within this time.
    pub(crate) fn line(&mut self, time: Duration) -> Result<Line, Stop> {
        let deadline = self.now() + time;
        loop {
            if let Some(end) = self.inbox.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<u8> = self.inbox.drain(..end + 2).take(end).collect();
                self.answered = true;
                return match std::str::from_utf8(&line) {
                    Ok(text) if !text.contains(char::is_control) => {
                        Ok(Line::Whole(text.to_owned()))
                    }
                    _ => Err(self.fail_bytes(
                        "a line of text without control characters",
                        &line,
                        "other bytes",
                    )),
                };
            }
            match self.fill(deadline.saturating_sub(self.now()))? {
                Received::Bytes(_) => {}
                Received::Quiet => return Ok(Line::Quiet),
                Received::Closed(how) if self.inbox.is_empty() => return Ok(Line::End(how)),
                Received::Closed(_) => {
                    return Err(self.fail_bytes("whole lines", &self.inbox, "a line cut off"));
                }
            }
        }
    }

    /// Reads whatever comes until the connection ends, each part within this time, and says how many bytes were left
    /// unread.
    pub(crate) fn drain(&mut self, time: Duration) -> Result<(usize, Closed), Stop> {
        loop {
            match self.fill(time)? {
                Received::Bytes(_) => {}
                Received::Closed(how) => return Ok((self.inbox.len(), how)),
                Received::Quiet => {
                    let expected = format!("the end of the connection, or more within {time:?}");
                    return Err(self.fail(&expected, "it is open and quiet"));
                }
            }
        }
    }

    /// How many bytes have been read and belong to no reply taken yet.
    pub(crate) fn waiting(&self) -> usize {
        self.inbox.len()
    }

    /// Waits until a whole packet is in the inbox; says how long it is, its total length included.
    fn next_packet(&mut self) -> Result<usize, Stop> {
        loop {
            if let Some(len) = self.inbox.first_chunk::<4>() {
                let total = u32::from_le_bytes(*len) as usize;
                if total > MAX_TOTAL {
                    return Err(self.fail_bytes(
                        "a reply of at most 10 MiB",
                        &self.inbox,
                        "a larger length",
                    ));
                }
                if self.inbox.len() >= total + 4 {
                    return Ok(total + 4);
                }
            }
            match self.fill(self.limits.reply_timeout)? {
                Received::Bytes(_) => {}
                Received::Quiet => {
                    return Err(self.fail_bytes("a reply", &self.inbox, "no more within the time"));
                }
                Received::Closed(how) => {
                    return Err(self.fail_bytes(
                        "a reply",
                        &self.inbox,
                        &format!("the connection ended ({how:?})"),
                    ));
                }
            }
        }
    }

    fn fill(&mut self, timeout: Duration) -> Result<Received, Stop> {
        let mut buffer = [0; 16 * 1024];
        match self.wire.recv(&mut buffer, timeout) {
            Ok(Received::Bytes(count)) => {
                self.inbox.extend_from_slice(&buffer[..count]);
                Ok(Received::Bytes(count))
            }
            Ok(other) => Ok(other),
            Err(error) => Err(self.fail("to read", &error.to_string())),
        }
    }
}

/// Time, addresses and failures.
impl Client {
    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    pub(crate) fn sleep(&self, time: Duration) {
        self.clock.sleep(time);
    }

    pub(crate) fn endpoints(&self) -> Option<Endpoints> {
        self.wire.endpoints()
    }

    pub(crate) fn fail(&self, expected: &str, got: &str) -> Stop {
        let sent = show(&self.sent, self.sent_total);
        Stop::Fail(Failure { sent, expected: expected.to_owned(), got: got.to_owned() })
    }

    fn fail_bytes(&self, expected: &str, bytes: &[u8], what: &str) -> Stop {
        self.fail(expected, &format!("{what}; {}", show(bytes, bytes.len())))
    }
}
