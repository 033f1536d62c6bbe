//! The table against a naive model.

use std::collections::HashMap;

use proptest::collection::vec;
use proptest::prelude::*;
use pulsegate_core::table::{Full, SessionId, Slot, Table};

#[derive(Debug, Clone)]
enum Op {
    Insert(u32),
    /// Removes one of the handles ever given out, fresh or stale.
    Remove(prop::sample::Index),
    Change(prop::sample::Index, u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<u32>().prop_map(Op::Insert),
        2 => any::<prop::sample::Index>().prop_map(Op::Remove),
        1 => (any::<prop::sample::Index>(), any::<u32>()).prop_map(|(i, v)| Op::Change(i, v)),
    ]
}

proptest! {
    #[test]
    fn handles_name_their_entry_and_no_other(
        capacity in 0usize..12,
        ops in vec(op(), 0..300),
    ) {
        let mut slots: Vec<Slot<u32>> = (0..capacity).map(|_| Slot::EMPTY).collect();
        let mut table = Table::new(&mut slots[..]);
        let mut model: HashMap<SessionId, u32> = HashMap::new();
        let mut ever: Vec<SessionId> = Vec::new();
        for op in ops {
            match op {
                Op::Insert(value) => match table.insert(value) {
                    Ok(id) => {
                        prop_assert!(id.index() < capacity);
                        prop_assert!(!ever.contains(&id), "a handle was given out twice");
                        ever.push(id);
                        model.insert(id, value);
                    }
                    Err(Full(back)) => {
                        prop_assert_eq!(back, value);
                        prop_assert_eq!(model.len(), capacity);
                    }
                },
                Op::Remove(index) if !ever.is_empty() => {
                    let id = *index.get(&ever);
                    prop_assert_eq!(table.remove(id), model.remove(&id));
                }
                Op::Change(index, value) if !ever.is_empty() => {
                    let id = *index.get(&ever);
                    if let Some(entry) = table.get_mut(id) {
                        *entry = value;
                    }
                    model.entry(id).and_modify(|entry| *entry = value);
                }
                Op::Remove(_) | Op::Change(..) => {}
            }
            prop_assert_eq!(table.len(), model.len());
            prop_assert_eq!(table.is_full(), model.len() == capacity);
            for id in &ever {
                prop_assert_eq!(table.get(*id), model.get(id));
                prop_assert_eq!(SessionId::from_bits(id.to_bits()), *id);
            }
            let listed: HashMap<SessionId, u32> = table.iter().map(|(id, v)| (id, *v)).collect();
            prop_assert_eq!(&listed, &model);
        }
    }
}

#[test]
fn memory_that_is_lent_again_does_not_revive_handles() {
    let mut slots = [Slot::EMPTY; 2];
    let old = Table::new(&mut slots[..]).insert('a').unwrap();
    let mut table = Table::new(&mut slots[..]);
    assert!(table.is_empty());
    let new = table.insert('b').unwrap();
    assert_eq!((old.index(), table.get(old), table.get(new)), (new.index(), None, Some(&'b')));
}

#[test]
fn a_handle_from_elsewhere_is_merely_stale() {
    let mut slots = [Slot::EMPTY; 1];
    let mut table = Table::new(&mut slots[..]);
    table.insert(()).unwrap();
    for bits in [1, u64::MAX, 1 << 32, u64::from(u32::MAX)] {
        let id = SessionId::from_bits(bits);
        assert_eq!(table.get(id), None);
        assert_eq!(table.remove(id), None);
    }
}
