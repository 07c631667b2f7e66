//! The keys of a lane: decoded, encoded or spilled.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int64Array, LargeBinaryBuilder, RecordBatch, UInt8Array,
        UInt64Array,
    },
    datatypes::{Int64Type, UInt64Type},
};
use hashbrown::hash_table;
use tagflow_engine::{
    Error, Result,
    operator::LaneContext,
    state::{
        KEY_GROUP_COLUMN, KeyHash, NewRows, Parts, Restore, Snapshot, SpillReader, SpillStore,
        StatePart,
    },
};

use super::{
    key_state::KeyState,
    plan::Plan,
    slots::{Keyed, Slots},
    timers::Timers,
};

/// The prefix of stored parts.
const PART: &str = "users-";
const HIGH: &str = "high";
const LOW: &str = "low";
const NEXT: &str = "next_us";
const STATE: &str = "state";

/// With fewer timers than this, outdated ones do not matter.
const MIN_TIMERS: usize = 1024;

/// The approximate maximum size of a stored part; small in tests, with few keys.
const PART_BYTES: usize = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// A stored part takes at most one part in this many of the lane's memory.
const PART_SHARE: usize = 32;

/// The size of a row of a part in addition to the state.
const ROW_BYTES: usize = 33;

/// The memory limit of decoded keys, unless the encoded ones leave more of [`ROOM_BYTES`]. Small in
/// tests, with few keys.
const IN_HAND_BYTES: usize = if cfg!(test) { 1 << 10 } else { 48 << 20 };

/// All keys may be decoded if they need no more memory than this.
const ROOM_BYTES: usize = 4 * IN_HAND_BYTES;

/// With a memory limit, of the lane or of its tags, decoded keys take at most this part.
const IN_HAND_SHARE: usize = 8;

/// The ratio of the decoded size of the pieces to their encoded size.
const IN_HAND_FACTOR: usize = 4;

/// The keys of a lane, by their hash. Recently changed keys are decoded, the others are encoded.
/// With a [`SpillPolicy`], keys without a recent change are spilled to disk.
pub(super) struct KeyStore {
    slots: Slots<Slot>,
    policy: Option<SpillPolicy>,
    bounds: Bounds,
    /// The next change of each key without an event. Entries that differ from a key's `next` are
    /// outdated.
    timers: Timers,
    in_hand: Vec<KeyHash>,
    /// The number of sweeps that encoded keys.
    sweep: u32,
    in_hand_bytes: usize,
    /// Keys with changes that are not stored yet.
    fresh: Vec<KeyHash>,
    parts: Parts<StoredPart>,
    bytes: usize,
    /// Avoids allocations.
    scratch: Vec<u8>,
}

/// The sizes of buffers in bytes.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    /// A stored part.
    part: usize,
    /// The decoded keys.
    in_hand: usize,
    /// All keys, if all of them may be decoded.
    room: usize,
}

/// The memory limit, and the store for the rest.
pub(super) struct SpillPolicy {
    limit_bytes: usize,
    cold: Box<dyn SpillStore>,
}

/// A key in the map.
struct Slot {
    key: KeyHash,
    place: Entry,
    next: i64,
    /// The stored part with its latest state; 0 for none, with its key in `fresh`.
    part: u32,
    /// The length of its last encoded state, as far as the lane knows.
    length: u32,
    /// The sweep before its last change.
    touched: u32,
    /// Whether it has changed since the last spill.
    is_warm: bool,
    /// Whether its key is in `in_hand`.
    is_listed: bool,
    /// Whether the spill store contains this state.
    is_on_disk: bool,
}

/// The location of a key's state.
enum Entry {
    Decoded(Box<KeyState>),
    /// Decoded, and shared with a snapshot that is being written.
    Shared(Arc<SnapshotShare>),
    /// Encoded. Snapshots that are being written share it.
    Encoded(Arc<[u8]>),
    Spilled,
    /// Forgotten, or taken for a change.
    Tombstone,
}

/// A decoded key that a snapshot will encode. If the lane needs it before that, the lane leaves the
/// encoded state.
struct SnapshotShare(Mutex<SharedKey>);

struct SharedKey {
    /// `None` once the lane has taken it back.
    user: Option<Box<KeyState>>,
    /// The encoded key, if the lane was faster.
    state: Option<Arc<[u8]>>,
    /// The number of part rows that still need it.
    rows: usize,
    /// The length of the state; 0 until it is encoded.
    length: u32,
}

