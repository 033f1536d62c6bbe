//! The client list over all shards: one is made at a time, from copies that each shard gives of
//! its own sessions, and written to text away from the shards.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pulsegate_core::app::Page;
use pulsegate_core::server::JobId;
use pulsegate_core::table::SessionId;

use super::{Message, Shared};
use crate::clock::to_std;
use crate::users::User;

/// A shard's copy of one session.
pub(super) type FrozenRow = pulsegate_core::roster::FrozenRow<SocketAddr, Arc<User>>;

type Done = Box<dyn FnOnce(Vec<FrozenRow>) + Send>;

/// A list that is being gathered: each shard adds its rows, the last one starts what follows.
pub(super) struct Gather {
    state: Mutex<(usize, Vec<FrozenRow>, Option<Done>)>,
}

impl Gather {
    fn new(shards: usize, done: Done) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new((shards, Vec::new(), Some(done))) })
    }

    pub(super) fn add(&self, mut rows: Vec<FrozenRow>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.append(&mut rows);
        state.0 -= 1;
        if state.0 == 0
            && let Some(done) = state.2.take()
        {
            let rows = std::mem::take(&mut state.1);
            drop(state);
            done(rows);
        }
    }
}

/// Who is asking for a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Asker {
    pub(super) shard: usize,
    pub(super) id: SessionId,
    pub(super) job: JobId,
}

/// Those who want a list: one has it, the others wait.
#[derive(Debug, Default)]
pub(super) struct Line {
    state: Mutex<(Option<Asker>, VecDeque<Asker>)>,
}

impl Line {
    /// Takes the list, or a place in the line.
    pub(super) fn enter(&self, asker: Asker) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0.is_some() {
            state.1.push_back(asker);
            return false;
        }
        state.0 = Some(asker);
        true
    }

    /// A session needs the list no longer, or waits for it no longer. Gives the next asker, who
    /// may ask again.
    pub(super) fn leave(&self, shard: usize, id: SessionId) -> Option<Asker> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.1.retain(|asker| (asker.shard, asker.id) != (shard, id));
        if state.0.is_some_and(|asker| (asker.shard, asker.id) == (shard, id)) {
            state.0 = None;
        }
        if state.0.is_none() { state.1.pop_front() } else { None }
    }
}

/// Gathers the sessions of all shards for one asker, whose own shard's rows are here already, and
/// sends the text to the asker's shard.
pub(super) fn gather(shared: &Arc<Shared>, asker: Asker, page: Page, own: Vec<FrozenRow>) {
    let weak = Arc::downgrade(shared);
    let for_failure = weak.clone();
    let done: Done = Box::new(move |rows| {
        // On a thread of its own: writing tens of thousands of rows takes milliseconds, in which
        // a shard would serve nobody. There is one at a time.
        let write = move || {
            let Some(shared) = weak.upgrade() else { return };
            let text = write(&shared, rows, page);
            let message = Message::List { id: asker.id, job: asker.job, text };
            shared.inboxes[asker.shard].send(message);
        };
        if let Err(error) = std::thread::Builder::new().name("client-list".into()).spawn(write) {
            tracing::error!(%error, "no thread for a client list");
            if let Some(shared) = for_failure.upgrade() {
                let message = Message::List { id: asker.id, job: asker.job, text: None };
                shared.inboxes[asker.shard].send(message);
            }
        }
    });
    let gather = Gather::new(shared.inboxes.len(), done);
    for (index, inbox) in shared.inboxes.iter().enumerate() {
        if index != asker.shard {
            inbox.send(Message::Rows(Arc::clone(&gather)));
        }
    }
    gather.add(own);
}

/// The rows of a page as the reply carries them; `None` if that is more than a packet holds.
fn write(shared: &Shared, mut rows: Vec<FrozenRow>, page: Page) -> Option<Vec<u8>> {
    // Pages of successive requests fit together if the order stays.
    rows.sort_by_key(|frozen| (frozen.row().connected_at, frozen.row().remote));
    let limit = pulsegate_core::frame::MAX_PACKET as usize;
    let mut text = String::new();
    let page = rows.iter().skip(page.offset as usize).take(page.limit as usize);
    for row in page.map(FrozenRow::row) {
        let user = row.user.map_or("", |user| user.name.as_str());
        row.write(&mut text, user, shared.clock.for_lists()).ok()?;
        if text.len() > limit {
            return None;
        }
    }
    Some(text.into_bytes())
}

/// One session of a running server.
#[derive(Debug, Clone)]
pub struct ClientRow {
    /// The peer's address.
    pub remote: SocketAddr,
    /// The protocol's name, empty before the flag.
    pub protocol: &'static str,
    /// Who has logged in.
    pub user: Option<String>,
    /// How long the connection stands.
    pub age: Duration,
    /// How long ago the peer last proved that it lives.
    pub silence: Duration,
}

/// A list that is on its way.
#[derive(Debug)]
pub struct Snapshot {
    rows: Receiver<Vec<ClientRow>>,
}

impl Snapshot {
    /// Waits for the list, at most for `limit`.
    #[must_use]
    pub fn wait(self, limit: Duration) -> Option<Vec<ClientRow>> {
        self.rows.recv_timeout(limit).ok()
    }
}

pub(super) fn snapshot(shared: &Arc<Shared>) -> Snapshot {
    let (sender, rows): (SyncSender<Vec<ClientRow>>, _) = sync_channel(1);
    let clock = shared.clock;
    let done: Done = Box::new(move |frozen| {
        let now = clock.now();
        let rows = frozen.iter().map(FrozenRow::row).map(|row| ClientRow {
            remote: row.remote,
            protocol: row.flag,
            user: row.user.map(|user| user.name.clone()),
            age: to_std(now.saturating_duration_since(row.connected_at)),
            silence: to_std(now.saturating_duration_since(row.last_active)),
        });
        // Whoever asked may have stopped waiting.
        let _ = sender.try_send(rows.collect());
    });
    let gather = Gather::new(shared.inboxes.len(), done);
    for inbox in &shared.inboxes {
        inbox.send(Message::Rows(Arc::clone(&gather)));
    }
    Snapshot { rows }
}
