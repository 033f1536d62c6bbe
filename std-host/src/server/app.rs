//! The application behind the protocol, one per shard: logins, the client list, the log.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};

use pulsegate_core::app::{Answer, App, Ask, Digest, Event, List, Login, Page};
use pulsegate_core::protocol::{Flag, Iocp, Reply};
use pulsegate_core::roster::Row;
use pulsegate_core::server::{CloseReason, Closed};
use pulsegate_core::table::SessionId;
use pulsegate_core::tail::Cursor;
use tracing::{debug, info, warn};

use super::list::{Asker, FrozenRow, gather};
use super::presence::Entry;
use super::store::HostStore;
use super::{Ended, Message, Shared};
use crate::clock::to_std;
use crate::files::ShardFiles;
use crate::text::head;
use crate::users::{LoginPolicy, Quick, Role, Throttle, User, Verdict};

/// Most sessions of one shard that read the log: they need no login, are never idle, and must not fill the table.
const MOST_READERS: usize = 16;

/// One shard's part of the application.
pub(super) struct HostApp {
    shard: usize,
    shared: Arc<Shared>,
    /// Lists that sessions of this shard read; at most one over all shards.
    lists: HashMap<SessionId, Vec<u8>>,
    /// Sessions whose users have a login policy.
    entered: HashMap<SessionId, Arc<User>>,
    files: HostStore,
    /// Sessions that read the log.
    readers: Vec<SessionId>,
    /// A session has just opened a protocol whose connections are to be treated in a way of their own.
    opened: Option<Flag>,
}

impl HostApp {
    pub(super) fn new(shard: usize, shared: Arc<Shared>) -> Self {
        let files = shared.files.as_ref().map(|files| ShardFiles::new(shard, Arc::clone(files)));
        Self {
            shard,
            shared,
            lists: HashMap::new(),
            entered: HashMap::new(),
            files: HostStore::new(files),
            readers: Vec::new(),
            opened: None,
        }
    }

    /// All sessions have had their turn: what they have written goes to its files.
    pub(super) fn end_turn(&mut self) {
        self.files.end_turn();
    }

    /// The sessions that read the log, which is looked at now.
    pub(super) fn log_readers(&self) -> Vec<SessionId> {
        self.shared.reading[self.shard].look();
        self.readers.clone()
    }

    /// The protocol that a session has opened since this was last asked, if its connection is to be treated in a way
    /// of its own.
    pub(super) const fn take_opened(&mut self) -> Option<Flag> {
        self.opened.take()
    }

    /// Keeps a list for its reader.
    pub(super) fn store_list(&mut self, id: SessionId, text: Option<Vec<u8>>) -> Reply<Arc<User>> {
        let list = match text {
            Some(text) => {
                // Cut to a packet's size when it was written.
                let len = u32::try_from(text.len()).unwrap_or(u32::MAX);
                self.lists.insert(id, text);
                List::Frozen(len)
            }
            None => {
                // There is nothing to read, so nobody will say when it has been read.
                self.release_list(id);
                List::TooLong
            }
        };
        Reply::List(list)
    }

    /// A login is on its way to its session: when that ends, or is somebody else's, the user leaves.
    pub(super) fn entering(&mut self, id: SessionId, answer: &Reply<Arc<User>>) {
        let Reply::Login(Login::Accepted(user)) = answer else {
            return;
        };
        let before = if user.login_policy == LoginPolicy::Allow {
            self.entered.remove(&id)
        } else {
            self.entered.insert(id, Arc::clone(user))
        };
        if let Some(before) = before.filter(|before| before.name != user.name) {
            self.shared.presence.leave(&before, (self.shard, id));
        }
    }

