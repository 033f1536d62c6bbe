//! A small server for the client's and the fleet's tests, with knobs for misbehaviour.
//!
//! Written from the protocol's description alone, without the codec under test.

pub(crate) mod file_server;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::time::{sleep_until, timeout_at};

/// What a machine that runs tests may take for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How the server behaves.
#[derive(Clone)]
pub(crate) struct Behaviour {
    /// Closes a connection that has been silent for this long; `None` never closes.
    pub(crate) idle: Option<Duration>,
    /// Closes any connection after this long, however alive.
    pub(crate) max_age: Option<Duration>,
    /// Closes at once, before anything is answered.
    pub(crate) turn_away: bool,
    /// Refuses every login.
    pub(crate) refuse_logins: bool,
    /// Rows in the client list.
    pub(crate) rows: usize,
    /// Rows that fit into one reply.
    pub(crate) rows_at_once: usize,
    /// Sent instead of every reply.
    pub(crate) garbage: Option<Vec<u8>>,
    /// A login closes the connection on which the same user logged in before.
    pub(crate) takeover: bool,
    /// Reads, and answers nothing.
    pub(crate) mute: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            idle: Some(Duration::from_secs(60)),
            max_age: None,
            turn_away: false,
            refuse_logins: false,
            rows: 3,
            rows_at_once: usize::MAX,
            garbage: None,
            takeover: false,
            mute: false,
        }
    }
}

/// Whom to tell when a user logs in elsewhere.
type Users = Arc<Mutex<HashMap<String, Arc<Notify>>>>;

/// A running server; it ends with the test's runtime.
pub(crate) struct FakeServer {
    pub(crate) addr: SocketAddr,
    /// Connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
}

pub(crate) async fn serve(behaviour: Behaviour) -> FakeServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let users = Users::default();
    tokio::spawn(async move {
        loop {
            let users = Arc::clone(&users);
            let (stream, _) = listener.accept().await.unwrap();
            count.fetch_add(1, Relaxed);
            let behaviour = behaviour.clone();
            tokio::spawn(async move {
                let born = Instant::now();
                let end = behaviour.max_age.map(|age| born + age);
                let taken_over = Arc::new(Notify::new());
                tokio::select! {
                    _ = connection(stream, &behaviour, &users, &taken_over) => {}
                    () = taken_over.notified() => {}
                    () = async { match end {
                        Some(end) => sleep_until(end.into()).await,
                        None => std::future::pending().await,
                    }} => {}
                }
            });
        }
    });
    FakeServer { addr, accepted }
}

async fn connection(
    mut stream: TcpStream,
    behaviour: &Behaviour,
    users: &Users,
    taken_over: &Arc<Notify>,
) -> Option<()> {
    if behaviour.turn_away {
        return None;
    }
    let mut input = Vec::new();
    let mut flagged = false;
    loop {
        // A read that brings bytes is the proof of life.
        let far = Instant::now() + Duration::from_secs(3600);
        let deadline = behaviour.idle.map_or(far, |idle| Instant::now() + idle);
        let read = timeout_at(deadline.into(), stream.read_buf(&mut input));
        if read.await.ok()?.ok()? == 0 {
            return None;
        }
        if !flagged {
            input.remove(0);
            flagged = true;
        }
        while input.len() >= 8 {
            let number =
                |at: usize| u32::from_le_bytes(input[at..at + 4].try_into().unwrap()) as usize;
            let (total, command) = (4 + number(0), number(4));
            if input.len() < total {
                break;
            }
            let packet: Vec<u8> = input.drain(..total).collect();
            let text = std::str::from_utf8(&packet[8..8 + command]).unwrap();
            if let (true, Some(user)) = (behaviour.takeover, value(text, "UserName")) {
                let own = Arc::clone(taken_over);
                if let Some(old) = users.lock().unwrap().insert(user.to_owned(), own) {
                    old.notify_one();
                }
            }
            let reply = answer(text, &packet[8 + command..], behaviour);
            if !behaviour.mute {
                stream.write_all(behaviour.garbage.as_ref().unwrap_or(&reply)).await.ok()?;
            }
        }
    }
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
}

fn answer(text: &str, data: &[u8], behaviour: &Behaviour) -> Vec<u8> {
    let command = value(text, "Command").unwrap();
    let body = match command {
        "Login" if behaviour.refuse_logins => "Code=7\r\nMessage=no\x1b[31m".to_owned(),
        "GetClients" => {
            let number = |key| value(text, key).map(|text| text.parse::<usize>().unwrap());
            let from = number("Offset").unwrap_or(0).min(behaviour.rows);
            let rows = number("Limit").unwrap_or(usize::MAX).min(behaviour.rows - from);
            if rows > behaviour.rows_at_once {
                "Code=4\r\nMessage=too long, use Offset= and Limit=".to_owned()
            } else {
                let row =
                    |n| format!("\r\nItem=127.0.0.1:1\t10.0.0.1:{n}\tControl\tu\t+1.000\t+2.000");
                "Code=0".to_owned() + &(from..from + rows).map(row).collect::<String>()
            }
        }
        "CyclePacket" => {
            let count: i32 = value(text, "Count").unwrap().parse().unwrap();
            format!("Code=0\r\nCount={}", count.wrapping_add(1))
        }
        _ => "Code=0".to_owned(),
    };
    let data = if command == "CyclePacket" { data } else { b"" };
    file_server::packet(command, &body, data)
}
