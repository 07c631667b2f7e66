//! The users of a lane, at rest.

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int64Array, LargeBinaryArray, RecordBatch, UInt8Array,
        UInt64Array,
    },
    buffer::OffsetBuffer,
    datatypes::{Int64Type, UInt64Type},
};
use hashbrown::{HashTable, hash_table::Entry};
use tagflow_engine::{
    Error, Result,
    state::{KEY_GROUP_COLUMN, KeyHash, Lanes, Snapshot, StatePart},
};

use super::{plan::Plan, user::User};
use crate::ordered::number;

/// How the names of stored parts begin.
const PART: &str = "users-";
const HIGH: &str = "high";
const LOW: &str = "low";
const NEXT: &str = "next_us";
const STATE: &str = "state";

/// A stored part has about so many bytes at most.
const PART_BYTES: usize = 64 << 20;

/// Users as bytes, by the hash of their key. They are decoded when something
/// happens to them, and only then.
#[derive(Default)]
pub(super) struct Users {
    slots: HashTable<Slot>,
    /// When something happens to a user by itself. Entries that a user's `next` does
    /// not confirm are out of date.
    timers: BinaryHeap<Reverse<(i64, KeyHash)>>,
    /// Keys whose state is not stored yet; a key may stand here twice.
    fresh: Vec<KeyHash>,
    parts: Vec<Part>,
    next_part: u32,
    bytes: usize,
}

/// An encoded user.
pub(super) struct AtRest {
    /// Empty where all was forgotten.
    state: Box<[u8]>,
    next: i64,
}

impl AtRest {
    /// Encodes a user. `scratch` saves allocations.
    pub(super) fn new(plan: &Plan, user: &User<'_>, scratch: &mut [Vec<u8>; 2]) -> Result<Self> {
        if !user.is_known() {
            return Ok(Self {
                state: Box::default(),
                next: i64::MAX,
            });
        }
        let [bytes, pieces] = scratch;
        bytes.clear();
        *bytes = user.encode(std::mem::take(bytes), pieces)?;
        Ok(Self {
            state: bytes.as_slice().into(),
            next: user.next(plan),
        })
    }
}

/// A user in the map.
struct Slot {
    key: KeyHash,
    /// The encoded state; empty where the user was forgotten after it was stored.
    state: Box<[u8]>,
    next: i64,
    /// The stored part that has it; 0 for none.
    part: u32,
}

/// A stored part.
struct Part {
    number: u32,
    /// How many users it holds, and of how many the latest state.
    users: usize,
    live: usize,
}

