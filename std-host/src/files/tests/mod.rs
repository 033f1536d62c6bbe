//! What the tests stand on: a shard that is driven by hand.

mod abuse;
mod limits;
mod load;
mod paths;
mod property;
mod requests;
mod takeover;

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use embassy_time::Instant;
use pulsegate_core::app::{Answer, Ask};
use pulsegate_core::command::{Code, Command};
use pulsegate_core::server::JobId;
use pulsegate_core::store::{Names, Outcome, Path, Request, Store};
use pulsegate_core::table::SessionId;
use tempfile::TempDir;

use super::*;
use crate::users::{LoginPolicy, Role, User};

/// Nothing takes that long; a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(60);

const DONE: Outcome = Outcome::Done;

fn user(name: &str, role: Role) -> Arc<User> {
    Arc::new(User { name: name.into(), role, login_policy: LoginPolicy::Allow })
}

fn device(name: &str) -> Arc<User> {
    user(name, Role::Device)
}

fn operator() -> Arc<User> {
    user("admin", Role::Operator)
}

fn id(number: u64) -> SessionId {
    SessionId::from_bits(number)
}

fn path(text: &str) -> Path<'_> {
    Path::parse(text).unwrap()
}

fn upload(name: &str) -> Request<'_> {
    Request::Upload { dir: Path::ROOT, name: path(name) }
}

fn eof(size: u64) -> Request<'static> {
    Request::Eof { size: Some(size) }
}

/// The code of an outcome, 0 for a good one.
fn code(outcome: Outcome) -> u32 {
    match outcome {
        Outcome::Failed(code, message) => {
            assert_ne!(message, "");
            code.0
        }
        _ => 0,
    }
}

fn value(outcome: Outcome) -> u64 {
    match outcome {
        Outcome::Value(value) => value,
        other => panic!("no value: {other:?}"),
    }
}

/// Bytes that are different at each place, as far as that goes.
fn bytes(from: u64, len: usize) -> Vec<u8> {
    (from..from + len as u64).map(|place| (place ^ (place >> 8) ^ (place >> 16)) as u8).collect()
}

/// Files without limits.
fn config(root: &std::path::Path) -> FilesConfig {
    FilesConfig {
        root: root.into(),
        sync: false,
        max_file_bytes: None,
        max_user_bytes: None,
        max_user_files: None,
        max_open: 4096,
        workers: NonZeroUsize::new(4).unwrap(),
        memory: 64 << 20,
    }
}

/// A directory, and the files in it.
struct Bench {
    dir: TempDir,
    files: Arc<Files>,
    notices: Vec<Option<Receiver<Notice>>>,
}

impl Bench {
    fn new() -> Self {
        Self::with(|_| ())
    }

    fn with(change: impl FnOnce(&mut FilesConfig)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        let (senders, notices): (Vec<Sender<Notice>>, _) =
            (0..8).map(|_| channel()).map(|(sender, receiver)| (sender, Some(receiver))).unzip();
        let notify = move |notice| {
            let (Notice::Complete { shard, .. } | Notice::TakenOver { shard, .. }) = notice;
            // A test that has failed listens no longer.
            let _ = senders[shard].send(notice);
        };
        let files = Files::start(&config, Arc::new(notify)).unwrap();
        Self { dir, files: Arc::new(files), notices }
    }

