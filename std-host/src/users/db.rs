//! The users of a running server, and the checks of their logins.

use std::collections::HashMap;
use std::fmt;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::file::{self, Purpose, Stamp};
use super::hash::{Costs, FastHash, SlowHash, Stored, digest_of};
use super::parse::Record;
use super::{Error, LoginPolicy, MAX_NAME, Role, User};

/// How often a check starts again because the entry it looked at was changed meanwhile.
const ROUNDS: usize = 3;

/// Name and digest under the key of this process: compared and remembered instead of the digest itself.
pub(super) type Mark = [u8; 32];

/// The users of a running server: an unchanging set that is exchanged as a whole when the file changes.
///
/// A clone is another handle on the same users.
#[derive(Clone)]
pub struct UserDb {
    shared: Arc<Shared>,
}

struct Shared {
    /// Of this process, from the operating system: what is remembered of a login is worthless elsewhere.
    /// One block of SHA-256 long, as HMAC likes it.
    key: Zeroizing<[u8; 64]>,
    current: RwLock<Arc<Snapshot>>,
    source: Option<Source>,
}

struct Source {
    path: PathBuf,
    /// The file that was last looked at, so that an unchanged one is neither read nor complained about again.
    seen: Mutex<Option<Stamp>>,
}

struct Snapshot {
    entries: HashMap<String, Entry>,
    /// Checked where there is nothing to check, so that a refusal always costs the same.
    dummy: SlowHash,
}

struct Entry {
    user: Arc<User>,
    stored: Stored,
    /// The mark of the login that has passed the slow hash. One is enough, as no two digests pass the same hash,
    /// so what is remembered is bounded by the number of users; it lives as long as the hash stands in the file.
    proven: Arc<OnceLock<Mark>>,
}

/// The answer of [`UserDb::quick`].
#[derive(Debug)]
pub enum Quick {
    /// The login is right.
    Known(Arc<User>),
    /// It takes a slow hash to tell: run it on a [`super::Checker`].
    Slow(Check),
}

/// The answer of [`Check::run`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The login is right.
    Accepted(Arc<User>),
    /// No such user, or not the right password; nobody is told which.
    Refused,
}

/// A login to be checked away from the threads that serve sessions.
///
/// It looks at the users as they are when it runs and when it ends: a user who was removed while the check waited
/// or ran is refused.
pub struct Check {
    db: UserDb,
    /// Empty, and so nobody's, if what was sent is too long for a name.
    name: Box<str>,
    digest: Zeroizing<[u8; 16]>,
    mark: Mark,
}

impl UserDb {
    /// The users of a server without a users file: operator `admin` with password `admin`. Only for listeners that
    /// are bound to loopback.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes.
    pub fn demo() -> Result<Self, Error> {
        let admin =
            User { name: "admin".into(), role: Role::Operator, login_policy: LoginPolicy::Allow };
        // Everybody knows this password: a slow hash would protect nothing.
        Self::in_memory([(admin, "admin".to_owned())])
    }

    /// Users with passwords that need no slow hash, as they are public or of full entropy, without a file.
    ///
    /// # Errors
    ///
    /// If the operating system gives no random bytes.
    pub fn in_memory(users: impl IntoIterator<Item = (User, String)>) -> Result<Self, Error> {
        let record = |(user, password): (User, String)| {
            let stored = Stored::Fast(FastHash::new(&digest_of(&password))?);
            Ok(Record { user, stored })
        };
        let records = users.into_iter().map(record).collect::<Result<_, Error>>()?;
        Self::new(Snapshot::new(records, None)?, None)
    }

