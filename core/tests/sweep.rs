//! The sweep against a model that scans everything.

use std::collections::HashMap;

use embassy_time::{Duration, Instant};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use pulsegate_core::list::{Head, Link};
use pulsegate_core::sweep::{Sweep, Timed};
use pulsegate_core::table::{SessionId, Slot, Table};

struct Entry {
    link: Link,
    deadline: Option<Instant>,
}

impl Timed for Entry {
    fn link_mut(&mut self) -> &mut Link {
        &mut self.link
    }

    fn deadline(&self) -> Option<Instant> {
        self.deadline
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert {
        after: u64,
    },
    Remove(Index),
    /// Activity: the deadline moves later, and nobody is told.
    Later(Index, u64),
    /// The deadline changes in any way, and the entry is armed again.
    Rearm(Index, Option<u64>),
    /// Time goes by, and the sweep is called whenever it asks to be.
    Live(u64),
    /// Nobody calls for a while.
    Pause(u64),
    /// One call with few looks, whatever the sweep has asked for.
    Glance(u32),
}

fn op(tick: u64) -> impl Strategy<Value = Op> {
    // Around a tick, around the wheel, far beyond it.
    let span = move || prop_oneof![0..3 * tick, 0..40 * tick, 0..3_000 * tick];
    prop_oneof![
        4 => span().prop_map(|after| Op::Insert { after }),
        1 => any::<Index>().prop_map(Op::Remove),
        3 => (any::<Index>(), span()).prop_map(|(i, by)| Op::Later(i, by)),
        2 => (any::<Index>(), prop::option::weighted(0.8, span())).prop_map(|(i, d)| Op::Rearm(i, d)),
        5 => (0..60 * tick).prop_map(Op::Live),
        1 => span().prop_map(Op::Pause),
        2 => (0u32..4).prop_map(Op::Glance),
    ]
}

/// What the model knows of an entry.
struct Known {
    deadline: Option<u64>,
    /// No call in this tick or before can be blamed for not naming the entry.
    excused_tick: Option<u64>,
}

struct World<'m> {
    table: Table<Entry, &'m mut [Slot<Entry>]>,
    sweep: Sweep<&'m mut [Head]>,
    model: HashMap<SessionId, Known>,
    ever: Vec<SessionId>,
    tick: u64,
    now: u64,
    looks: std::vec::IntoIter<u32>,
}