    /// An answer came for a session that has ended: what it held goes back.
    pub(super) fn undelivered(&mut self, id: SessionId, answer: &Reply<Arc<User>>) {
        match answer {
            Reply::Login(Login::Accepted(user)) => {
                self.shared.presence.leave(user, (self.shard, id));
            }
            Reply::Login(_) | Reply::Store => {}
            Reply::List(_) => self.release_list(id),
        }
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.shared.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The password is right; the login policy has the last word. Sessions that must go are told so.
    ///
    /// Only sessions on Control count: a device may hold a file transfer beside it.
    fn admit(
        shared: &Shared,
        flag: Flag,
        (shard, id): (usize, SessionId),
        user: Arc<User>,
    ) -> Login<Arc<User>> {
        if flag != Flag::Control {
            return Login::Accepted(user);
        }
        match shared.presence.enter(&user, (shard, id)) {
            Entry::Taken => Login::Refused("already logged in on another connection"),
            Entry::In(older) => {
                for (shard, id) in older {
                    let reason = CloseReason::TakenOver;
                    shared.inboxes[shard].send(Message::Close { id, reason });
                }
                Login::Accepted(user)
            }
        }
    }
}

/// A session's name in the log: every shard has slots and generations of its own.
struct Name(usize, SessionId);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

impl HostApp {
    fn log_event(&self, ask: &Ask<SocketAddr>, event: Event<'_, Iocp<Self>>) {
        let (session, remote) = (Name(self.shard, ask.id), ask.remote);
        match event {
            Event::Opened { flag } => {
                debug!(%session, %remote, protocol = flag.name(), "opened");
            }
            Event::LoggedIn { user } => {
                info!(%session, %remote, user = user.name, "logged in");
            }
            Event::LoginFailed { name, failures } => {
                warn!(%session, %remote, user = head(name), failures, "login failed");
            }
            Event::BadPacket { code, message } => {
                warn!(%session, %remote, code = code.0, message, "bad packet");
            }
            Event::BadFlag { flag } => {
                warn!(%session, %remote, flag, "unknown protocol flag, or one that is switched off")
            }
            Event::UnknownCommand { name } => {
                warn!(%session, %remote, command = head(name), "unknown command");
            }
            _ => {}
        }
    }
}

impl App for HostApp {
    type Address = SocketAddr;
    type User = Arc<User>;
    type Store = HostStore;

    fn store(&mut self) -> &mut HostStore {
        &mut self.files
    }

    fn login(
        &mut self,
        ask: &Ask<SocketAddr>,
        flag: Flag,
        name: &str,
        digest: &Digest,
    ) -> Answer<Login<Arc<User>>> {
        let (shard, id, job) = (self.shard, ask.id, ask.job);
        let address = ask.remote.ip();
        let delay = self.throttle().delay(address, name, std::time::Instant::now());
        // Who is being delayed is delayed with the right password too: else the delay would tell.
        let check = if delay.is_zero() {
            match self.shared.users.quick(name, &digest.0) {
                Quick::Known(user) => {
                    let login = Self::admit(&self.shared, flag, (shard, id), user);
                    self.entering(id, &Reply::Login(login.clone()));
                    return Answer::Now(login);
                }
                Quick::Slow(check) => check,
            }
        } else {
            self.shared.users.check(name, &digest.0)
        };
        let name = name.to_owned();
        let shared = Arc::downgrade(&self.shared);
        self.shared.checker.submit(check, delay, move |verdict| {
            let Some(shared) = shared.upgrade() else { return };
            let mut throttle = shared.throttle.lock().unwrap_or_else(PoisonError::into_inner);
            let login = match verdict {
                Verdict::Accepted(user) => {
                    throttle.succeeded(address, &name);
                    drop(throttle);
                    Self::admit(&shared, flag, (shard, id), user)
                }
                Verdict::Refused => {
                    throttle.failed(address, &name, std::time::Instant::now());
                    drop(throttle);
                    Login::Wrong
                }
            };
            shared.inboxes[shard].send(Message::Complete { id, job, answer: Reply::Login(login) });
        });
        Answer::Later
    }

    fn user_name<'a>(&'a self, user: &'a Arc<User>) -> &'a str {
        &user.name
    }

    fn may_list(&self, user: &Arc<User>) -> bool {
        user.role == Role::Operator || self.shared.settings.devices_list
    }

    fn freeze_list(
        &mut self,
        ask: &Ask<SocketAddr>,
        page: Page,
        rows: &mut dyn Iterator<Item = Row<'_, SocketAddr, Arc<User>>>,
    ) -> Answer<List> {
        let asker = Asker { shard: self.shard, id: ask.id, job: ask.job };
        if self.shared.lists.enter(asker) {
            let own = rows.map(|row| FrozenRow::of(&row)).collect();
            gather(&self.shared, asker, page, own);
        }
        Answer::Later
    }

    fn read_list(&mut self, id: SessionId, offset: u32, buf: &mut [u8]) -> usize {
        let text = self.lists.get(&id).and_then(|text| text.get(offset as usize..));
        let text = text.unwrap_or_default();
        let len = text.len().min(buf.len());
        buf[..len].copy_from_slice(&text[..len]);
        len
    }

