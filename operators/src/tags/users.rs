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
    state::{ColdStore, KEY_GROUP_COLUMN, KeyHash, Lanes, Snapshot, StatePart},
};

use super::{plan::Plan, user::User};
use crate::ordered::number;

/// How the names of stored parts begin.
const PART: &str = "users-";
const HIGH: &str = "high";
const LOW: &str = "low";
const NEXT: &str = "next_us";
const STATE: &str = "state";

/// With fewer timers than this it does not matter that many are out of date.
const MIN_TIMERS: usize = 1024;

/// A stored part has about so many bytes at most.
const PART_BYTES: usize = 64 << 20;

/// Users as bytes, by the hash of their key. They are decoded when something
/// happens to them, and only then. With a [`Warmth`], those to whom nothing has
/// happened lately are on disk.
#[derive(Default)]
pub(super) struct Users {
    slots: HashTable<Slot>,
    warmth: Option<Warmth>,
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

/// How much memory there is, and where the rest goes.
pub(super) struct Warmth {
    limit_bytes: usize,
    cold: Box<dyn ColdStore>,
}

/// A user in the map.
struct Slot {
    key: KeyHash,
    /// The encoded state; empty where it is cold, and where the user was forgotten
    /// after it was stored.
    state: Box<[u8]>,
    next: i64,
    /// The stored part that has it; 0 for none.
    part: u32,
    temperature: Temperature,
    /// Whether the cold store has this state.
    is_on_disk: bool,
}

/// Where a user's state is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Temperature {
    /// In memory, and something happened lately.
    Hot,
    /// In memory.
    Warm,
    /// On disk.
    Cold,
    /// Nowhere: the user was forgotten.
    Gone,
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

    /// Lets users go to disk when they take too much memory.
    pub(super) fn keep_warm(&mut self, warmth: Warmth) {
        self.warmth = Some(warmth);
    }