impl World<'_> {
    fn now_tick(&self) -> u64 {
        self.now / self.tick
    }

    /// The tick at which the entry must be named at the latest.
    fn named_by(&self, known: &Known) -> Option<u64> {
        let tick = known.deadline?.div_ceil(self.tick);
        Some(known.excused_tick.map_or(tick, |excused| tick.max(excused + 1)))
    }

    fn arm(&mut self, id: SessionId, deadline: Option<u64>) {
        let Some(entry) = self.table.get_mut(id) else { return };
        entry.deadline = deadline.map(Instant::from_ticks);
        self.sweep.arm(Instant::from_ticks(self.now), &mut self.table, id);
        let excused_tick = Some(self.now_tick());
        self.model.insert(id, Known { deadline, excused_tick });
    }

    /// One call; `true` when nothing was left to name.
    fn call(&mut self, mut looks: u32) -> Result<bool, TestCaseError> {
        let given = looks;
        let found = self.sweep.due(Instant::from_ticks(self.now), &mut self.table, &mut looks);
        prop_assert!(looks <= given);
        let Some(id) = found else {
            let more = self.sweep.poll_at().is_some_and(|at| at.as_ticks() <= self.now);
            prop_assert!(!more || looks == 0, "due in the past, and yet nothing was named");
            return Ok(!more);
        };
        prop_assert!(given > looks, "a look that was not counted");
        let now_tick = self.now_tick();
        let known = self.model.get_mut(&id).expect("an entry that has left was named");
        let deadline = known.deadline.expect("an entry without a deadline was named");
        prop_assert!(deadline <= self.now, "early by {}", deadline - self.now);
        known.excused_tick = Some(now_tick);
        // Some are removed, some get a new deadline, some none, some are left as they are.
        match id.index() % 4 {
            0 => {
                prop_assert!(self.sweep.remove(&mut self.table, id).is_some());
                self.model.remove(&id);
            }
            1 => self.arm(id, Some(self.now + 7 * self.tick)),
            2 => {
                known.deadline = Some(self.now + 1);
                self.table.get_mut(id).unwrap().deadline = Some(Instant::from_ticks(self.now + 1));
            }
            _ => {}
        }
        Ok(false)
    }

    /// Calls until nothing is left at this moment.
    fn drain(&mut self) -> Result<(), TestCaseError> {
        for _ in 0..10_000 {
            let looks = self.looks.next().unwrap_or(u32::MAX);
            if self.call(looks)? {
                for (id, known) in &self.model {
                    let by = self.named_by(known);
                    prop_assert!(by.is_none_or(|by| by > self.now_tick()), "{id} was not named");
                }
                return Ok(());
            }
        }
        prop_assert!(false, "the sweep does not come to an end");
        Ok(())
    }

    fn live(&mut self, by: u64) -> Result<(), TestCaseError> {
        let until = self.now + by;
        while let Some(at) = self.sweep.poll_at().map(|at| at.as_ticks()).filter(|&at| at <= until)
        {
            self.now = self.now.max(at);
            self.drain()?;
        }
        self.now = until;
        Ok(())
    }

    fn step(&mut self, op: Op, capacity: usize) -> Result<(), TestCaseError> {
        match op {
            Op::Insert { after } => {
                let deadline = Some(Instant::from_ticks(self.now + after));
                match self.table.insert(Entry { link: Link::UNLINKED, deadline }) {
                    Ok(id) => {
                        self.ever.push(id);
                        self.arm(id, Some(self.now + after));
                    }
                    Err(_) => prop_assert_eq!(self.model.len(), capacity),
                }
            }
            Op::Remove(index) if !self.ever.is_empty() => {
                let id = *index.get(&self.ever);
                let removed = self.sweep.remove(&mut self.table, id).is_some();
                prop_assert_eq!(removed, self.model.remove(&id).is_some());
            }
            Op::Later(index, by) if !self.ever.is_empty() => {
                let id = *index.get(&self.ever);
                if let Some(known) = self.model.get_mut(&id) {
                    known.deadline = known.deadline.map(|at| at + by);
                    self.table.get_mut(id).unwrap().deadline =
                        known.deadline.map(Instant::from_ticks);
                }
            }
            Op::Rearm(index, after) if !self.ever.is_empty() => {
                let id = *index.get(&self.ever);
                self.arm(id, after.map(|after| self.now + after));
            }
            Op::Live(by) => self.live(by)?,
            Op::Pause(by) => self.now += by,
            Op::Glance(looks) => {
                self.call(looks)?;
            }
            Op::Remove(_) | Op::Later(..) | Op::Rearm(..) => {}
        }
        // Nothing is lost: the sweep asks to be called before anything has to be named.
        let armed = self.model.values().filter(|known| known.deadline.is_some()).count();
        prop_assert_eq!(self.sweep.armed(), armed);
        for known in self.model.values() {
            if let Some(by) = self.named_by(known) {
                let poll_at = self.sweep.poll_at().expect("armed").as_ticks();
                prop_assert!(poll_at <= self.now.max(by * self.tick), "asleep until {poll_at}");
            }
        }
        Ok(())
    }
}

fn setting() -> impl Strategy<Value = (u64, u64, Vec<Op>)> {
    let start = prop_oneof![
        Just(0u64),
        any::<u32>().prop_map(u64::from),
        // Around 2^32 milliseconds, in the clock's microseconds.
        (0u64..200_000_000).prop_map(|by| (1000 << 32) - 100_000_000 + by),
        (0u64..1 << 40).prop_map(|by| (1 << 63) + by),
    ];
    let tick = prop_oneof![Just(1u64), Just(7), Just(997), Just(100_000), 1u64..200_000];
    (start, tick).prop_flat_map(|(start, tick)| (Just(start), Just(tick), vec(op(tick), 1..80)))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn never_early_and_late_by_less_than_a_tick(
        (start, tick, ops) in setting(),
        wheel in 3usize..=100,
        capacity in 1usize..20,
        looks in vec(0u32..5, 0..60),
    ) {
        let mut slots: Vec<Slot<Entry>> = (0..capacity).map(|_| Slot::EMPTY).collect();
        let mut wheel = vec![Head::EMPTY; wheel];
        let mut world = World {
            table: Table::new(&mut slots[..]),
            sweep: Sweep::new(&mut wheel[..], Duration::from_ticks(tick)),
            model: HashMap::new(),
            ever: Vec::new(),
            tick,
            now: start,
            looks: looks.into_iter(),
        };
        for op in ops {
            world.step(op, capacity)?;
        }
        world.drain()?;
    }
}

