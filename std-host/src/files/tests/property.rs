//! Whatever order things come in, the file is what was sent.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    /// A session sends so many bytes.
    Write(usize, usize),
    /// Its connection is cut.
    Cut(usize),
    /// It asks for the file.
    Upload(usize),
    /// It says that it has sent all.
    Eof(usize),
    /// The shard's turn ends.
    Turn,
    /// The workers have time for all that they have.
    Pause,
}

const SESSIONS: usize = 4;

fn act() -> impl Strategy<Value = Act> {
    let session = 0..SESSIONS;
    prop_oneof![
        5 => (session.clone(), 1..150_000usize).prop_map(|(session, len)| Act::Write(session, len)),
        3 => session.clone().prop_map(Act::Upload),
        1 => session.clone().prop_map(Act::Cut),
        1 => session.prop_map(Act::Eof),
        2 => Just(Act::Turn),
        5 => Just(Act::Pause),
    ]
}

/// What a device knows of its upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Device {
    Idle,
    /// It has asked, and waits.
    Asks,
    /// It is to send from here on.
    Sends(u64),
    /// It has sent the end, and waits.
    Ends,
}

struct World {
    bench: Bench,
    shard: Shard,
    user: Arc<User>,
    devices: [Device; SESSIONS],
    /// The connection of each device: a new one after each cut.
    ids: [u64; SESSIONS],
    next: u64,
    /// Who has the file and is not being taken over.
    holder: Option<usize>,
    /// Bytes that have been handed over for good.
    sure: u64,
    /// The same, when a device asked.
    sure_then: [u64; SESSIONS],
    is_limited: bool,
}

impl World {
    fn new(workers: usize, limit: Option<u64>) -> Self {
        let mut bench = Bench::with(|config| {
            config.workers = NonZeroUsize::new(workers).unwrap();
            // More memory than that only makes less happen.
            config.memory = 5 * buffers::LARGE;
            config.max_user_bytes = limit;
        });
        let shard = bench.shard();
        let ids = [0, 1, 2, 3];
        let devices = [Device::Idle; SESSIONS];
        Self {
            bench,
            shard,
            user: device("meter"),
            devices,
            ids,
            next: 4,
            holder: None,
            sure: 0,
            sure_then: [0; SESSIONS],
            is_limited: limit.is_some(),
        }
    }

    /// Takes what has been answered.
    fn settle(&mut self) {
        self.shard.poll();
        for device in 0..SESSIONS {
            let session = id(self.ids[device]);
            if matches!(self.devices[device], Device::Asks | Device::Ends)
                && self.shard.waiting.get(&session) == Some(&true)
            {
                self.shard.waiting.remove(&session);
                let asked = self.devices[device] == Device::Asks;
                self.devices[device] = match self.shard.store.answer(session) {
                    Outcome::Value(from) if asked => {
                        // Not a byte that was handed over is missing.
                        assert!(self.is_limited || from >= self.sure_then[device]);
                        let others = self.devices.iter().filter(|other| **other == Device::Asks);
                        self.holder = (others.count() == 1).then_some(device);
                        Device::Sends(from)
                    }
                    _ => Device::Idle,
                };
            }
            if self.shard.taken_over.contains(&session) {
                self.reconnect(device);
            }
        }
    }

    fn reconnect(&mut self, device: usize) {
        self.shard.release(id(self.ids[device]));
        self.ids[device] = self.next;
        self.next += 1;
        self.devices[device] = Device::Idle;
    }

    /// The one who has the file has to go, or goes: what it has handed over is there to stay.
    fn give_up(&mut self) {
        if let Some(holder) = self.holder.take()
            && let Device::Sends(from) = self.devices[holder]
        {
            self.sure = self.sure.max(from);
        }
    }

    fn act(&mut self, act: &Act) {
        self.settle();
        match *act {
            Act::Turn => self.shard.store.end_turn(),
            Act::Pause => assert!(self.bench.files.finish(LONG)),
            Act::Cut(device) => {
                if self.holder == Some(device) {
                    self.give_up();
                }
                self.reconnect(device);
            }
            Act::Upload(device) => {
                let session = id(self.ids[device]);
                let can = matches!(self.devices[device], Device::Idle | Device::Sends(_));
                if can && self.free(session) {
                    self.give_up();
                    self.sure_then[device] = self.sure;
                    self.shard.begin(session, &self.user.clone(), upload("a"));
                    self.devices[device] = Device::Asks;
                }
            }
            Act::Write(device, len) => {
                let session = id(self.ids[device]);
                if let Device::Sends(from) = self.devices[device]
                    && self.free(session)
                {
                    let taken = self.shard.try_write(session, &bytes(from, len));
                    self.devices[device] = Device::Sends(from + taken as u64);
                }
            }
            Act::Eof(device) => {
                let session = id(self.ids[device]);
                if let Device::Sends(from) = self.devices[device]
                    && self.free(session)
                {
                    if self.holder == Some(device) {
                        self.give_up();
                    }
                    self.shard.begin(session, &self.user.clone(), eof(from));
                    self.devices[device] = Device::Ends;
                }
            }
        }
    }

    /// Whether a session may ask: it does not wait for room.
    fn free(&mut self, session: SessionId) -> bool {
        if self.shard.waiting.get(&session) == Some(&false) {
            return false;
        }
        self.shard.waiting.remove(&session);
        true
    }

    /// Ends all, and looks at the file.
    fn finish(mut self, limit: Option<u64>) {
        for session in self.ids {
            self.shard.release(id(session));
        }
        self.bench.is_clean();
        let stored = fs::read(self.bench.at("meter/a")).unwrap_or_default();
        assert!(stored == bytes(0, stored.len()), "{} bytes", stored.len());
        assert!(limit.is_none_or(|limit| stored.len() as u64 <= limit));
        // And a device may end it.
        if limit.is_none() {
            let all = bytes(0, stored.len() + 100_000);
            self.shard.upload_all(id(1 << 40), &self.user.clone(), "a", &all);
            assert!(self.bench.read("meter/a") == all);
        }
        self.bench.is_clean();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_writes_cuts_and_takeovers_leaves_the_file_whole(
        acts in vec(act(), 1..120),
        workers in 1..4usize,
        limit in prop_oneof![3 => Just(None), 1 => (0..1_000_000u64).prop_map(Some)],
    ) {
        let mut world = World::new(workers, limit);
        for act in &acts {
            world.act(act);
        }
        world.finish(limit);
    }
}
