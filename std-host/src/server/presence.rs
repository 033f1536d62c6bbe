//! Which users with a login policy are there, over all shards. Users that may log in as often as
//! they like, which is the default, are not kept here.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use pulsegate_core::table::SessionId;

use crate::users::{LoginPolicy, User};

/// A session and its shard.
type Place = (usize, SessionId);

#[derive(Debug, Default)]
pub(super) struct Presence {
    places: Mutex<HashMap<String, Vec<Place>>>,
}

/// The answer to a login whose password is right.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Entry {
    /// Come in; these sessions have to go.
    In(Vec<Place>),
    /// Somebody is there who stays.
    Taken,
}

impl Presence {
    /// A user logs in. Asking and entering are one step, so that two logins at once cannot both
    /// find the place free.
    pub(super) fn enter(&self, user: &User, place: Place) -> Entry {
        if user.login_policy == LoginPolicy::Allow {
            return Entry::In(Vec::new());
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let here = places.entry(user.name.clone()).or_default();
        let others: Vec<Place> = here.iter().copied().filter(|&other| other != place).collect();
        if user.login_policy == LoginPolicy::Refuse && !others.is_empty() {
            return Entry::Taken;
        }
        if !here.contains(&place) {
            here.push(place);
        }
        Entry::In(others)
    }

    /// A session of the user has ended.
    pub(super) fn leave(&self, user: &User, place: Place) {
        if user.login_policy == LoginPolicy::Allow {
            return;
        }
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = places.get_mut(&user.name) {
            here.retain(|&other| other != place);
            if here.is_empty() {
                places.remove(&user.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Role;

    fn user(login_policy: LoginPolicy) -> User {
        User { name: "meter".into(), role: Role::Device, login_policy }
    }

    fn place(index: u64) -> Place {
        (0, SessionId::from_bits(index))
    }

    #[test]
    fn refuse_keeps_the_first_until_it_leaves() {
        let (presence, user) = (Presence::default(), user(LoginPolicy::Refuse));
        assert_eq!(presence.enter(&user, place(1)), Entry::In(vec![]));
        assert_eq!(presence.enter(&user, place(1)), Entry::In(vec![]), "again on the same session");
        assert_eq!(presence.enter(&user, place(2)), Entry::Taken);
        presence.leave(&user, place(1));
        assert_eq!(presence.enter(&user, place(2)), Entry::In(vec![]));
    }

    #[test]
    fn replace_names_the_older_ones() {
        let (presence, user) = (Presence::default(), user(LoginPolicy::Replace));
        assert_eq!(presence.enter(&user, place(1)), Entry::In(vec![]));
        assert_eq!(presence.enter(&user, place(2)), Entry::In(vec![place(1)]));
    }

    #[test]
    fn allow_keeps_nothing() {
        let (presence, user) = (Presence::default(), user(LoginPolicy::Allow));
        assert_eq!(presence.enter(&user, place(1)), Entry::In(vec![]));
        assert_eq!(presence.enter(&user, place(2)), Entry::In(vec![]));
        assert!(presence.places.lock().unwrap().is_empty());
    }
}