    /// The users of a file.
    ///
    /// # Errors
    ///
    /// If the file is missing, unreadable, open to others, or wrong in its text: the error says where and what to do.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let loaded = file::load(path, Purpose::Serving)?;
        let source = Source { path: path.to_owned(), seen: Mutex::new(Some(loaded.stamp)) };
        Self::new(Snapshot::new(loaded.records, None)?, Some(source))
    }

    fn new(snapshot: Snapshot, source: Option<Source>) -> Result<Self, Error> {
        Ok(Self {
            shared: Arc::new(Shared {
                key: Zeroizing::new(super::hash::random()?),
                current: RwLock::new(Arc::new(snapshot)),
                source,
            }),
        })
    }

    /// Reads the file again if it is another one than the last that was looked at; says whether the users were
    /// exchanged. Reads files: not for a thread that serves sessions.
    ///
    /// # Errors
    ///
    /// As [`UserDb::open`]; the users stay as they were. A file that cannot be used is reported once, and again when
    /// it has changed; a failure of the system itself is tried again at the next call.
    pub fn reload_if_changed(&self) -> Result<bool, Error> {
        let Some(source) = &self.shared.source else {
            return Ok(false);
        };
        // Held throughout, so that of two callers the one with the older file cannot win.
        let mut seen = source.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamp = Stamp::of(&source.path);
        if stamp == *seen {
            return Ok(false);
        }
        let exchanged = file::load(&source.path, Purpose::Serving).and_then(|loaded| {
            let snapshot = Snapshot::new(loaded.records, Some(&self.snapshot()))?;
            Ok((snapshot, loaded.stamp))
        });
        match exchanged {
            Ok((snapshot, stamp)) => {
                *seen = Some(stamp);
                let mut current =
                    self.shared.current.write().unwrap_or_else(PoisonError::into_inner);
                *current = Arc::new(snapshot);
                Ok(true)
            }
            Err(error) => {
                if !error.is_passing() {
                    *seen = stamp;
                }
                Err(error)
            }
        }
    }

    /// Answers at once if the login is right and that is cheap to tell: a generated secret, or a password that was
    /// right before. Anything else is a [`Check`], also where it is bound to fail (see the module).
    ///
    /// Takes about a microsecond and no lock that is held longer than that.
    pub fn quick(&self, name: &str, digest: &[u8; 16]) -> Quick {
        let mark = self.mark(name, digest);
        match self.snapshot().known(name, digest, &mark) {
            Some(user) => Quick::Known(user),
            None => Quick::Slow(self.check_marked(name, digest, mark)),
        }
    }

    /// The login as a job without looking first: for logins that have to wait, right or wrong.
    pub fn check(&self, name: &str, digest: &[u8; 16]) -> Check {
        self.check_marked(name, digest, self.mark(name, digest))
    }

    fn check_marked(&self, name: &str, digest: &[u8; 16], mark: Mark) -> Check {
        let name = if name.len() <= MAX_NAME { name } else { "" };
        Check { db: self.clone(), name: name.into(), digest: Zeroizing::new(*digest), mark }
    }

    /// The user of that name, as the file now says.
    pub fn get(&self, name: &str) -> Option<Arc<User>> {
        self.snapshot().entries.get(name).map(|entry| Arc::clone(&entry.user))
    }

    /// How many users there are.
    pub fn len(&self) -> usize {
        self.snapshot().entries.len()
    }

    /// Whether nobody can log in.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.shared.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn mark(&self, name: &str, digest: &[u8; 16]) -> Mark {
        // The digest has a fixed length and comes first: no other name and digest give the same text.
        let mut mac = Hmac::<Sha256>::new(&(*self.shared.key).into());
        mac.update(digest);
        mac.update(name.as_bytes());
        mac.finalize().into_bytes().into()
    }
}

impl Snapshot {
    /// Entries whose hash is the same as before keep what was proven of it, whatever else was changed.
    fn new(records: Vec<Record>, before: Option<&Self>) -> Result<Self, Error> {
        let dummy = SlowHash::dummy(usual_costs(&records))?;
        let entries = records
            .into_iter()
            .map(|Record { user, stored }| {
                let proven = before
                    .and_then(|before| before.entries.get(&user.name))
                    .filter(|old| old.stored == stored)
                    .map_or_else(Arc::default, |old| Arc::clone(&old.proven));
                let entry = Entry { user: Arc::new(user), stored, proven };
                (entry.user.name.clone(), entry)
            })
            .collect();
        Ok(Self { entries, dummy })
    }

    fn known(&self, name: &str, digest: &[u8; 16], mark: &Mark) -> Option<Arc<User>> {
        let entry = self.entries.get(name)?;
        let right = match &entry.stored {
            Stored::Fast(fast) => fast.verify(digest),
            Stored::Slow(_) => entry.proven.get().is_some_and(|proven| proven.ct_eq(mark).into()),
        };
        right.then(|| Arc::clone(&entry.user))
    }
}

/// The costs that most slow hashes have; of two as frequent the higher, so that the choice does not waver.
fn usual_costs(records: &[Record]) -> Costs {
    let mut counts = HashMap::<Costs, usize>::new();
    for record in records {
        if let Stored::Slow(slow) = &record.stored {
            *counts.entry(slow.costs()).or_default() += 1;
        }
    }
    counts
        .into_iter()
        .max_by_key(|(costs, count)| (*count, costs.m, costs.t, costs.p))
        .map_or_else(Costs::default, |(costs, _)| costs)
}

impl Check {
    /// Tells whether the login is right. Takes tens of milliseconds of a processor and 19 MiB.
    pub fn run(&self) -> Verdict {
        for _ in 0..ROUNDS {
            let before = self.db.snapshot();
            if let Some(user) = before.known(&self.name, &self.digest, &self.mark) {
                return Verdict::Accepted(user);
            }
            let looked_at = before.entries.get(&*self.name).map(|entry| &entry.stored);
            let right = match looked_at {
                Some(Stored::Slow(slow)) => slow.verify(&self.digest),
                // Nobody of that name, or a wrong secret: as slow as a wrong password.
                Some(Stored::Fast(_)) | None => {
                    black_box(before.dummy.verify(&self.digest));
                    false
                }
            };
            // The file may have changed meanwhile: only an answer about what it says now counts.
            let after = self.db.snapshot();
            let entry = after.entries.get(&*self.name);
            if entry.map(|entry| &entry.stored) != looked_at {
                continue;
            }
            return match entry {
                Some(entry) if right => {
                    // Already set only if another check of the same login was quicker.
                    let _ = entry.proven.set(self.mark);
                    Verdict::Accepted(Arc::clone(&entry.user))
                }
                _ => Verdict::Refused,
            };
        }
        Verdict::Refused
    }

    /// The same for checks of the same name and digest against the same users, and for no others.
    pub(super) fn mark(&self) -> Mark {
        self.mark
    }
}

impl fmt::Debug for UserDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserDb").field("users", &self.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "db_tests.rs"]
mod tests;