impl Users {
    /// Whether there are none.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The keys of all users.
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        let known = self.slots.iter().filter(|slot| !slot.state.is_empty());
        known.map(|slot| slot.key).collect()
    }

    /// The user with this key.
    pub(super) fn get(&self, key: KeyHash) -> Result<Option<User<'_>>> {
        match self.slots.find(key.low, |slot| slot.key == key) {
            Some(slot) if !slot.state.is_empty() => Ok(Some(User::decode(&slot.state)?)),
            _ => Ok(None),
        }
    }

    /// Puts an encoded user, or none, in place of what was known of the key.
    pub(super) fn put(&mut self, key: KeyHash, user: AtRest) {
        self.insert(key, user.state, user.next, 0);
        self.fresh.push(key);
    }

    /// Takes the keys of up to `limit` users to whom something happens at `to` or
    /// before.
    pub(super) fn take_due(&mut self, to: i64, limit: usize) -> Vec<KeyHash> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(Reverse((at, key))) = self.timers.peek().copied()
            && at <= to
        {
            self.timers.pop();
            let slot = self.slots.find(key.low, |slot| slot.key == key);
            if slot.is_some_and(|slot| slot.next == at) {
                due.push(key);
            }
        }
        due
    }

    /// Whether something happens to a user at `to` or before.
    pub(super) fn is_due(&self, to: i64) -> bool {
        self.timers.peek().is_some_and(|Reverse((at, _))| *at <= to)
    }

    /// Adds the users that changed. A part is written again, with what is new, when
    /// it is not larger or half of it is out of date; so a user is written about as
    /// often as the number of users doubles.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.sort_unstable();
        fresh.dedup();
        let mut count = fresh.len();
        let mut merged = Vec::new();
        while let Some(last) = self.parts.last()
            && (last.live <= count || last.live * 2 <= last.users)
        {
            count += last.live;
            merged.push(last.number);
            self.parts.pop();
        }
        snapshot
            .removed
            .extend(merged.iter().map(|part| name(*part)));
        if !merged.is_empty() {
            let slots = self.slots.iter().filter(|slot| merged.contains(&slot.part));
            fresh.extend(slots.map(|slot| slot.key));
        }
        if self.parts.is_empty() {
            // No older part knows a user who was forgotten.
            self.slots.retain(|slot| !slot.state.is_empty());
        }
        let mut rows = Rows::default();
        for key in fresh {
            let Some(slot) = self.slots.find_mut(key.low, |slot| slot.key == key) else {
                continue;
            };
            if rows.states.len() > PART_BYTES {
                self.next_part += 1;
                self.parts
                    .push(std::mem::take(&mut rows).put(self.next_part, snapshot)?);
            }
            slot.part = self.next_part + 1;
            rows.push(slot);
        }
        if rows.keys.is_empty() {
            return Ok(());
        }
        self.next_part += 1;
        self.parts.push(rows.put(self.next_part, snapshot)?);
        Ok(())
    }

    /// Takes back what snapshots held: parts in the order in which they were put.
    /// `adapt` makes users of an earlier plan users of this one.
    pub(super) fn restore(
        &mut self,
        parts: Vec<StatePart>,
        lanes: Lanes,
        mut adapt: Option<impl FnMut(&[u8]) -> Result<AtRest>>,
    ) -> Result<()> {
        for part in &parts {
            let number = number(&part.key) as u32;
            let unreadable =
                || Error::data(format!("the stored state `{}` cannot be read", part.key));
            let column = |name| part.rows.column_by_name(name).ok_or_else(unreadable);
            let high = column(HIGH)?.as_primitive_opt::<UInt64Type>();
            let low = column(LOW)?.as_primitive_opt::<UInt64Type>();
            let nexts = column(NEXT)?.as_primitive_opt::<Int64Type>();
            let states = column(STATE)?.as_binary_opt::<i64>();
            let (Some(high), Some(low), Some(nexts), Some(states)) = (high, low, nexts, states)
            else {
                return Err(unreadable());
            };
            if lanes == Lanes::Same {
                self.next_part = self.next_part.max(number);
                self.parts.push(Part {
                    number,
                    users: states.len(),
                    live: 0,
                });
            }
            let number = if lanes == Lanes::Same { number } else { 0 };
            let keys = high.values().iter().zip(low.values());
            let states = nexts.values().iter().zip(states.iter().flatten());
            for ((&high, &low), (next, state)) in keys.zip(states) {
                self.insert(KeyHash { high, low }, state.into(), *next, number);
            }
        }
        let must_put = lanes == Lanes::Changed || adapt.is_some();
        if must_put {
            self.slots
                .retain(|slot| !slot.state.is_empty() || slot.part != 0);
            let keys: Vec<KeyHash> = self.slots.iter().map(|slot| slot.key).collect();
            for key in &keys {
                let slot = self.slots.find(key.low, |slot| slot.key == *key);
                if let (Some(adapt), Some(slot)) = (&mut adapt, slot)
                    && !slot.state.is_empty()
                {
                    let user = adapt(&slot.state)?;
                    self.put(*key, user);
                }
            }
            self.fresh = keys;
        }
        Ok(())
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
            + self.slots.allocation_size()
            + self.timers.capacity() * size_of::<(i64, KeyHash)>()
    }

    fn insert(&mut self, key: KeyHash, state: Box<[u8]>, next: i64, part: u32) {
        // An allocation has a header and is rounded up.
        let size = |state: &[u8]| state.len().next_multiple_of(16) + 8;
        self.bytes += size(&state);
        let entry = self
            .slots
            .entry(key.low, |slot| slot.key == key, |slot| slot.key.low);
        let mut is_earlier = true;
        match entry {
            Entry::Occupied(mut entry) => {
                let slot = entry.get_mut();
                self.bytes -= size(&slot.state);
                let before = self.parts.iter_mut().find(|part| part.number == slot.part);
                if let Some(before) = before {
                    before.live -= 1;
                }
                is_earlier = next != slot.next;
                *slot = Slot {
                    key,
                    state,
                    next,
                    part,
                };
            }
            Entry::Vacant(entry) => {
                entry.insert(Slot {
                    key,
                    state,
                    next,
                    part,
                });
            }
        }
        if let Some(part) = self.parts.iter_mut().find(|it| it.number == part) {
            part.live += 1;
        }
        if is_earlier && next < i64::MAX {
            self.timers.push(Reverse((next, key)));
        }
    }
}

/// Rows of a part.
#[derive(Default)]
struct Rows {
    keys: Vec<KeyHash>,
    nexts: Vec<i64>,
    states: Vec<u8>,
    /// Where each state begins, and where the last one ends.
    offsets: Vec<i64>,
}

impl Rows {
    fn push(&mut self, slot: &Slot) {
        self.keys.push(slot.key);
        self.nexts.push(slot.next);
        self.offsets.push(self.states.len() as i64);
        self.states.extend_from_slice(&slot.state);
    }

    fn put(mut self, number: u32, snapshot: &mut Snapshot) -> Result<Part> {
        let users = self.keys.len();
        let keys = || self.keys.iter();
        self.offsets.push(self.states.len() as i64);
        let offsets = OffsetBuffer::new(self.offsets.into());
        let columns: [(&str, ArrayRef); 5] = [
            (
                HIGH,
                Arc::new(UInt64Array::from_iter_values(keys().map(|key| key.high))),
            ),
            (
                LOW,
                Arc::new(UInt64Array::from_iter_values(keys().map(|key| key.low))),
            ),
            (NEXT, Arc::new(Int64Array::from(self.nexts))),
            (
                STATE,
                Arc::new(LargeBinaryArray::new(offsets, self.states.into(), None)),
            ),
            (
                KEY_GROUP_COLUMN,
                Arc::new(UInt8Array::from_iter_values(
                    keys().map(|key| key.key_group()),
                )),
            ),
        ];
        let columns = columns.map(|(name, values)| (name, values, true));
        snapshot.put.push(StatePart {
            key: name(number),
            rows: RecordBatch::try_from_iter_with_nullable(columns)?,
        });
        Ok(Part {
            number,
            users,
            live: users,
        })
    }
}

/// Whether a stored part is one of users.
pub(super) fn is_part(key: &str) -> bool {
    key.starts_with(PART)
}

fn name(number: u32) -> String {
    format!("{PART}{number}")
}
