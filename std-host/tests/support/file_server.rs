//! A server that keeps files in memory and fails where it is told to, for the tests of transfers.
//!
//! Written from the protocol's description alone, without the codec under test.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::value;

const NO_DIRECTORY: &str = "Code=33554433\r\nMessage=";

/// How a connection is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// At once; what has arrived and was not read is lost, and the peer sees a reset.
    Unread,
    /// The server says that it closes, and stores whatever is still sent.
    Drained,
}

/// What goes wrong; a number of times where there is one in front.
#[derive(Default)]
pub(crate) struct Faults {
    /// Each connection ends after so many bytes of data in either direction.
    pub(crate) cut: Option<(usize, Cut)>,
    /// A command, and the code and message it gets instead of being carried out.
    pub(crate) refuse: Option<(u32, &'static str, u32, &'static str)>,
    /// A command after which the connection is closed: it is carried out, but not answered.
    pub(crate) swallow: Option<(u32, &'static str)>,
    /// Bytes of all files that the server has room for.
    pub(crate) room: Option<usize>,
    /// Bytes that each stored file loses when it is ended.
    pub(crate) lossy_ends: Option<(u32, usize)>,
    /// Connections that stand still after so many bytes of data.
    pub(crate) stall: Option<(u32, usize)>,
    /// Sent in the middle of an upload, after so many bytes of data.
    pub(crate) interrupt: Option<(usize, Vec<u8>)>,
    /// Replaces a data packet's content: `Some(empty)`, or more than was asked for.
    pub(crate) bad_data: Option<Vec<u8>>,
    /// Half of a file is gone whenever it is opened again.
    pub(crate) forgets: bool,
    /// The first byte of a file is another one at its end.
    pub(crate) spoils: bool,
}

/// What the server holds and has seen.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) dirs: Vec<String>,
    pub(crate) faults: Faults,
    /// Data bytes read from all clients.
    pub(crate) received: usize,
    /// Data bytes sent to all clients.
    pub(crate) sent: usize,
    pub(crate) connections: usize,
    /// Of these, closed because another one uploads the same file.
    pub(crate) taken_over: usize,
    /// Offsets that downloads asked for.
    pub(crate) offsets: Vec<u64>,
    /// Files ended in order, with what `FileSize` said.
    pub(crate) ended: Vec<(String, String)>,
    uploading: BTreeMap<String, Arc<Notify>>,
}

/// A running server; it ends with the test's runtime.
#[derive(Clone)]
pub(crate) struct FileServer {
    pub(crate) addr: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl FileServer {
    pub(crate) async fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { faults, ..State::default() }));
        let server = Self { addr, state };
        let own = server.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                own.state().connections += 1;
                let connection = Connection {
                    stream,
                    input: Vec::with_capacity(64 * 1024),
                    server: own.clone(),
                    taken_over: Arc::new(Notify::new()),
                    open: None,
                    failed: false,
                    data: 0,
                };
                tokio::spawn(connection.serve());
            }
        });
        server
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> Vec<u8> {
        self.state().files.get(name).cloned().unwrap_or_default()
    }

    pub(crate) fn put(&self, name: &str, content: &[u8]) {
        self.state().files.insert(name.to_owned(), content.to_vec());
    }
}

/// Uses up one of a fault's times.
fn once<T: Copy>(fault: &mut Option<(u32, T)>) -> Option<T> {
    let (times, what) = fault.as_mut()?;
    *times = times.checked_sub(1)?;
    Some(*what)
}

struct Connection {
    stream: TcpStream,
    input: Vec<u8>,
    server: FileServer,
    taken_over: Arc<Notify>,
    /// The file that data goes to.
    open: Option<String>,
    /// Some of the data had no room.
    failed: bool,
    /// Bytes of data in either direction.
    data: usize,
}

impl Connection {
    async fn serve(mut self) {
        let (server, taken_over) = (self.server.clone(), Arc::clone(&self.taken_over));
        tokio::select! {
            _ = self.run() => {}
            () = taken_over.notified() => server.state().taken_over += 1,
        }
    }

    async fn read(&mut self, enough: usize) -> Option<()> {
        while self.input.len() < enough {
            if self.stream.read_buf(&mut self.input).await.ok()? == 0 {
                return None;
            }
        }
        Some(())
    }

