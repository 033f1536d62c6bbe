//! How long the next login has to wait after failed ones.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How many addresses with failed logins are remembered by default: about 2 MiB.
const DEFAULT_CAPACITY: usize = 16_384;

/// What the second failure costs; the first is forgiven, as it is mostly a slip.
const STEP: Duration = Duration::from_millis(250);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Failures are forgotten when the last one is this old.
const FORGET: Duration = Duration::from_secs(15 * 60);

/// Delays logins of an address as a user that have failed before: 0, 250 ms, 500 ms, 1 s … at most 5 s.
///
/// Address and user count together. There is no limit for an address alone, because a carrier's NAT puts thousands
/// of devices behind one; nor for a user alone, because then anybody could lock a user out. Of an IPv6 address the
/// first 64 bits count, as one host has all the rest to itself.
///
/// Memory is bounded: when it is full, the failure longest ago is forgotten. Whoever wants to be forgotten has to
/// fail thousands of times for it, each at the price of a slow hash.
#[derive(Debug)]
pub struct Throttle {
    capacity: usize,
    /// Keyed by chance, so that nobody can choose what collides; a collision would only share a delay.
    hasher: RandomState,
    failures: HashMap<u64, Failures>,
    /// Which was last touched when: the eldest first.
    order: BTreeMap<u64, u64>,
    turn: u64,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    last: Instant,
    turn: u64,
}

impl Default for Throttle {
    fn default() -> Self {
        Self::with_capacity(DEFAULT_CAPACITY)
    }
}

impl Throttle {
    /// Remembers failures of at most that many pairs of address and user; of one at least.
    pub fn with_capacity(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            hasher: RandomState::new(),
            failures: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
        }
    }

    /// How long a login that arrives now has to wait before it is checked.
    pub fn delay(&mut self, addr: IpAddr, user: &str, now: Instant) -> Duration {
        let key = self.key(addr, user);
        let Some(failures) = self.failures.get(&key) else {
            return Duration::ZERO;
        };
        let since = now.saturating_duration_since(failures.last);
        if since >= FORGET {
            self.forget(key);
            return Duration::ZERO;
        }
        pause(failures.count).saturating_sub(since)
    }

    /// A login was refused.
    pub fn failed(&mut self, addr: IpAddr, user: &str, now: Instant) {
        let key = self.key(addr, user);
        let mut count = 1;
        if let Some(before) = self.forget(key)
            && now.saturating_duration_since(before.last) < FORGET
        {
            count = before.count.saturating_add(1);
        } else if self.failures.len() >= self.capacity
            && let Some((_, eldest)) = self.order.pop_first()
        {
            self.failures.remove(&eldest);
        }
        let turn = self.turn;
        self.turn += 1;
        self.order.insert(turn, key);
        self.failures.insert(key, Failures { count, last: now, turn });
    }

    /// A login was right: what failed before was a slip.
    pub fn succeeded(&mut self, addr: IpAddr, user: &str) {
        let key = self.key(addr, user);
        self.forget(key);
    }

    /// How many pairs of address and user have failures on record.
    pub fn len(&self) -> usize {
        self.failures.len()
    }

    /// Whether nobody has failures on record.
    pub fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    fn forget(&mut self, key: u64) -> Option<Failures> {
        let failures = self.failures.remove(&key)?;
        self.order.remove(&failures.turn);
        Some(failures)
    }

    fn key(&self, addr: IpAddr, user: &str) -> u64 {
        let host = match addr.to_canonical() {
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        };
        self.hasher.hash_one((host, user))
    }
}

/// What so many failures cost, counted from the last.
fn pause(count: u32) -> Duration {
    match count {
        0 | 1 => Duration::ZERO,
        // Five doublings reach the limit.
        n => MAX_DELAY.min(STEP * (1 << (n - 2).min(5))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        let mut delays = Vec::new();
        for _ in 0..9 {
            delays.push(throttle.delay(HERE, "a", now));
            throttle.failed(HERE, "a", now);
        }
        let expected = [0, 0, 250, 500, 1000, 2000, 4000, 5000, 5000].map(ms);
        assert_eq!(delays, expected);
        for _ in 0..1000 {
            throttle.failed(HERE, "a", now);
        }
        assert_eq!(throttle.delay(HERE, "a", now), MAX_DELAY);
    }

    #[test]
    fn waiting_counts() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..3 {
            throttle.failed(HERE, "a", now);
        }
        assert_eq!(throttle.delay(HERE, "a", now + ms(499)), ms(1));
        assert_eq!(throttle.delay(HERE, "a", now + ms(500)), ms(0));
        // Another failure goes on where the last ended.
        throttle.failed(HERE, "a", now + ms(500));
        assert_eq!(throttle.delay(HERE, "a", now + ms(500)), ms(1000));
    }

    #[test]
    fn only_the_same_address_and_user_wait() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..5 {
            throttle.failed(HERE, "a", now);
        }
        assert_eq!(throttle.delay(HERE, "b", now), ms(0));
        assert_eq!(throttle.delay(THERE, "a", now), ms(0));
        let mapped = "::ffff:192.0.2.1".parse().unwrap();
        assert_eq!(throttle.delay(mapped, "a", now), ms(2000));
    }

    #[test]
    fn an_ipv6_host_is_its_network() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..2 {
            throttle.failed("2001:db8::1".parse().unwrap(), "a", now);
        }
        let neighbour = "2001:db8::ffff:2".parse().unwrap();
        let stranger = "2001:db8:0:1::1".parse().unwrap();
        assert_eq!(throttle.delay(neighbour, "a", now), ms(250));
        assert_eq!(throttle.delay(stranger, "a", now), ms(0));
    }

    #[test]
    fn success_and_time_forget() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        for _ in 0..4 {
            throttle.failed(HERE, "a", now);
            throttle.failed(THERE, "a", now);
        }
        throttle.succeeded(HERE, "a");
        assert_eq!(throttle.delay(HERE, "a", now), ms(0));
        assert_eq!(throttle.delay(THERE, "a", now), ms(1000));
        assert_eq!(throttle.delay(THERE, "a", now + FORGET), ms(0));
        assert!(throttle.is_empty());

        throttle.failed(HERE, "b", now);
        throttle.failed(HERE, "b", now);
        throttle.failed(HERE, "b", now + FORGET);
        assert_eq!(throttle.delay(HERE, "b", now + FORGET), ms(0));
    }

    #[test]
    fn the_eldest_is_forgotten_when_full() {
        let mut throttle = Throttle::with_capacity(2);
        let now = Instant::now();
        throttle.failed(HERE, "a", now);
        throttle.failed(HERE, "b", now);
        throttle.failed(HERE, "a", now);
        throttle.failed(HERE, "c", now);
        throttle.failed(HERE, "c", now);
        assert_eq!(throttle.len(), 2);
        assert_eq!(throttle.order.len(), 2);
        assert_eq!(throttle.delay(HERE, "a", now), ms(250));
        assert_eq!(throttle.delay(HERE, "c", now), ms(250));
        throttle.failed(HERE, "b", now);
        assert_eq!(throttle.delay(HERE, "b", now), ms(0), "b was forgotten");
        assert_eq!(throttle.len(), 2);
    }

    #[test]
    fn a_clock_that_seems_to_go_back_harms_nobody() {
        let mut throttle = Throttle::default();
        let now = Instant::now();
        throttle.failed(HERE, "a", now + ms(1000));
        throttle.failed(HERE, "a", now + ms(1000));
        assert_eq!(throttle.delay(HERE, "a", now), ms(250));
    }
}
