//! What a device's directory holds, and the limits of that.
//!
//! Who wants to change what is counted owns the count from the check until the change is booked, so that the limits
//! are kept to the byte however many sessions a device has. The others do not sleep on a lock, which would cost a
//! worker each: they leave the worker, and are resumed in the order in which they came.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::pool::Pool;
use super::root::device;
use super::transfer::Transfer;
use crate::users::User;

/// How often a count that is in the way of a request is made anew: somebody may have made room by other means.
const RECOUNT: Duration = Duration::from_secs(1);

/// Bytes in files, and how many files and directories.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) bytes: u64,
    pub(super) files: u64,
}

/// The counts of devices, by their names.
type Devices = Mutex<HashMap<String, Arc<Usage>>>;

/// The counts of all devices that have been of interest.
#[derive(Debug)]
pub(super) struct Usages {
    /// Without user limits nothing is counted.
    on: bool,
    devices: Arc<Devices>,
    pool: Arc<Pool>,
}

/// The count of one device's directory.
#[derive(Debug)]
pub(super) struct Usage {
    device: String,
    state: Mutex<State>,
    pool: Arc<Pool>,
}

#[derive(Debug, Default)]
struct State {
    owned: bool,
    waiting: VecDeque<Arc<Transfer>>,
    count: Option<Count>,
    /// Rises when the count is declared void: one that is being made then is not to be trusted.
    version: u64,
    counted_at: Option<Instant>,
}

/// Whose count a change of a file is for.
#[derive(Debug, Clone)]
pub(super) enum Touches {
    Nobody,
    /// The device's own: what it does is checked, and booked.
    Own(Arc<Usage>),
    /// An operator's hand in what may be a device's directory: the count is void, if there is one at the time of the
    /// change. None is made for it: any name may stand here.
    Foreign(Arc<Devices>, Box<str>),
}

impl Touches {
    /// Something has been changed that was not booked.
    pub(super) fn void(&self) {
        match self {
            Self::Nobody => {}
            Self::Own(usage) => usage.void(),
            Self::Foreign(devices, device) => {
                let usage = lock(devices).get(&**device).cloned();
                if let Some(usage) = usage {
                    usage.void();
                }
            }
        }
    }

    /// Something has been changed that is booked where it is the device's own.
    pub(super) fn changed(&self) {
        if matches!(self, Self::Foreign(..)) {
            self.void();
        }
    }
}

/// The count is its holder's until this is dropped.
#[derive(Debug)]
pub(super) struct Grant(Arc<Usage>);

impl Usages {
    pub(super) fn new(on: bool, pool: Arc<Pool>) -> Self {
        Self { on, devices: Arc::default(), pool }
    }

    /// Whose count changes when a user changes something at a path.
    pub(super) fn touches(&self, user: Option<&User>, path: &Path) -> Touches {
        if let Some(device) = user.and_then(device) {
            return self.of(device).map_or(Touches::Nobody, Touches::Own);
        }
        let first = path.components().next().and_then(|first| first.as_os_str().to_str());
        match first {
            Some(first) if self.on => Touches::Foreign(Arc::clone(&self.devices), first.into()),
            _ => Touches::Nobody,
        }
    }

    /// How many devices' counts are kept.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.devices).len()
    }

    /// Whether users have limits.
    pub(super) const fn is_on(&self) -> bool {
        self.on
    }

    /// The count of a device's directory, if such are kept.
    fn of(&self, device: &str) -> Option<Arc<Usage>> {
        if !self.on {
            return None;
        }
        let mut devices = lock(&self.devices);
        if let Some(usage) = devices.get(device) {
            return Some(Arc::clone(usage));
        }
        let usage = Arc::new(Usage {
            device: device.into(),
            state: Mutex::default(),
            pool: Arc::clone(&self.pool),
        });
        devices.insert(device.into(), Arc::clone(&usage));
        Some(usage)
    }
}

fn lock(devices: &Devices) -> MutexGuard<'_, HashMap<String, Arc<Usage>>> {
    devices.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Usage {
    /// Whose directory it is.
    pub(super) fn device(&self) -> &str {
        &self.device
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the count; if somebody else has it, the session is resumed when it is its own.
    pub(super) fn take(self: &Arc<Self>, transfer: &Arc<Transfer>) -> Option<Grant> {
        let mut state = self.lock();
        if state.owned {
            state.waiting.push_back(Arc::clone(transfer));
            return None;
        }
        state.owned = true;
        Some(Grant(Arc::clone(self)))
    }

    /// What a session has waited for.
    pub(super) fn granted(self: Arc<Self>) -> Grant {
        Grant(self)
    }

    /// The directory is changed by somebody who does not count.
    pub(super) fn void(&self) {
        let mut state = self.lock();
        state.count = None;
        state.version += 1;
    }
}

impl Grant {
    pub(super) fn usage(&self) -> &Arc<Usage> {
        &self.0
    }

    /// The count, if it stands.
    pub(super) fn count(&self) -> Option<Count> {
        self.0.lock().count
    }

    /// Makes the count void unless it has just been made, and says so.
    pub(super) fn doubt(&self) -> bool {
        let mut state = self.0.lock();
        let old = state.counted_at.is_none_or(|at| at.elapsed() >= RECOUNT);
        if old {
            state.count = None;
        }
        old
    }

    /// Which changes from elsewhere a new count will have seen.
    pub(super) fn version(&self) -> u64 {
        self.0.lock().version
    }

    /// Sets a new count. One that has become void meanwhile serves this once.
    pub(super) fn set(&self, count: Count, version: u64) {
        let mut state = self.0.lock();
        state.counted_at = Some(Instant::now());
        if state.version == version {
            state.count = Some(count);
        }
    }

    /// Books what has come.
    pub(super) fn add(&self, more: Count) {
        if let Some(count) = &mut self.0.lock().count {
            count.bytes = count.bytes.saturating_add(more.bytes);
            count.files = count.files.saturating_add(more.files);
        }
    }

    /// Books what has gone.
    pub(super) fn remove(&self, less: Count) {
        if let Some(count) = &mut self.0.lock().count {
            count.bytes = count.bytes.saturating_sub(less.bytes);
            count.files = count.files.saturating_sub(less.files);
        }
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        let next = state.waiting.pop_front();
        // Handed over: nobody comes in between.
        state.owned = next.is_some();
        drop(state);
        if let Some(next) = next {
            self.0.pool.resume(next);
        }
    }
}