    /// The next shard.
    fn shard(&mut self) -> Shard {
        let index = self.notices.iter().position(Option::is_some).unwrap();
        Shard {
            store: ShardFiles::new(index, Arc::clone(&self.files)),
            notices: self.notices[index].take().unwrap(),
            jobs: HashMap::new(),
            waiting: HashMap::new(),
            taken_over: Vec::new(),
        }
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn read(&self, path: &str) -> Vec<u8> {
        fs::read(self.at(path)).unwrap()
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// All work is done, and nothing of it is left.
    fn is_clean(&self) {
        assert!(self.files.finish(LONG), "{:?}", self.files);
        assert_eq!(self.files.writing(), 0, "files left open");
        assert_eq!(self.files.memory(), 0, "memory left in use");
    }

    /// The same, once the first sessions of these shards have ended.
    fn is_clean_after(&self, shards: &mut [Shard], sessions: u64) {
        for shard in shards {
            (0..sessions).for_each(|session| shard.release(id(session)));
        }
        self.is_clean();
    }
}

/// A shard that a test drives, with the rules of the core: numbers of questions rise with their completion, and there
/// is no completion that nobody waits for.
struct Shard {
    store: ShardFiles,
    notices: Receiver<Notice>,
    jobs: HashMap<SessionId, u32>,
    /// Sessions that wait; true: their completion has come.
    waiting: HashMap<SessionId, bool>,
    taken_over: Vec<SessionId>,
}

impl Shard {
    fn ask(&mut self, id: SessionId) -> Ask<SocketAddr> {
        let address = SocketAddr::from(([127, 0, 0, 1], 9999));
        let job = JobId::from_bits(*self.jobs.entry(id).or_default());
        Ask { now: Instant::from_ticks(0), id, job, local: address, remote: address }
    }

    fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::TakenOver { id, .. } => self.taken_over.push(id),
            Notice::Complete { id, job, .. } => {
                // A session that has ended has no job.
                let Some(number) = self.jobs.get_mut(&id) else { return };
                assert_eq!(job.to_bits(), *number, "{id} waits for another one");
                *number += 1;
                let before = self.waiting.insert(id, true);
                assert_eq!(before, Some(false), "{id} waits for nothing");
            }
        }
    }

    /// Takes what has come.
    fn poll(&mut self) {
        while let Ok(notice) = self.notices.try_recv() {
            self.notice(notice);
        }
    }

    fn wait(&mut self, id: SessionId) {
        self.store.end_turn();
        while self.waiting.get(&id) != Some(&true) {
            let notice = self.notices.recv_timeout(LONG);
            let notice = notice.unwrap_or_else(|_| panic!("{id} waits for ever"));
            self.notice(notice);
        }
        self.waiting.remove(&id);
    }

    fn wait_taken_over(&mut self, id: SessionId) {
        while !self.taken_over.contains(&id) {
            let notice = self.notices.recv_timeout(LONG).expect("nobody takes over");
            self.notice(notice);
        }
    }

    fn begin(&mut self, id: SessionId, user: &Arc<User>, request: Request<'_>) {
        let ask = self.ask(id);
        assert_eq!(self.store.request(&ask, Some(user), request), Answer::Later);
        self.waiting.insert(id, false);
    }

    fn outcome(&mut self, id: SessionId) -> Outcome {
        self.wait(id);
        self.store.answer(id)
    }

    fn request(&mut self, id: SessionId, user: &Arc<User>, request: Request<'_>) -> Outcome {
        self.begin(id, user, request);
        self.outcome(id)
    }

    /// Lets a lone worker do all that has been asked so far. The session must be a new one: one that is being served
    /// is served on.
    fn queue_behind(&mut self, id: SessionId, user: &Arc<User>) {
        let outcome = self.request(id, user, Request::Exists { name: path("nothing") });
        assert_eq!(code(outcome), Code::NO_FILE.0);
    }

    /// Writes what is taken at once.
    fn try_write(&mut self, id: SessionId, bytes: &[u8]) -> usize {
        let ask = self.ask(id);
        match self.store.write(&ask, bytes) {
            Answer::Now(taken) => taken,
            Answer::Later => {
                self.waiting.insert(id, false);
                0
            }
        }
    }