    async fn run(&mut self) -> Option<()> {
        self.read(1).await?;
        self.input.remove(0);
        loop {
            self.read(8).await?;
            let number =
                |at: usize| u32::from_le_bytes(self.input[at..at + 4].try_into().unwrap()) as usize;
            let (total, text) = (4 + number(0), number(4));
            self.read(8 + text).await?;
            let head: Vec<u8> = self.input.drain(..8 + text).collect();
            let text = String::from_utf8(head[8..].to_vec()).unwrap();
            let data = total - head.len();
            if value(&text, "Command")? == "Data" {
                self.take(data).await?;
            } else {
                assert_eq!(data, 0, "{text}");
                self.answer(&text).await?;
            }
        }
    }

    /// Stores the data of one packet as it arrives.
    async fn take(&mut self, mut left: usize) -> Option<()> {
        let name = self.open.clone()?;
        while left > 0 {
            self.read(1).await?;
            let mut len = left.min(self.input.len());
            let fault = self.server.state().faults.cut;
            if let Some((after, Cut::Unread)) = fault {
                len = len.min(after - self.data);
            }
            let piece: Vec<u8> = self.input.drain(..len).collect();
            left -= len;
            self.data += len;
            self.store(&name, &piece)?;
            self.fail(fault).await?;
        }
        Some(())
    }

    fn store(&mut self, name: &str, piece: &[u8]) -> Option<()> {
        let mut state = self.server.state();
        if !state.uploading.get(name).is_some_and(|own| Arc::ptr_eq(own, &self.taken_over)) {
            return None;
        }
        state.received += piece.len();
        let used: usize = state.files.values().map(Vec::len).sum();
        if state.faults.room.is_some_and(|room| used + piece.len() > room) {
            self.failed = true;
        }
        if !self.failed {
            state.files.get_mut(name).unwrap().extend(piece);
        }
        Some(())
    }

