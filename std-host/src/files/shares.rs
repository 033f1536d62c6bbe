//! What there is only so much of: places for open files, memory for lists.
//!
//! Whoever has nothing yet is to get some, however much one user with a hundred sessions has taken: the last part goes
//! only to users who have no more than would be left.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::users::User;

/// The last part of all is an eighth.
const LAST: usize = 8;

/// Something that all users share.
#[derive(Debug)]
pub(super) struct Shares {
    most: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    /// By each user that has some.
    of: HashMap<Arc<str>, usize>,
}

/// A part of it; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    home: Arc<Shares>,
    owner: Arc<str>,
    amount: usize,
}

/// Whose it is. Strangers, where such are let in, are one user.
pub(super) fn owner(user: Option<&Arc<User>>) -> &str {
    user.map_or("", |user| &user.name)
}

impl Shares {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, taken: Mutex::default() })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much this user may take now, where any amount is allowed if nothing is taken.
    pub(super) fn room_alone(&self, owner: &str) -> usize {
        self.taken().room_alone(self.most, owner)
    }

    /// Takes some, if there is as much for this user.
    pub(super) fn take(self: &Arc<Self>, owner: &str, amount: usize) -> Option<Share> {
        let taken = self.taken();
        let room = taken.room(self.most, owner);
        self.take_within(room, taken, owner, amount)
    }

    /// The same, and any amount if nothing is taken.
    pub(super) fn take_alone(self: &Arc<Self>, owner: &str, amount: usize) -> Option<Share> {
        let taken = self.taken();
        let room = taken.room_alone(self.most, owner);
        self.take_within(room, taken, owner, amount)
    }

    fn take_within(
        self: &Arc<Self>,
        room: usize,
        mut taken: MutexGuard<'_, Taken>,
        owner: &str,
        amount: usize,
    ) -> Option<Share> {
        if amount > room {
            return None;
        }
        let owner: Arc<str> = Arc::from(owner);
        taken.all += amount;
        *taken.of.entry(Arc::clone(&owner)).or_default() += amount;
        Some(Share { home: Arc::clone(self), owner, amount })
    }
}

impl Taken {
    fn room(&self, most: usize, owner: &str) -> usize {
        let free = most.saturating_sub(self.all);
        let own = self.of.get(owner).copied().unwrap_or_default();
        // All but the last part; of the last, what leaves as much as the user has then.
        let fair = free.saturating_sub(own).div_ceil(2);
        free.saturating_sub(most / LAST).max(fair)
    }

    fn room_alone(&self, most: usize, owner: &str) -> usize {
        if self.all == 0 { usize::MAX } else { self.room(most, owner) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut taken = self.home.taken();
        taken.all -= self.amount;
        if let Some(own) = taken.of.get_mut(&*self.owner) {
            *own -= self.amount;
            if *own == 0 {
                taken.of.remove(&*self.owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_all_and_many_can() {
        let shares = Shares::new(80);
        let take = |owner: &str| shares.take(owner, 1);
        let greedy: Vec<_> = std::iter::from_fn(|| take("greedy")).collect();
        assert_eq!(greedy.len(), 70);
        let second: Vec<_> = std::iter::from_fn(|| take("second")).collect();
        assert_eq!(second.len(), 5, "the half of what was left");
        let others: Vec<_> = (0..5).filter_map(|n| take(&n.to_string())).collect();
        assert_eq!((others.len(), shares.taken().all), (5, 80));
        assert!(take("late").is_none());
        drop((greedy, second, others));
        assert_eq!(shares.taken().all, 0);
        assert!(shares.taken().of.is_empty(), "nobody is remembered");
    }

    #[test]
    fn the_last_of_few_is_anybodys() {
        for most in 1..LAST {
            let shares = Shares::new(most);
            let all: Vec<_> = std::iter::from_fn(|| shares.take("one", 1)).collect();
            assert_eq!(all.len(), most);
        }
        assert!(Shares::new(0).take("one", 1).is_none());
    }

    #[test]
    fn who_is_alone_may_take_more_than_there_is() {
        let shares = Shares::new(100);
        assert!(shares.take("one", 101).is_none());
        let all = shares.take_alone("one", 101).unwrap();
        assert!(shares.take_alone("other", 1).is_none());
        drop(all);
        let most = shares.take_alone("one", 60).unwrap();
        assert_eq!(shares.room_alone("one"), 28);
        assert!(shares.take_alone("one", 29).is_none());
        drop(most);
    }
}