    /// The keys of all users.
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        let slots = self.slots.iter();
        let known = slots.filter(|slot| slot.temperature != Temperature::Gone);
        known.map(|slot| slot.key).collect()
    }

    /// Brings users into memory: a call of [`get`](Self::get) may follow.
    pub(super) fn warm(&mut self, keys: impl IntoIterator<Item = KeyHash>) -> Result<()> {
        let Some(warmth) = &self.warmth else {
            return Ok(());
        };
        for key in keys {
            let slot = self.slots.find_mut(key.low, |slot| slot.key == key);
            if let Some(slot) = slot
                && slot.temperature == Temperature::Cold
            {
                slot.state = warmth.get(key)?.into();
                slot.temperature = Temperature::Warm;
                self.bytes += size(&slot.state);
            }
        }
        Ok(())
    }

    /// The user with this key, if it is in memory.
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

    /// Takes users to disk while they take too much memory: first those to whom
    /// nothing has happened since this was done last.
    pub(super) fn cool(&mut self) -> Result<()> {
        let Some(warmth) = &mut self.warmth else {
            return Ok(());
        };
        let mut is_first = true;
        while self.bytes > warmth.limit_bytes {
            let enough = warmth.limit_bytes / 10 * 9;
            let mut bytes = self.bytes;
            let mut leaving = Vec::new();
            for slot in &mut self.slots {
                match slot.temperature {
                    Temperature::Hot => slot.temperature = Temperature::Warm,
                    Temperature::Warm if bytes > enough => {
                        bytes -= size(&slot.state);
                        slot.temperature = Temperature::Cold;
                        leaving.push(slot);
                    }
                    _ => {}
                }
            }
            if leaving.is_empty() && !is_first {
                break;
            }
            is_first = false;
            let new = leaving.iter().filter(|slot| !slot.is_on_disk);
            let mut new = new.map(|slot| (slot.key, slot.state.as_ref()));
            warmth.cold.put(&mut new)?;
            for slot in leaving {
                slot.is_on_disk = true;
                slot.state = Box::default();
            }
            self.bytes = bytes;
        }
        Ok(())
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
            // A time to which a user came back stands twice.
            if slot.is_some_and(|slot| slot.next == at) && due.last() != Some(&key) {
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
            self.slots
                .retain(|slot| slot.temperature != Temperature::Gone);
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
            match &self.warmth {
                Some(warmth) if slot.temperature == Temperature::Cold => {
                    rows.push(slot, &warmth.get(key)?);
                }
                _ => rows.push(slot, &slot.state),
            }
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
            self.cool()?;
        }
        let must_put = lanes == Lanes::Changed || adapt.is_some();
        if must_put {
            self.slots
                .retain(|slot| slot.temperature != Temperature::Gone || slot.part != 0);
            let keys: Vec<KeyHash> = self.slots.iter().map(|slot| slot.key).collect();
            if let Some(adapt) = &mut adapt {
                for key in &keys {
                    self.warm([*key])?;
                    let slot = self.slots.find(key.low, |slot| slot.key == *key);
                    if let Some(slot) = slot.filter(|slot| !slot.state.is_empty()) {
                        let user = adapt(&slot.state)?;
                        self.put(*key, user);
                    }
                    self.cool()?;
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
        self.bytes += size(&state);
        let slot = Slot {
            key,
            temperature: if state.is_empty() {
                Temperature::Gone
            } else {
                Temperature::Hot
            },
            state,
            next,
            part,
            is_on_disk: false,
        };
        let is_key = |slot: &Slot| slot.key == key;
        let mut is_new_time = true;
        match self.slots.entry(key.low, is_key, |slot| slot.key.low) {
            Entry::Occupied(mut entry) => {
                let before = std::mem::replace(entry.get_mut(), slot);
                self.bytes -= size(&before.state);
                is_new_time = next != before.next;
                if let Some(part) = self.parts.iter_mut().find(|it| it.number == before.part) {
                    part.live -= 1;
                }
            }
            Entry::Vacant(entry) => {
                entry.insert(slot);
            }
        }
        if let Some(part) = self.parts.iter_mut().find(|it| it.number == part) {
            part.live += 1;
        }
        if is_new_time && next < i64::MAX {
            self.timers.push(Reverse((next, key)));
            if self.timers.len() > 2 * self.slots.len() + MIN_TIMERS {
                let slots = self.slots.iter().filter(|slot| slot.next < i64::MAX);
                self.timers = slots.map(|slot| Reverse((slot.next, slot.key))).collect();
            }
        }
    }
}

impl Warmth {
    /// Of so many bytes, with the rest in `cold`.
    pub(super) fn new(limit_bytes: usize, cold: Box<dyn ColdStore>) -> Self {
        Self { limit_bytes, cold }
    }

    /// The state of a cold user.
    fn get(&self, key: KeyHash) -> Result<Vec<u8>> {
        let state = self.cold.get(key)?;
        state.ok_or_else(|| Error::external("cold state is gone from the local disk"))
    }
}

/// What a state takes: an allocation has a header and is rounded up.
fn size(state: &[u8]) -> usize {
    match state.len() {
        0 => 0,
        length => length.next_multiple_of(16) + 8,
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
    fn push(&mut self, slot: &Slot, state: &[u8]) {
        self.keys.push(slot.key);
        self.nexts.push(slot.next);
        self.offsets.push(self.states.len() as i64);
        self.states.extend_from_slice(state);
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

/// What a stored part of users has of one.
pub(super) fn of_key(part: StatePart, key: KeyHash) -> Result<Option<StatePart>> {
    let unreadable = || Error::data(format!("the stored state `{}` cannot be read", part.key));
    let column = |name| {
        let column = part.rows.column_by_name(name);
        column.and_then(|column| column.as_primitive_opt::<UInt64Type>())
    };
    let (high, low) = column(HIGH).zip(column(LOW)).ok_or_else(unreadable)?;
    let mut keys = high.values().iter().zip(low.values());
    let place = keys.position(|(high, low)| (*high, *low) == (key.high, key.low));
    Ok(place.map(|place| StatePart {
        rows: part.rows.slice(place, 1),
        key: part.key.clone(),
    }))
}

/// Whether a stored part is one of users.
pub(super) fn is_part(key: &str) -> bool {
    key.starts_with(PART)
}

fn name(number: u32) -> String {
    format!("{PART}{number}")
}