    fn write(&mut self, id: SessionId, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.try_write(id, rest) {
                0 => self.wait(id),
                taken => rest = &rest[taken..],
            }
        }
        self.store.end_turn();
    }

    /// The next bytes, however many; consumes `most` of them.
    fn read(&mut self, id: SessionId, most: usize) -> Option<Vec<u8>> {
        loop {
            let ask = self.ask(id);
            match self.store.read(&ask) {
                Answer::Now(bytes) => {
                    let bytes = bytes.map(|bytes| bytes[..bytes.len().min(most)].to_vec());
                    assert_ne!(bytes.as_deref(), Some(&[][..]), "at least one byte");
                    self.store.consume(id, bytes.as_ref().map_or(0, Vec::len));
                    return bytes;
                }
                Answer::Later => {
                    self.waiting.insert(id, false);
                    self.wait(id);
                }
            }
        }
    }

    fn read_exact(&mut self, id: SessionId, len: u64) -> Vec<u8> {
        let mut all = Vec::new();
        while (all.len() as u64) < len {
            let most = (len - all.len() as u64).min(50_000) as usize;
            all.extend(self.read(id, most).expect("bytes that were promised"));
        }
        all
    }

    fn list(&mut self, id: SessionId, user: &Arc<User>, request: Request<'_>) -> String {
        match self.request(id, user, request) {
            Outcome::List(len) => {
                let text = self.read_exact(id, len.into());
                assert_eq!(self.read(id, 1), None, "more than was promised");
                String::from_utf8(text).unwrap().replace("\r\nItem=", "|").replace('\u{1}', "=")
            }
            other => format!("{}", code(other)),
        }
    }

    fn upload_all(&mut self, id: SessionId, user: &Arc<User>, name: &str, bytes: &[u8]) {
        let from = value(self.request(id, user, upload(name)));
        self.write(id, &bytes[from as usize..]);
        assert_eq!(self.request(id, user, eof(bytes.len() as u64)), DONE);
    }

    /// The connection is gone.
    fn release(&mut self, id: SessionId) {
        self.jobs.remove(&id);
        self.waiting.remove(&id);
        self.store.release(id);
    }
}

/// Makes workers wait at a place until it is opened.
struct Gate {
    reached: Receiver<()>,
    open: Sender<()>,
}

impl Gate {
    /// Everybody who comes there waits; each opening lets one through.
    fn at(files: &Files, which: fn(At) -> bool) -> Self {
        let (arrive, reached) = channel();
        let (open, opened) = channel();
        let (arrive, opened) = (Mutex::new(arrive), Mutex::new(opened));
        files.inner.set_probe(move |at| {
            if which(at) {
                let _ = arrive.lock().unwrap().send(());
                let _ = opened.lock().unwrap().recv_timeout(LONG);
            }
            Ok(())
        });
        Self { reached, open }
    }

    fn wait(&self) {
        self.reached.recv_timeout(LONG).expect("a worker comes here");
    }

    fn open(&self) {
        self.open.send(()).unwrap();
    }

    /// Lets everybody through from now on, those who wait there too.
    fn remove(self, files: &Files) {
        *files.inner.probe.lock().unwrap() = None;
    }
}

fn delete<'a>(dir: &'a str, command: &'a str) -> Request<'a> {
    let names = Names::of(Command::parse(command.as_bytes()).unwrap()).unwrap();
    Request::DeleteFiles { dir: path(dir), names }
}

#[test]
fn a_directory_that_cannot_be_served_is_told_with_the_way_out() {
    let dir = tempfile::tempdir().unwrap();
    let start = |root: PathBuf| {
        let config = FilesConfig { workers: NonZeroUsize::MIN, memory: 0, ..config(&root) };
        Files::start(&config, Arc::new(|_| ())).map(|_| ()).map_err(|error| error.to_string())
    };
    let missing = dir.path().join("missing");
    let message = start(missing.clone()).unwrap_err();
    assert!(
        message.contains(missing.to_str().unwrap()) && message.contains("create it"),
        "{message}"
    );
    assert!(!missing.exists(), "it makes none");
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    let message = start(file).unwrap_err();
    assert!(message.contains("is not a directory: name one"), "{message}");
    // Root may write everywhere.
    if !rustix::process::geteuid().is_root() {
        let message = start("/proc".into()).unwrap_err();
        assert!(message.contains("cannot write in the directory /proc"), "{message}");
    }
    assert_eq!(start(dir.path().into()), Ok(()));
}