/// A part of the keys.
struct StoredPart {
    /// The rows, until a snapshot has them.
    rows: Rows,
    /// The number of its keys, and of the keys with their latest state in it.
    users: usize,
    live: usize,
    /// Whether it has the maximum size.
    is_full: bool,
}

impl StoredPart {
    fn is_half_dead(&self) -> bool {
        self.live * 2 <= self.users
    }
}

impl SnapshotShare {
    /// Shares a key for one row.
    fn new(user: Box<KeyState>) -> Self {
        Self(Mutex::new(SharedKey {
            user: Some(user),
            state: None,
            rows: 1,
            length: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, SharedKey> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl SharedKey {
    fn user(&self) -> &KeyState {
        self.user.as_deref().expect("the lane looks for it here")
    }

    /// The encoded state, which stays for the remaining rows.
    fn state(&mut self, scratch: &mut Vec<u8>) -> Result<Arc<[u8]>> {
        if let Some(state) = &self.state {
            return Ok(Arc::clone(state));
        }
        let state: Arc<[u8]> = encode(self.user(), scratch)?.into();
        self.length = state.len() as u32;
        if self.rows > 0 {
            self.state = Some(Arc::clone(&state));
        }
        Ok(state)
    }

    /// Appends the state to those of a part.
    fn make_row(&mut self, states: &mut LargeBinaryBuilder, scratch: &mut Vec<u8>) -> Result<()> {
        if let Some(state) = &self.state {
            states.append_value(state);
        } else {
            let state = encode(self.user(), scratch)?;
            states.append_value(state);
            self.length = state.len() as u32;
        }
        self.rows -= 1;
        if self.rows == 0 {
            self.state = None;
        }
        Ok(())
    }
}

impl Keyed for Slot {
    fn key(&self) -> KeyHash {
        self.key
    }
}

impl Slot {
    /// Bytes in memory, an estimate.
    fn bytes(&self) -> usize {
        match &self.place {
            Entry::Decoded(_) | Entry::Shared(_) => {
                size_of::<KeyState>() + IN_HAND_FACTOR * self.length as usize
            }
            // Two reference counts precede it, and an allocation is rounded up.
            Entry::Encoded(state) => (state.len() + 16).next_multiple_of(16) + 8,
            Entry::Spilled | Entry::Tombstone => 0,
        }
    }

    fn is_in_hand(&self) -> bool {
        matches!(self.place, Entry::Decoded(_) | Entry::Shared(_))
    }
}

impl KeyStore {
    /// The keys of a lane without any state.
    pub(super) fn new(context: &LaneContext) -> Self {
        Self {
            slots: Slots::default(),
            policy: None,
            bounds: Bounds {
                part: context.part_of_memory(PART_SHARE, PART_BYTES),
                in_hand: context.part_of_memory(IN_HAND_SHARE, IN_HAND_BYTES),
                room: context.part_of_memory(IN_HAND_SHARE / 2, ROOM_BYTES),
            },
            timers: Timers::default(),
            in_hand: Vec::new(),
            sweep: 0,
            in_hand_bytes: 0,
            fresh: Vec::new(),
            parts: Parts::default(),
            bytes: 0,
            scratch: Vec::new(),
        }
    }

    /// Whether there are no keys.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Enables spilling when keys take too much memory.
    pub(super) fn enable_spill(&mut self, policy: SpillPolicy) {
        self.policy = Some(policy);
    }

    /// The hashes of all keys; if some keys are spilled, in the order of the disk.
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        let slots = self.slots.iter();
        let known = slots.filter(|slot| !matches!(slot.place, Entry::Tombstone));
        let mut keys: Vec<KeyHash> = known.map(|slot| slot.key).collect();
        if self.policy.is_some() {
            keys.sort_unstable();
        }
        keys
    }

    /// Removes the key's state, to [`put`](Self::put) it back.
    pub(super) fn take(&mut self, key: KeyHash) -> Result<Option<Box<KeyState>>> {
        let Some(slot) = self.slots.get_mut(key) else {
            return Ok(None);
        };
        let bytes = slot.bytes();
        self.bytes -= bytes;
        let state = match std::mem::replace(&mut slot.place, Entry::Tombstone) {
            Entry::Decoded(user) => {
                self.in_hand_bytes -= bytes;
                return Ok(Some(user));
            }
            Entry::Shared(lent) => {
                self.in_hand_bytes -= bytes;
                let mut loan = lent.lock();
                if loan.rows > 0 {
                    loan.state(&mut self.scratch)?;
                }
                if loan.length > 0 {
                    slot.length = loan.length;
                }
                return Ok(loan.user.take());
            }
            Entry::Encoded(state) => state,
            Entry::Spilled => self.cold_state(key)?.into(),
            Entry::Tombstone => return Ok(None),
        };
        KeyState::decode(state).map(Some)
    }

    /// A copy of the key's state.
    pub(super) fn get(&self, key: KeyHash) -> Result<Option<Box<KeyState>>> {
        let Some(slot) = self.slots.get(key) else {
            return Ok(None);
        };
        let state = match &slot.place {
            Entry::Decoded(user) => return Ok(Some(user.clone())),
            Entry::Shared(lent) => return Ok(lent.lock().user.clone()),
            Entry::Encoded(state) => Arc::clone(state),
            Entry::Spilled => self.cold_state(key)?.into(),
            Entry::Tombstone => return Ok(None),
        };
        KeyState::decode(state).map(Some)
    }

    /// Replaces the key's state. A key without a recent change is encoded at once, while it is in
    /// the processor's cache: mostly it will not change soon.
    pub(super) fn put(&mut self, plan: &Plan, key: KeyHash, user: Box<KeyState>) -> Result<()> {
        if !user.is_known() {
            self.insert(key, Entry::Tombstone, i64::MAX, 0);
            return Ok(());
        }
        let next = user.next(plan);
        let slot = self.slots.get(key);
        let is_busy = slot.is_some_and(|slot| slot.touched + 1 >= self.sweep);
        let place = if is_busy {
            Entry::Decoded(user)
        } else {
            Entry::Encoded(encode(&user, &mut self.scratch)?.into())
        };
        self.insert(key, place, next, 0);
        Ok(())
    }

    /// Encodes and spills keys while they take too much memory: first those without a change since
    /// the last call.
    pub(super) fn evict(&mut self) -> Result<()> {
        let at_rest = self.bytes - self.in_hand_bytes;
        let Bounds { in_hand, room, .. } = self.bounds;
        let room = room.saturating_sub(at_rest).max(in_hand);
        let share = |policy: &SpillPolicy| room.min(policy.limit_bytes / IN_HAND_SHARE);
        let limit_bytes = self.policy.as_ref().map_or(room, share);
        while self.in_hand_bytes > limit_bytes {
            self.encode_idle(limit_bytes / 4 * 3)?;
        }
        let mut is_first = true;
        while let Some(policy) = &mut self.policy
            && self.bytes > policy.limit_bytes
        {
            let enough = policy.limit_bytes / 10 * 9;
            let mut leaving = Vec::new();
            for slot in self.slots.iter_mut() {
                if !matches!(slot.place, Entry::Encoded(_)) {
                    continue;
                }
                if slot.is_warm {
                    slot.is_warm = false;
                } else if self.bytes > enough {
                    self.bytes -= slot.bytes();
                    leaving.push(slot);
                }
            }
            if leaving.is_empty() && !is_first {
                break;
            }
            is_first = false;
            let new = leaving.iter().filter(|slot| !slot.is_on_disk);
            let mut new = new.filter_map(|slot| match &slot.place {
                Entry::Encoded(state) => Some((slot.key, state.as_ref())),
                _ => None,
            });
            policy.cold.put(&mut new)?;
            for slot in leaving {
                slot.is_on_disk = true;
                slot.place = Entry::Spilled;
            }
        }
        Ok(())
    }

    /// Encodes decoded keys until the rest takes no more than `enough`, in the order of their
    /// decoding. Skips keys that have changed since the last call.
    fn encode_idle(&mut self, enough: usize) -> Result<()> {
        for key in std::mem::take(&mut self.in_hand) {
            let slot = self.slots.get_mut(key);
            // Some keys have been forgotten.
            let Some(slot) = slot else { continue };
            slot.is_listed = false;
            if !slot.is_in_hand() {
                continue;
            }
            if slot.touched == self.sweep || self.in_hand_bytes <= enough {
                slot.is_listed = true;
                self.in_hand.push(key);
                continue;
            }
            let state = match &slot.place {
                Entry::Decoded(user) => encode(user, &mut self.scratch)?.into(),
                Entry::Shared(lent) => {
                    let mut loan = lent.lock();
                    let state = loan.state(&mut self.scratch)?;
                    loan.user = None;
                    state
                }
                Entry::Encoded(_) | Entry::Spilled | Entry::Tombstone => continue,
            };
            let before = slot.bytes();
            slot.length = state.len() as u32;
            slot.place = Entry::Encoded(state);
            self.in_hand_bytes -= before;
            self.bytes = self.bytes - before + slot.bytes();
        }
        self.sweep += 1;
        Ok(())
    }

    /// Returns up to `limit` keys with a timer at or before `to`.
    pub(super) fn take_due(&mut self, to: i64, limit: usize) -> Vec<KeyHash> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, hash)) = self.timers.take_until(to)
        {
            let last = due.last().copied();
            let slots = self.slots.with_low(hash);
            let slots = slots.filter(|slot| slot.next == at);
            // A key that returned to a time has two entries.
            due.extend(slots.map(|slot| slot.key).filter(|key| last != Some(*key)));
        }
        due
    }

    /// Whether a key has a timer at or before `to`.
    pub(super) fn is_due(&self, to: i64) -> bool {
        self.timers.first().is_some_and(|(at, _)| at <= to)
    }

    /// Adds the changed keys. A part is rewritten with the new states if it is not larger, or if
    /// half of it is outdated. A full part is rewritten only for the second reason, and no more
    /// full parts than the new states fill. A key is therefore written few times more often than it
    /// changes, and a snapshot fits into memory for any number of keys.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) -> Result<()> {
        if self.fresh.is_empty() {
            return Ok(());
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let first = self.parts.next_number() as u32;
        let (mut count, mut rewritten) = (fresh.len(), 0);
        let enough = count;
        let mut merged = Vec::new();
        let mut is_small = true;
        self.parts.remove_if(|number, part| {
            let is_merged = if part.is_full {
                part.is_half_dead() && rewritten <= enough
            } else {
                is_small &= part.live <= count || part.is_half_dead();
                is_small
            };
            if is_merged {
                if part.is_full {
                    rewritten += part.live;
                }
                count += part.live;
                merged.push(number as u32);
            }
            is_merged
        });
        if !merged.is_empty() {
            merged.sort_unstable();
            let is_merged = |slot: &&Slot| merged.binary_search(&slot.part).is_ok();
            let slots = self.slots.iter().filter(is_merged);
            fresh.extend(slots.map(|slot| slot.key));
        }
        if !merged.is_empty() || self.parts.is_empty() {
            self.forget();
        }
        let cold = self.policy.as_ref().map(|policy| policy.cold.view());
        let rows = || Rows {
            cold: cold.clone(),
            ..Rows::default()
        };
        let part_bytes = self.bounds.part;
        let mut part = rows();
        for key in fresh {
            let Some(slot) = self.slots.get_mut(key) else {
                continue;
            };
            if part.bytes > part_bytes {
                let full = std::mem::replace(&mut part, rows());
                self.parts.push(full.into_part(part_bytes));
            }
            if slot.part >= first {
                // Its key has two entries.
                continue;
            }
            slot.part = self.parts.next_number() as u32;
            let (place, state) = match std::mem::replace(&mut slot.place, Entry::Tombstone) {
                Entry::Decoded(user) => {
                    let lent = Arc::new(SnapshotShare::new(user));
                    (Entry::Shared(Arc::clone(&lent)), RowState::Shared(lent))
                }
                Entry::Shared(lent) => {
                    lent.lock().rows += 1;
                    (Entry::Shared(Arc::clone(&lent)), RowState::Shared(lent))
                }
                Entry::Encoded(state) => {
                    (Entry::Encoded(Arc::clone(&state)), RowState::Encoded(state))
                }
                Entry::Spilled => (Entry::Spilled, RowState::Spilled),
                Entry::Tombstone => (Entry::Tombstone, RowState::Encoded(Arc::default())),
            };
            slot.place = place;
            part.push(slot, state);
        }
        if !part.users.is_empty() {
            self.parts.push(part.into_part(part_bytes));
        }
        self.parts.snapshot(PART, snapshot, |part| {
            let rows = std::mem::take(&mut part.rows);
            let bytes = rows.bytes + part.users * ROW_BYTES;
            Ok(NewRows::later(bytes, move || rows.make()))
        })
    }

    /// Restores a part of a snapshot, in the order of the parts. `adapt` converts keys of an
    /// earlier plan to `plan`.
    pub(super) fn restore(
        &mut self,
        part: &StatePart,
        lanes: Restore,
        plan: &Plan,
        adapt: Option<impl Fn(KeyState) -> KeyState>,
    ) -> Result<()> {
        let unreadable = || Error::data(format!("the stored state `{}` cannot be read", part.key));
        let column = |name| part.rows.column_by_name(name).ok_or_else(unreadable);
        let high = column(HIGH)?.as_primitive_opt::<UInt64Type>();
        let low = column(LOW)?.as_primitive_opt::<UInt64Type>();
        let nexts = column(NEXT)?.as_primitive_opt::<Int64Type>();
        let states = column(STATE)?.as_binary_opt::<i64>();
        let (Some(high), Some(low), Some(nexts), Some(states)) = (high, low, nexts, states) else {
            return Err(unreadable());
        };
        // The keys of other lanes are all new.
        let number = match lanes {
            Restore::InPlace => {
                let stored = StoredPart {
                    rows: Rows::default(),
                    users: states.len(),
                    live: 0,
                    is_full: states.value_data().len() > self.bounds.part,
                };
                self.parts.restore(part.key.clone(), lanes, stored) as u32
            }
            Restore::Rescaled => 0,
        };
        let keys = high.values().iter().zip(low.values());
        let states = nexts.values().iter().zip(states.iter().flatten());
        for ((&high, &low), (next, state)) in keys.zip(states) {
            let key = KeyHash { high, low };
            let place = if state.is_empty() {
                Entry::Tombstone
            } else {
                Entry::Encoded(state.into())
            };
            self.insert(key, place, *next, number);
            if let Some(adapt) = &adapt
                && let Some(user) = self.take(key)?
            {
                self.put(plan, key, Box::new(adapt(*user)))?;
            }
        }
        self.evict()
    }

    /// Removes forgotten keys that are in no part.
    fn forget(&mut self) {
        let slots = &mut self.slots;
        let Some((number, oldest)) = self.parts.iter_mut().next() else {
            slots.retain(|slot| !matches!(slot.place, Entry::Tombstone));
            return;
        };
        slots.retain(|slot| {
            let is_gone = matches!(slot.place, Entry::Tombstone) && u64::from(slot.part) == number;
            oldest.live -= usize::from(is_gone);
            !is_gone
        });
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.slots.bytes() + self.timers.bytes()
    }

    fn cold_state(&self, key: KeyHash) -> Result<Vec<u8>> {
        let policy = self.policy.as_ref();
        let policy = policy.expect("without a limit no user is on disk");
        cold_state(policy.cold.as_ref(), key)
    }

    fn insert(&mut self, key: KeyHash, place: Entry, next: i64, part: u32) {
        let (mut is_new_time, mut is_fresh) = (true, part == 0);
        let slot = match self.slots.entry(key) {
            hash_table::Entry::Occupied(entry) => {
                let slot = entry.into_mut();
                self.bytes -= slot.bytes();
                if slot.is_in_hand() {
                    self.in_hand_bytes -= slot.bytes();
                }
                is_new_time = next != slot.next;
                is_fresh = is_fresh && slot.part != 0;
                if let Some(part) = self.parts.get_mut(slot.part.into()) {
                    part.live -= 1;
                }
                slot
            }
            hash_table::Entry::Vacant(entry) => entry
                .insert(Slot {
                    key,
                    place: Entry::Tombstone,
                    next,
                    part,
                    length: 0,
                    touched: self.sweep,
                    is_warm: true,
                    is_listed: false,
                    is_on_disk: false,
                })
                .into_mut(),
        };
        slot.place = place;
        slot.next = next;
        slot.part = part;
        slot.touched = self.sweep;
        slot.is_warm = true;
        slot.is_on_disk = false;
        match &slot.place {
            Entry::Decoded(_) | Entry::Shared(_) => {
                self.in_hand_bytes += slot.bytes();
                if !slot.is_listed {
                    slot.is_listed = true;
                    self.in_hand.push(key);
                }
            }
            Entry::Encoded(state) => slot.length = state.len() as u32,
            Entry::Spilled | Entry::Tombstone => {}
        }
        self.bytes += slot.bytes();
        if is_fresh {
            self.fresh.push(key);
        }
        if let Some(part) = self.parts.get_mut(part.into()) {
            part.live += 1;
        }
        if is_new_time && next < i64::MAX {
            self.timers.push(next, key.low);
            if self.timers.len() > 2 * self.slots.len() + MIN_TIMERS {
                let slots = self.slots.iter().filter(|slot| slot.next < i64::MAX);
                self.timers = slots.map(|slot| (slot.next, slot.key.low)).collect();
            }
        }
    }
}

impl SpillPolicy {
    /// A limit of `limit_bytes`, with the rest in `cold`.
    pub(super) fn new(limit_bytes: usize, cold: Box<dyn SpillStore>) -> Self {
        Self { limit_bytes, cold }
    }
}

/// The encoded state of a decoded key.
fn encode<'a>(user: &KeyState, bytes: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    bytes.clear();
    user.encode(bytes)?;
    Ok(bytes)
}