    fn release_list(&mut self, id: SessionId) {
        self.lists.remove(&id);
        if let Some(next) = self.shared.lists.leave(self.shard, id) {
            let answer = Reply::List(List::Retry);
            let message = Message::Complete { id: next.id, job: next.job, answer };
            self.shared.inboxes[next.shard].send(message);
        }
    }

    fn open_log(&mut self, ask: &Ask<SocketAddr>) -> Option<Cursor> {
        let log = self.shared.settings.log.as_ref()?;
        if self.readers.len() >= MOST_READERS {
            return None;
        }
        self.readers.push(ask.id);
        Some(log.open(&self.shared.reading[self.shard]))
    }

    fn read_log(&mut self, _: SessionId, reader: &mut Cursor, buf: &mut [u8]) -> Option<usize> {
        self.shared.settings.log.as_ref()?.read(reader, buf)
    }

    #[inline]
    fn event(&mut self, ask: &Ask<SocketAddr>, event: Event<'_, Iocp<Self>>) {
        if matches!(event, Event::Heartbeat) {
            return;
        }
        if let Event::Opened {
            flag: flag @ (Flag::LogOutput | Flag::Download | Flag::RemoteStream),
        } = event
        {
            self.opened = Some(flag);
        }
        self.log_event(ask, event);
    }

    fn closed(&mut self, closed: &Closed<Iocp<Self>>) {
        let user = closed.user.as_ref();
        if let Some(user) = self.entered.remove(&closed.id) {
            self.shared.presence.leave(&user, (self.shard, closed.id));
        }
        if let Some(at) = self.readers.iter().position(|reader| *reader == closed.id) {
            self.readers.swap_remove(at);
            if let Some(log) = &self.shared.settings.log {
                log.close(&self.shared.reading[self.shard]);
            }
        }
        let ms = |duration: embassy_time::Duration| duration.as_millis();
        info!(
            session = %Name(self.shard, closed.id),
            local = %closed.local,
            remote = %closed.remote,
            user = user.map(|user| user.name.as_str()),
            reason = closed.reason.name(),
            age_ms = ms(closed.age),
            silence_ms = ms(closed.silence),
            late_ms = closed.overdue.map(ms),
            received = closed.received,
            sent = closed.sent,
            "closed"
        );
        if let Some(observer) = &self.shared.observer {
            observer(&Ended {
                reason: closed.reason,
                remote: closed.remote,
                user: user.map(|user| user.name.clone()),
                age: to_std(closed.age),
                silence: to_std(closed.silence),
                overdue: closed.overdue.map(to_std),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::AtomicUsize;

    use super::super::list::Line;
    use super::super::presence::Presence;
    use super::super::{Settings, Shared};
    use super::*;
    use crate::clock::Clock;
    use crate::users::{Checker, UserDb};

    fn app() -> HostApp {
        let settings = Settings::new(SocketAddr::from(([127, 0, 0, 1], 0)), 1);
        let shared = Shared {
            settings,
            clock: Clock::new(),
            sessions: AtomicUsize::new(0),
            inboxes: Vec::new(),
            users: UserDb::in_memory([]).unwrap(),
            checker: Checker::new().unwrap(),
            throttle: Mutex::new(Throttle::default()),
            presence: Presence::default(),
            lists: Line::default(),
            reading: Vec::new(),
            files: None,
            observer: None,
        };
        HostApp::new(0, Arc::new(shared))
    }

    fn enter(app: &mut HostApp, id: SessionId, name: &str, login_policy: LoginPolicy) {
        let user = Arc::new(User { name: name.into(), role: Role::Device, login_policy });
        let login = HostApp::admit(&app.shared, Flag::Control, (0, id), user);
        assert!(matches!(login, Login::Accepted(_)), "{name}");
        app.entering(id, &Reply::Login(login));
    }

    #[test]
    fn who_logs_in_again_as_somebody_else_leaves_the_first_place() {
        let mut app = app();
        let (one, other) = (SessionId::from_bits(1), SessionId::from_bits(2));
        for second in [LoginPolicy::Refuse, LoginPolicy::Allow] {
            enter(&mut app, one, "meter", LoginPolicy::Refuse);
            enter(&mut app, one, "camera", second);
            enter(&mut app, other, "meter", LoginPolicy::Refuse);
            enter(&mut app, other, "tracker", LoginPolicy::Allow);
        }
    }
}
