//! Logins: a storm of them, policies, roles, and a users file that changes.

#[allow(dead_code, reason = "each test binary uses a part of the shared module")]
mod command;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use command::device::{Device, End};
use command::{PATIENCE, Server, field, user};
use pulsegate::client::{Client, ClientError, Flag, Timeouts};
use tempfile::TempDir;

/// A users file in a directory that goes with it.
struct Users {
    _directory: TempDir,
    path: PathBuf,
}

impl Users {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { path: directory.path().join("users.toml"), _directory: directory }
    }

    fn file(&self) -> &str {
        self.path.to_str().unwrap()
    }

    /// Gives the secret that was made.
    fn add_device(&self, name: &str, policy: &str) -> String {
        let options = ["--login", policy, "--generate"];
        user(&[&["add", name, "--users", self.file()], &options[..]].concat(), "")
    }

    fn add_operator(&self, name: &str, password: &str) {
        let options = ["--role", "operator", "--password-stdin"];
        let args = [&["add", name, "--users", self.file()], &options[..]].concat();
        user(&args, &format!("{password}\n"));
    }
}

const ACCOUNTS: usize = 50;
const LOGINS: usize = 5_000;
const WRONG: usize = 200;
const BEATING: usize = 100;
const BEAT: Duration = Duration::from_millis(100);

/// No heartbeat may wait longer for its answer, whatever else the server does.
const ANSWERED: Duration = Duration::from_secs(5);

/// How long a login may take behind all the wrong ones: each of these costs a slow hash.
const TIMEOUTS: Timeouts = Timeouts {
    connect: Duration::from_secs(60),
    request: Duration::from_secs(60),
    stall: Duration::from_secs(60),
};

/// A thread of its own for devices that beat until they are told to stop; gives their number of
/// heartbeats and the longest round trip.
fn beat_meanwhile(server: &Server, done: &Arc<AtomicBool>) -> JoinHandle<(usize, Duration)> {
    let mut devices: Vec<_> = (0..BEATING).map(|_| Device::beating(server.address)).collect();
    for device in &devices {
        device.stream.set_read_timeout(Some(ANSWERED)).unwrap();
    }
    let done = Arc::clone(done);
    std::thread::spawn(move || {
        let (mut beats, mut longest) = (0, Duration::ZERO);
        while !done.load(Ordering::Relaxed) {
            let start = Instant::now();
            for device in &mut devices {
                let sent = Instant::now();
                device.beat();
                longest = longest.max(sent.elapsed());
                beats += 1;
            }
            std::thread::sleep(BEAT.saturating_sub(start.elapsed()));
        }
        (beats, longest)
    })
}

async fn log_in(
    address: String,
    name: String,
    password: String,
) -> (Client, Result<(), ClientError>) {
    let connected = Client::connect_with(&address, Flag::Control, TIMEOUTS).await;
    let mut client = connected.unwrap_or_else(|error| panic!("{name}: {error}"));
    let login = client.login(&name, &password).await;
    (client, login)
}

/// All log in at the same time and stay until the last one has its answer; how long that took.
async fn storm(address: &str, secrets: &[String]) -> Duration {
    let start = Instant::now();
    let mut right = Vec::new();
    let mut wrong = Vec::new();
    for index in 0..LOGINS {
        let account = index % ACCOUNTS;
        let (name, secret) = (format!("device{account}"), secrets[account].clone());
        right.push(tokio::spawn(log_in(address.to_owned(), name, secret)));
        if index % (LOGINS / WRONG) == 0 {
            let (name, guess) = (format!("stranger{index}"), "guess".to_owned());
            wrong.push(tokio::spawn(log_in(address.to_owned(), name, guess)));
        }
    }
    let boss = tokio::spawn(log_in(address.to_owned(), "boss".into(), "correct horse".into()));
    right.push(boss);
    let mut clients = Vec::new();
    for login in right {
        let (client, login) = login.await.unwrap();
        login.unwrap();
        clients.push(client);
    }
    assert_eq!(wrong.len(), WRONG);
    for login in wrong {
        let (mut client, login) = login.await.unwrap();
        let error = login.unwrap_err();
        assert!(matches!(error, ClientError::Refused { code: 7, .. }), "{error}");
        // One slip ends no connection.
        client.heartbeat().await.unwrap();
    }
    let took = start.elapsed();
    for client in &mut clients {
        client.heartbeat().await.unwrap();
    }
    took
}