/// The state of a spilled key.
fn cold_state(cold: &(impl SpillReader + ?Sized), key: KeyHash) -> Result<Vec<u8>> {
    let state = cold.get(key)?;
    state.ok_or_else(|| Error::external("cold state is gone from the local disk"))
}

/// The rows of a part before they are written. They share the keys with the lane, which continues,
/// and contain only the hashes of spilled keys.
#[derive(Default)]
struct Rows {
    users: Vec<Row>,
    /// The total size of the states.
    bytes: usize,
    /// The store of the spilled states.
    cold: Option<Arc<dyn SpillReader + Sync>>,
}

struct Row {
    key: KeyHash,
    next: i64,
    state: RowState,
}

enum RowState {
    Shared(Arc<SnapshotShare>),
    Encoded(Arc<[u8]>),
    Spilled,
}

impl Rows {
    fn push(&mut self, slot: &Slot, state: RowState) {
        self.bytes += match &state {
            RowState::Encoded(state) => state.len(),
            RowState::Shared(_) | RowState::Spilled => slot.length as usize,
        };
        self.users.push(Row {
            key: slot.key,
            next: slot.next,
            state,
        });
    }

    fn into_part(self, part_bytes: usize) -> StoredPart {
        let users = self.users.len();
        StoredPart {
            users,
            live: users,
            is_full: self.bytes > part_bytes,
            rows: self,
        }
    }

