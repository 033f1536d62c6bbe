//! Who may do what takes long: walk a tree, read a large directory.
//!
//! Users have their turns one after the other, each with one such thing at a time, so that one with a hundred sessions
//! and a huge directory does not keep the others from their lists.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pool::Pool;
use super::transfer::Transfer;

/// What is slow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Lists, and deletions of trees.
    Tree,
    /// Counting what a device has: others' uploads may wait for it, so lists are not in its way.
    Count,
}

/// The right to slow work of a kind.
#[derive(Debug)]
pub(super) struct Permit {
    pub(super) pool: Arc<Pool>,
    pub(super) kind: Kind,
    pub(super) owner: Arc<str>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.pool.give_back(self.kind, &self.owner);
    }
}

/// The permits of a kind, and those who wait for one.
#[derive(Debug)]
pub(super) struct Line {
    free: usize,
    /// Who has one.
    busy: Vec<Arc<str>>,
    /// Users who wait, in the order of their turns, each with its sessions.
    waiting: VecDeque<(Arc<str>, VecDeque<Arc<Transfer>>)>,
}

impl Line {
    pub(super) const fn new(permits: usize) -> Self {
        Self { free: permits, busy: Vec::new(), waiting: VecDeque::new() }
    }

    /// Takes a permit, or a place in the line.
    pub(super) fn take(&mut self, owner: &Arc<str>, transfer: &Arc<Transfer>) -> bool {
        if self.free > 0 && !self.busy.contains(owner) {
            self.free -= 1;
            self.busy.push(Arc::clone(owner));
            return true;
        }
        let transfer = Arc::clone(transfer);
        match self.waiting.iter_mut().find(|(waiting, _)| waiting == owner) {
            Some((_, sessions)) => sessions.push_back(transfer),
            None => self.waiting.push_back((Arc::clone(owner), VecDeque::from([transfer]))),
        }
        false
    }

    /// A permit comes back. Gives the session that has it now, if any: it is handed over, and nobody comes in between.
    pub(super) fn give_back(&mut self, owner: &Arc<str>) -> Option<Arc<Transfer>> {
        self.busy.retain(|busy| busy != owner);
        let next = self.waiting.iter().position(|(user, _)| !self.busy.contains(user));
        let Some((user, mut sessions)) = next.and_then(|next| self.waiting.remove(next)) else {
            self.free += 1;
            return None;
        };
        let transfer = sessions.pop_front();
        if !sessions.is_empty() {
            // Its next turn is after everybody else's.
            self.waiting.push_back((Arc::clone(&user), sessions));
        }
        self.busy.push(user);
        transfer
    }
}