#[test]
fn a_storm_of_logins_leaves_the_others_alone() {
    let limit = pulsegate::descriptors::raise();
    let needed = (LOGINS + WRONG + BEATING + 200) as u64;
    assert!(
        limit.is_none_or(|most| most >= needed),
        "this test needs {needed} descriptors: raise the hard limit (`ulimit -Hn`)"
    );
    let users = Users::new();
    let secrets: Vec<_> =
        (0..ACCOUNTS).map(|index| users.add_device(&format!("device{index}"), "allow")).collect();
    users.add_operator("boss", "correct horse");
    let server = Server::start(&["--users", users.file(), "--shards", "2", "--log", "warn"]);
    let done = Arc::new(AtomicBool::new(false));
    let beating = beat_meanwhile(&server, &done);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let took = runtime.block_on(storm(&server.address.to_string(), &secrets));
    done.store(true, Ordering::Relaxed);
    let (beats, longest) = beating.join().expect("every heartbeat is answered");
    println!(
        "{LOGINS} logins and {WRONG} wrong ones in {took:?}; \
         longest of {beats} heartbeat round trips meanwhile: {longest:?}"
    );
    assert!(beats > BEATING, "{beats}");
    drop(runtime);
    server.stop();
}

#[test]
fn a_new_login_replaces_the_old_session_or_is_refused() {
    let users = Users::new();
    let replaced = users.add_device("mobile", "replace");
    let refused = users.add_device("fixed", "refuse");
    for shards in ["1", "2"] {
        let server = Server::start(&["--users", users.file(), "--shards", shards]);
        let mut older = Device::logged_in(server.address, "mobile", &replaced);
        // Several, so that the two are on one shard and on two.
        for _ in 0..8 {
            let mut newer = Device::logged_in(server.address, "mobile", &replaced);
            assert_eq!(older.end_within(PATIENCE), End::Eof);
            newer.beat();
            let peer = older.local();
            older = newer;
            let closed = server.wait_for_close(peer);
            assert_eq!(field(&closed, "reason"), "taken-over", "{closed}");
        }

        let mut first = Device::logged_in(server.address, "fixed", &refused);
        for _ in 0..4 {
            let mut second = Device::beating(server.address);
            let answer = second.login("fixed", &refused);
            assert_eq!(answer.code, 7, "{answer:?}");
            assert!(answer.message.contains("already logged in"), "{answer:?}");
            first.beat();
            second.beat();
        }
        drop((first, older));
        server.stop();
    }
}

#[test]
fn a_changed_users_file_is_read_again() {
    let users = Users::new();
    let old = users.add_device("old", "allow");
    let server = Server::start(&["--users", users.file()]);
    let mut inside = Device::logged_in(server.address, "old", &old);

    let new = users.add_device("new", "allow");
    server.wait_for_log("users read again", 1);
    let mut added = Device::logged_in(server.address, "new", &new);

    user(&["remove", "old", "--users", users.file()], "");
    server.wait_for_log("users read again", 2);
    let answer = Device::beating(server.address).login("old", &old);
    assert_eq!(answer.code, 7, "{answer:?}");
    // Who is in stays in.
    inside.beat();

    // A file that is broken for a while locks nobody out.
    let good = std::fs::read_to_string(&users.path).unwrap();
    std::fs::write(&users.path, "nonsense").unwrap();
    server.wait_for_log("the users stay as they were", 1);
    Device::logged_in(server.address, "new", &new);
    std::fs::write(&users.path, good).unwrap();
    server.wait_for_log("users read again", 3);
    Device::logged_in(server.address, "new", &new);
    added.beat();
    drop((inside, added));
    server.stop();
}

#[test]
fn devices_see_the_list_only_where_they_may() {
    let users = Users::new();
    let secret = users.add_device("meter", "allow");
    users.add_operator("boss", "correct horse");
    for (option, code) in [(&[][..], 4), (&["--devices-list"], 0)] {
        let server = Server::start(&[&["--users", users.file()], option].concat());
        let mut device = Device::logged_in(server.address, "meter", &secret);
        let answer = device.ask("GetClients", &[]);
        assert_eq!((answer.code, answer.items.is_empty()), (code, code != 0), "{answer:?}");
        let mut boss = Device::logged_in(server.address, "boss", "correct horse");
        assert_eq!(boss.ask("GetClients", &[]).items.len(), 2);
        device.beat();
        drop((device, boss));
        server.stop();
    }
}