    fn make(self) -> Result<RecordBatch> {
        let mut states = LargeBinaryBuilder::with_capacity(self.users.len(), self.bytes);
        let mut scratch = Vec::new();
        for row in &self.users {
            match (&row.state, &self.cold) {
                (RowState::Encoded(state), _) => states.append_value(state),
                (RowState::Shared(lent), _) => lent.lock().make_row(&mut states, &mut scratch)?,
                (RowState::Spilled, Some(cold)) => {
                    states.append_value(cold_state(cold.as_ref(), row.key)?);
                }
                (RowState::Spilled, None) => {
                    return Err(Error::internal("a user is on a disk that is not"));
                }
            }
        }
        let users = || self.users.iter();
        let keys = |half: fn(&KeyHash) -> u64| -> ArrayRef {
            Arc::new(UInt64Array::from_iter_values(
                users().map(|row| half(&row.key)),
            ))
        };
        let nexts = Int64Array::from_iter_values(users().map(|row| row.next));
        let groups = UInt8Array::from_iter_values(users().map(|row| row.key.key_group()));
        let columns: [(&str, ArrayRef); 5] = [
            (HIGH, keys(|key| key.high)),
            (LOW, keys(|key| key.low)),
            (NEXT, Arc::new(nexts)),
            (STATE, Arc::new(states.finish())),
            (KEY_GROUP_COLUMN, Arc::new(groups)),
        ];
        let columns = columns.map(|(name, values)| (name, values, true));
        Ok(RecordBatch::try_from_iter_with_nullable(columns)?)
    }
}

/// The row of a key in a stored part.
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

/// Whether a stored part contains keys.
pub(super) fn is_part(key: &str) -> bool {
    key.starts_with(PART)
}