/// A table and a sweep over memory of their own.
type Pair = (Table<Entry, Vec<Slot<Entry>>>, Sweep<Vec<Head>>);

fn pair(capacity: usize, wheel: usize, tick: u64) -> Pair {
    let slots = (0..capacity).map(|_| Slot::EMPTY).collect();
    let sweep = Sweep::new(vec![Head::EMPTY; wheel], Duration::from_ticks(tick));
    (Table::new(slots), sweep)
}

fn insert((table, sweep): &mut Pair, now: u64, deadline: u64) -> SessionId {
    let deadline = Some(Instant::from_ticks(deadline));
    let id = table.insert(Entry { link: Link::UNLINKED, deadline }).ok().unwrap();
    sweep.arm(Instant::from_ticks(now), table, id);
    id
}

#[test]
fn an_active_entry_costs_one_look_per_timeout() {
    let mut pair = pair(1, 64, 100);
    let id = insert(&mut pair, 0, 6000);
    let (table, sweep) = &mut pair;
    let mut looks = u32::MAX;
    for now in (0..60_000).step_by(50) {
        table.get_mut(id).unwrap().deadline = Some(Instant::from_ticks(now + 6000));
        assert_eq!(sweep.due(Instant::from_ticks(now), table, &mut looks), None);
    }
    assert!((9..=11).contains(&(u32::MAX - looks)), "{} looks", u32::MAX - looks);
}

#[test]
fn looks_bound_a_turn_in_which_all_are_due() {
    let mut pair = pair(100, 64, 100);
    for _ in 0..100 {
        insert(&mut pair, 0, 5000);
    }
    let (table, sweep) = &mut pair;
    let (now, mut turns, mut named) = (Instant::from_ticks(5000), 0, 0);
    while sweep.armed() > 0 {
        let mut looks = 16;
        while let Some(id) = sweep.due(now, table, &mut looks) {
            sweep.remove(table, id).unwrap();
            named += 1;
        }
        turns += 1;
        assert!(named <= turns * 16);
    }
    assert_eq!((named, turns), (100, 7));
}

#[test]
fn the_end_of_time_is_harmless() {
    for (tick, wheel) in [(1, 3), (1, 100), (100_000, 5)] {
        let mut pair = pair(3, wheel, tick);
        let ids = [
            insert(&mut pair, u64::MAX - 500, u64::MAX),
            insert(&mut pair, u64::MAX, u64::MAX - 1),
            insert(&mut pair, 0, 10),
        ];
        let (table, sweep) = &mut pair;
        let (mut looks, mut named) = (10_000, Vec::new());
        // No later tick comes, so each is named now or never, and not for ever.
        named.extend(std::iter::from_fn(|| sweep.due(Instant::MAX, table, &mut looks)));
        assert!(looks > 9_900 && named.contains(&ids[2]), "{} times", named.len());
        for id in ids {
            assert!(sweep.remove(table, id).is_some());
        }
        assert_eq!((sweep.armed(), sweep.poll_at()), (0, None));
    }
}

#[test]
fn too_small_a_wheel_finds_nothing_and_breaks_nothing() {
    for wheel in 0..3 {
        let mut pair = pair(1, wheel, 100);
        let id = insert(&mut pair, 0, 10);
        let (table, sweep) = &mut pair;
        assert_eq!(sweep.due(Instant::from_ticks(1000), table, &mut 5), None);
        assert_eq!((sweep.armed(), sweep.poll_at()), (0, None));
        assert!(sweep.remove(table, id).is_some());
    }
}

#[test]
fn an_entry_that_left_while_it_was_armed_does_not_hang_the_sweep() {
    let mut pair = pair(2, 8, 100);
    let id = insert(&mut pair, 0, 10);
    let (table, sweep) = &mut pair;
    table.remove(id).unwrap();
    let mut looks = 100;
    assert_eq!(sweep.due(Instant::from_ticks(1000), table, &mut looks), None);
    assert!(looks > 90);
    let id = insert(&mut pair, 1000, 1010);
    let (table, sweep) = &mut pair;
    assert_eq!(sweep.due(Instant::from_ticks(1100), table, &mut looks), Some(id));
}
