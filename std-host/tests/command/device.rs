//! A device, or an operator, over one blocking socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use pulsegate::client::password_digest;
use pulsegate::client::wire::{self, encode_request};

use super::PATIENCE;

pub(crate) const CONTROL: u8 = 8;

/// How a connection stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Eof,
    Reset,
    /// Not at all, within the time given.
    Open,
}

/// What is looked at in a reply.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) code: u32,
    pub(crate) message: String,
    pub(crate) items: Vec<String>,
}

pub(crate) struct Device {
    pub(crate) stream: TcpStream,
}

impl Device {
    /// A connection that has sent nothing.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).expect("the listener takes connections"))
    }

    pub(crate) fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("a timeout above zero");
        stream.set_nodelay(true).expect("the option exists");
        Self { stream }
    }

    /// A Control connection whose first heartbeat has been answered.
    pub(crate) fn beating(address: SocketAddr) -> Self {
        let mut device = Self::connect(address);
        device.try_open().expect("the first heartbeat is answered");
        device
    }

    /// An operator that has logged in.
    pub(crate) fn logged_in(address: SocketAddr, name: &str, password: &str) -> Self {
        let mut device = Self::beating(address);
        let answer = device.login(name, password);
        assert_eq!(answer.code, 0, "{name}: {answer:?}");
        device
    }

    /// Sends the flag and a heartbeat, and reads the answer.
    pub(crate) fn try_open(&mut self) -> io::Result<()> {
        self.stream.write_all(&[CONTROL])?;
        self.try_beat()
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("the socket is connected")
    }

    pub(crate) fn send(&mut self, command: &str, keys: &[(&str, &str)]) -> io::Result<()> {
        let packet = encode_request(command, keys, b"").expect("a request of the test");
        self.stream.write_all(&packet)
    }

    pub(crate) fn receive(&mut self) -> io::Result<Answer> {
        let limits = wire::ANY_REPLY;
        let invalid = |error| io::Error::new(ErrorKind::InvalidData, format!("{error}"));
        let mut packet = vec![0; 8];
        self.stream.read_exact(&mut packet)?;
        let len = wire::packet_len(&packet, limits).map_err(invalid)?;
        packet.resize(len.expect("the header is there"), 0);
        self.stream.read_exact(&mut packet[8..])?;
        let reply = wire::Reply::parse(&packet, limits).map_err(invalid)?;
        Ok(Answer {
            code: reply.code,
            message: reply.message.unwrap_or_default().to_owned(),
            items: reply.items().map(str::to_owned).collect(),
        })
    }

    pub(crate) fn ask(&mut self, command: &str, keys: &[(&str, &str)]) -> Answer {
        let answer = self.send(command, keys).and_then(|()| self.receive());
        answer.unwrap_or_else(|error| panic!("{command} from {}: {error}", self.local()))
    }

    pub(crate) fn try_beat(&mut self) -> io::Result<()> {
        self.send("Active", &[])?;
        let answer = self.receive()?;
        if answer.code == 0 { Ok(()) } else { Err(io::Error::other(format!("{answer:?}"))) }
    }

    pub(crate) fn beat(&mut self) {
        let local = self.local();
        self.try_beat().unwrap_or_else(|error| panic!("heartbeat of {local}: {error}"));
    }

    pub(crate) fn login(&mut self, name: &str, password: &str) -> Answer {
        let digest = password_digest(password);
        self.ask("Login", &[("UserName", name), ("Password", &digest)])
    }

    /// Waits for the connection's end, and drops what comes before it.
    pub(crate) fn end_within(&mut self, limit: Duration) -> End {
        let until = Instant::now() + limit;
        let mut sink = [0; 4096];
        let end = loop {
            let left = until.saturating_duration_since(Instant::now());
            // Zero would mean without limit.
            let left = left.max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("a timeout above zero");
            match self.stream.read(&mut sink) {
                Ok(0) => break End::Eof,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    if Instant::now() >= until {
                        break End::Open;
                    }
                }
                Err(_) => break End::Reset,
            }
        };
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        end
    }
}