    /// Whatever is to go wrong after so much data.
    async fn fail(&mut self, cut: Option<(usize, Cut)>) -> Option<()> {
        match cut {
            Some((after, Cut::Unread)) if self.data >= after => return None,
            Some((after, Cut::Drained)) if self.data >= after => {
                self.server.state().faults.cut = None;
                self.stream.shutdown().await.ok()?;
            }
            _ => {}
        }
        let interrupt = {
            let mut state = self.server.state();
            let faults = &mut state.faults;
            let due = faults.interrupt.take_if(|(after, _)| self.data >= *after);
            due.map(|(_, packet)| packet)
        };
        if let Some(packet) = interrupt {
            self.stream.write_all(&packet).await.ok()?;
        }
        let stalls = {
            let mut state = self.server.state();
            let due = state.faults.stall.is_some_and(|(_, after)| self.data >= after);
            due && once(&mut state.faults.stall).is_some()
        };
        if stalls {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        Some(())
    }

    async fn answer(&mut self, text: &str) -> Option<()> {
        let command = value(text, "Command")?.to_owned();
        let refused = {
            let mut state = self.server.state();
            match &mut state.faults.refuse {
                Some((times, refused, code, message)) if *refused == command && *times > 0 => {
                    *times -= 1;
                    Some(format!("Code={code}\r\nMessage={message}"))
                }
                _ => None,
            }
        };
        let body = refused.unwrap_or_else(|| self.carry_out(&command, text));
        let swallow = {
            let mut state = self.server.state();
            state.faults.swallow.is_some_and(|(_, swallowed)| swallowed == command)
                && once(&mut state.faults.swallow).is_some()
        };
        if swallow {
            return None;
        }
        self.reply(&command, &body, b"").await?;
        if command == "Download" && body == "Code=0" {
            self.send_file(text).await?;
        }
        Some(())
    }

    async fn reply(&mut self, command: &str, body: &str, data: &[u8]) -> Option<()> {
        self.stream.write_all(&packet(command, body, data)).await.ok()
    }

    fn carry_out(&mut self, command: &str, text: &str) -> String {
        let mut state = self.server.state();
        let key = |name| value(text, name).unwrap_or_default();
        let path = |dir: &str, name: &str| {
            if dir.is_empty() { name.to_owned() } else { format!("{dir}/{name}") }
        };
        let known = |dirs: &[String], dir: &str| dir.is_empty() || dirs.iter().any(|d| d == dir);
        match command {
            "Upload" if !known(&state.dirs, key("DirName")) => NO_DIRECTORY.to_owned(),
            "Upload" => {
                drop(state);
                self.begin(path(key("DirName"), key("FileName")))
            }
            "Eof" => {
                drop(state);
                self.end(key("FileSize"))
            }
            "Download" => {
                let offset: u64 = key("FileSize").parse().unwrap();
                state.offsets.push(offset);
                match state.files.get(&path(key("DirName"), key("FileName"))) {
                    None => "Code=9\r\nMessage=".to_owned(),
                    Some(file) if offset > file.len() as u64 => "Code=6\r\nMessage=".to_owned(),
                    Some(_) => "Code=0".to_owned(),
                }
            }
            "FileList" => {
                let prefix = path(key("DirName"), "");
                let row = |(path, file): (&String, &Vec<u8>)| {
                    let name = path.strip_prefix(&prefix).filter(|name| !name.contains('/'))?;
                    Some(format!("\r\nItem={name}\u{1}{}", file.len()))
                };
                "Code=0".to_owned() + &state.files.iter().filter_map(row).collect::<String>()
            }
            "CreateDir" => {
                if !known(&state.dirs, key("ParentDir")) {
                    return NO_DIRECTORY.to_owned();
                }
                let dir = path(key("ParentDir"), key("DirName"));
                state.dirs.push(dir);
                "Code=0".to_owned()
            }
            "DeleteFile" => {
                state.files.remove(&path(key("DirName"), key("Item")));
                "Code=0".to_owned()
            }
            _ => "Code=0".to_owned(),
        }
    }

    /// Opens a file for data, and takes it from another connection.
    fn begin(&mut self, name: String) -> String {
        let mut state = self.server.state();
        self.failed = false;
        let own = Arc::clone(&self.taken_over);
        if self.open.as_ref() != Some(&name)
            && let Some(older) = state.uploading.insert(name.clone(), own)
        {
            older.notify_one();
        }
        self.open = Some(name.clone());
        let forgets = state.faults.forgets;
        let file = state.files.entry(name).or_default();
        if forgets {
            file.truncate(file.len() / 2);
        }
        format!("Code=0\r\nFileSize={}", file.len())
    }

    /// Closes the file, of which the client says that it has so many bytes.
    fn end(&mut self, size: &str) -> String {
        let mut state = self.server.state();
        let Some(name) = self.open.take() else {
            return "Code=10\r\nMessage=".to_owned();
        };
        state.uploading.remove(&name);
        if self.failed {
            return "Code=4\r\nMessage=no space left on the server".to_owned();
        }
        let lost = once(&mut state.faults.lossy_ends).unwrap_or(0);
        let spoils = state.faults.spoils;
        let file = state.files.get_mut(&name).unwrap();
        file.truncate(file.len() - lost);
        if let (true, Some(first)) = (spoils, file.first_mut()) {
            *first ^= 1;
        }
        if size != file.len().to_string() {
            return "Code=33554440\r\nMessage=".to_owned();
        }
        state.ended.push((name, size.to_owned()));
        "Code=0".to_owned()
    }

    async fn send_file(&mut self, text: &str) -> Option<()> {
        let number = |key| value(text, key).unwrap().parse::<usize>().unwrap();
        let (offset, size) = (number("FileSize"), number("PacketSize"));
        let name = match value(text, "DirName").unwrap() {
            "" => value(text, "FileName").unwrap().to_owned(),
            dir => format!("{dir}/{}", value(text, "FileName").unwrap()),
        };
        let (mut file, cut, bad) = {
            let state = self.server.state();
            let file = state.files[&name].clone();
            (file, state.faults.cut, state.faults.bad_data.clone())
        };
        let rest = file.split_off(offset);
        self.reply("SendFile", &format!("Code=0\r\nFileSize={}", rest.len()), b"").await?;
        for data in rest.chunks(size) {
            if let Some(bad) = &bad {
                self.reply("Data", "Code=0", bad).await?;
                continue;
            }
            if let Some((after, _)) = cut
                && self.data + data.len() > after
            {
                let sent = after - self.data;
                let packet = packet("Data", "Code=0", data);
                let head = packet.len() - data.len();
                self.stream.write_all(&packet[..head + sent]).await.ok()?;
                self.server.state().sent += sent;
                return None;
            }
            self.reply("Data", "Code=0", data).await?;
            self.data += data.len();
            self.server.state().sent += data.len();
            self.fail(None).await?;
        }
        Some(())
    }
}

/// One reply as it goes over the wire.
pub(crate) fn packet(command: &str, body: &str, data: &[u8]) -> Vec<u8> {
    let text = format!("[Response]\r\nCommand={command}\r\n{body}");
    let mut packet = ((4 + text.len() + data.len()) as u32).to_le_bytes().to_vec();
    packet.extend((text.len() as u32).to_le_bytes());
    packet.extend(text.as_bytes());
    packet.extend(data);
    packet
}
