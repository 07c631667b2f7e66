//! The users of a lane, in hand and at rest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::{
    array::{
        Array, ArrayRef, AsArray, Int64Array, LargeBinaryBuilder, RecordBatch, UInt8Array,
        UInt64Array,
    },
    datatypes::{Int64Type, UInt64Type},
};
use hashbrown::{HashTable, hash_table::Entry};
use tagflow_engine::{
    Error, Result,
    state::{
        ColdRead, ColdStore, KEY_GROUP_COLUMN, KeyHash, Lanes, NewPart, Snapshot, StatePart,
        part_number,
    },
};

use super::{plan::Plan, timers::Timers, user::User};

/// How the names of stored parts begin.
const PART: &str = "users-";
const HIGH: &str = "high";
const LOW: &str = "low";
const NEXT: &str = "next_us";
const STATE: &str = "state";

/// With fewer timers than this it does not matter that many are out of date.
const MIN_TIMERS: usize = 1024;

/// A stored part has about so many bytes at most; few in tests, where users are few.
const PART_BYTES: usize = if cfg!(test) { 1 << 10 } else { 16 << 20 };

/// What a row of a part takes besides the state.
const ROW_BYTES: usize = 33;

/// Users in hand take so many bytes at most, or what those at rest leave of
/// [`ROOM_BYTES`]; in tests, where users are few, few bytes.
const IN_HAND_BYTES: usize = if cfg!(test) { 1 << 10 } else { 48 << 20 };

/// Where all users together take no more, all may be in hand.
const ROOM_BYTES: usize = 4 * IN_HAND_BYTES;

/// Where there is a limit, users in hand take this part of it at most.
const IN_HAND_SHARE: usize = 8;

/// How much more room what a user is made of takes in hand, besides the user itself.
const IN_HAND_FACTOR: usize = 4;

/// The users of a lane, by the hash of their key. The busy ones are in hand, the
/// others rest as bytes; with a [`Warmth`], those to whom nothing has happened lately
/// are on disk.
#[derive(Default)]
pub(super) struct Users {
    slots: HashTable<Slot>,
    warmth: Option<Warmth>,
    /// When something happens to a user by itself. Entries that a user's `next` does
    /// not confirm are out of date.
    timers: Timers,
    in_hand: Vec<KeyHash>,
    /// How often users have been laid down.
    sweep: u32,
    in_hand_bytes: usize,
    /// Keys whose state is not stored yet.
    fresh: Vec<KeyHash>,
    parts: Vec<Part>,
    next_part: u32,
    bytes: usize,
    /// Saves allocations.
    scratch: Vec<u8>,
}

/// How much memory there is, and where the rest goes.
pub(super) struct Warmth {
    limit_bytes: usize,
    cold: Box<dyn ColdStore>,
}

/// A user in the map.
struct Slot {
    key: KeyHash,
    place: Place,
    next: i64,
    /// The stored part that has it; 0 for none, with its key in `fresh`.
    part: u32,
    /// How long the state was when it was encoded last, as far as the lane has heard.
    length: u32,
    /// The sweep before which something happened last.
    touched: u32,
    /// Whether something has happened since users went to disk.
    is_warm: bool,
    /// Whether its key is in `in_hand`.
    is_listed: bool,
    /// Whether the cold store has this state.
    is_on_disk: bool,
}

/// Where a user is.
enum Place {
    InHand(Box<User>),
    /// In hand, and in a snapshot that is being written.
    Lent(Arc<Lent>),
    /// Snapshots that are being written have it as well.
    AtRest(Arc<[u8]>),
    OnDisk,
    /// Forgotten, or taken by who changes it.
    Nowhere,
}

/// A user in hand that a snapshot is to encode. If the lane needs it back before that,
/// it leaves the encoded state in its place.
struct Lent(Mutex<Loan>);

struct Loan {
    /// None once the lane has it back.
    user: Option<Box<User>>,
    /// The encoded user, if the lane came first.
    state: Option<Arc<[u8]>>,
    /// How many rows of parts are still to be made of it.
    rows: usize,
    /// How long the state is; 0 until it is encoded.
    length: u32,
}

/// A stored part.
struct Part {
    number: u32,
    /// How many users it holds, and of how many the latest state.
    users: usize,
    live: usize,
    /// Whether it is as large as parts get.
    is_full: bool,
}

impl Part {
    fn is_half_dead(&self) -> bool {
        self.live * 2 <= self.users
    }
}

impl Lent {
    /// For one row.
    fn new(user: Box<User>) -> Self {
        Self(Mutex::new(Loan {
            user: Some(user),
            state: None,
            rows: 1,
            length: 0,
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Loan> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Loan {
    fn user(&self) -> &User {
        self.user.as_deref().expect("the lane looks for it here")
    }

    /// The state, which stays for the rows that are still to be made.
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

    /// Adds the state to those of a part.
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

impl Slot {
    /// Bytes in memory, an estimate.
    fn bytes(&self) -> usize {
        match &self.place {
            Place::InHand(_) | Place::Lent(_) => {
                size_of::<User>() + IN_HAND_FACTOR * self.length as usize
            }
            // Two counts go before it, and an allocation is rounded up.
            Place::AtRest(state) => (state.len() + 16).next_multiple_of(16) + 8,
            Place::OnDisk | Place::Nowhere => 0,
        }
    }

    fn is_in_hand(&self) -> bool {
        matches!(self.place, Place::InHand(_) | Place::Lent(_))
    }
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

    /// The keys of all users; where some are on disk, in the order in which they lie there.
    pub(super) fn keys(&self) -> Vec<KeyHash> {
        let slots = self.slots.iter();
        let known = slots.filter(|slot| !matches!(slot.place, Place::Nowhere));
        let mut keys: Vec<KeyHash> = known.map(|slot| slot.key).collect();
        if self.warmth.is_some() {
            keys.sort_unstable();
        }
        keys
    }

    /// Takes the user with this key out, to [`put`](Self::put) it back.
    pub(super) fn take(&mut self, key: KeyHash) -> Result<Option<Box<User>>> {
        let Some(slot) = self.slots.find_mut(key.low, |slot| slot.key == key) else {
            return Ok(None);
        };
        let bytes = slot.bytes();
        self.bytes -= bytes;
        let state = match std::mem::replace(&mut slot.place, Place::Nowhere) {
            Place::InHand(user) => {
                self.in_hand_bytes -= bytes;
                return Ok(Some(user));
            }
            Place::Lent(lent) => {
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
            Place::AtRest(state) => state,
            Place::OnDisk => self.cold_state(key)?.into(),
            Place::Nowhere => return Ok(None),
        };
        User::decode(state).map(Some)
    }

    /// A copy of the user with this key.
    pub(super) fn get(&self, key: KeyHash) -> Result<Option<Box<User>>> {
        let Some(slot) = self.slots.find(key.low, |slot| slot.key == key) else {
            return Ok(None);
        };
        let state = match &slot.place {
            Place::InHand(user) => return Ok(Some(user.clone())),
            Place::Lent(lent) => return Ok(lent.lock().user.clone()),
            Place::AtRest(state) => Arc::clone(state),
            Place::OnDisk => self.cold_state(key)?.into(),
            Place::Nowhere => return Ok(None),
        };
        User::decode(state).map(Some)
    }

    /// Puts a user in place of what was known of the key. One to whom nothing had
    /// happened for a while is laid down at once, while the processor still has it at
    /// hand: mostly nothing will for a while again.
    pub(super) fn put(&mut self, plan: &Plan, key: KeyHash, user: Box<User>) -> Result<()> {
        if !user.is_known() {
            self.insert(key, Place::Nowhere, i64::MAX, 0);
            return Ok(());
        }
        let next = user.next(plan);
        let slot = self.slots.find(key.low, |slot| slot.key == key);
        let is_busy = slot.is_some_and(|slot| slot.touched + 1 >= self.sweep);
        let place = if is_busy {
            Place::InHand(user)
        } else {
            Place::AtRest(encode(&user, &mut self.scratch)?.into())
        };
        self.insert(key, place, next, 0);
        Ok(())
    }

    /// Lays users down, and takes them to disk, while they take too much memory: first
    /// those to whom nothing has happened since this was done last.
    pub(super) fn cool(&mut self) -> Result<()> {
        let at_rest = self.bytes - self.in_hand_bytes;
        let room = ROOM_BYTES.saturating_sub(at_rest).max(IN_HAND_BYTES);
        let share = |warmth: &Warmth| room.min(warmth.limit_bytes / IN_HAND_SHARE);
        let limit_bytes = self.warmth.as_ref().map_or(room, share);
        while self.in_hand_bytes > limit_bytes {
            self.lay_down(limit_bytes / 4 * 3)?;
        }
        let mut is_first = true;
        while let Some(warmth) = &mut self.warmth
            && self.bytes > warmth.limit_bytes
        {
            let enough = warmth.limit_bytes / 10 * 9;
            let mut leaving = Vec::new();
            for slot in &mut self.slots {
                if !matches!(slot.place, Place::AtRest(_)) {
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
                Place::AtRest(state) => Some((slot.key, state.as_ref())),
                _ => None,
            });
            warmth.cold.put(&mut new)?;
            for slot in leaving {
                slot.is_on_disk = true;
                slot.place = Place::OnDisk;
            }
        }
        Ok(())
    }

    /// Encodes users in hand, until those left take no more than `enough`: in the order
    /// in which they came to be in hand, but for those to whom something has happened
    /// since this was done last.
    fn lay_down(&mut self, enough: usize) -> Result<()> {
        for key in std::mem::take(&mut self.in_hand) {
            let slot = self.slots.find_mut(key.low, |slot| slot.key == key);
            // Some have been forgotten.
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
                Place::InHand(user) => encode(user, &mut self.scratch)?.into(),
                Place::Lent(lent) => {
                    let mut loan = lent.lock();
                    let state = loan.state(&mut self.scratch)?;
                    loan.user = None;
                    state
                }
                Place::AtRest(_) | Place::OnDisk | Place::Nowhere => continue,
            };
            let before = slot.bytes();
            slot.length = state.len() as u32;
            slot.place = Place::AtRest(state);
            self.in_hand_bytes -= before;
            self.bytes = self.bytes - before + slot.bytes();
        }
        self.sweep += 1;
        Ok(())
    }

    /// Takes the keys of up to `limit` users to whom something happens at `to` or
    /// before.
    pub(super) fn take_due(&mut self, to: i64, limit: usize) -> Vec<KeyHash> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some((at, hash)) = self.timers.take_until(to)
        {
            let last = due.last().copied();
            let slots = self.slots.iter_hash(hash);
            let slots = slots.filter(|slot| slot.key.low == hash && slot.next == at);
            // A time to which a user came back stands twice.
            due.extend(slots.map(|slot| slot.key).filter(|key| last != Some(*key)));
        }
        due
    }

    /// Whether something happens to a user at `to` or before.
    pub(super) fn is_due(&self, to: i64) -> bool {
        self.timers.first().is_some_and(|(at, _)| at <= to)
    }

    /// Adds the users that changed. A part is written again, with what is new, when
    /// it is not larger or half of it is out of date; one that is full only for the
    /// latter, and no more such ones than there is new. So a user is written few times
    /// more often than it changes, and a snapshot fits memory however many users there
    /// are.
    pub(super) fn snapshot(&mut self, snapshot: &mut Snapshot) {
        if self.fresh.is_empty() {
            return;
        }
        let mut fresh = std::mem::take(&mut self.fresh);
        let first = self.next_part + 1;
        let (mut count, mut rewritten) = (fresh.len(), 0);
        let enough = count;
        let mut merged = Vec::new();
        let (mut is_small, mut parts) = (true, std::mem::take(&mut self.parts));
        // From the newest on.
        parts.reverse();
        parts.retain(|part| {
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
                merged.push(part.number);
            }
            !is_merged
        });
        parts.reverse();
        self.parts = parts;
        snapshot
            .removed
            .extend(merged.iter().map(|part| name(*part)));
        if !merged.is_empty() {
            merged.sort_unstable();
            let is_merged = |slot: &&Slot| merged.binary_search(&slot.part).is_ok();
            let slots = self.slots.iter().filter(is_merged);
            fresh.extend(slots.map(|slot| slot.key));
        }
        if !merged.is_empty() || self.parts.is_empty() {
            self.forget();
        }
        let cold = self.warmth.as_ref().map(|warmth| warmth.cold.view());
        let rows = || Rows {
            cold: cold.clone(),
            ..Rows::default()
        };
        let mut part = rows();
        for key in fresh {
            let Some(slot) = self.slots.find_mut(key.low, |slot| slot.key == key) else {
                continue;
            };
            if part.bytes > PART_BYTES {
                self.next_part += 1;
                let full = std::mem::replace(&mut part, rows());
                self.parts.push(full.put(self.next_part, snapshot));
            }
            if slot.part >= first {
                // Its key stands twice.
                continue;
            }
            slot.part = self.next_part + 1;
            let (place, state) = match std::mem::replace(&mut slot.place, Place::Nowhere) {
                Place::InHand(user) => {
                    let lent = Arc::new(Lent::new(user));
                    (Place::Lent(Arc::clone(&lent)), RowState::Lent(lent))
                }
                Place::Lent(lent) => {
                    lent.lock().rows += 1;
                    (Place::Lent(Arc::clone(&lent)), RowState::Lent(lent))
                }
                Place::AtRest(state) => {
                    (Place::AtRest(Arc::clone(&state)), RowState::AtRest(state))
                }
                Place::OnDisk => (Place::OnDisk, RowState::OnDisk),
                Place::Nowhere => (Place::Nowhere, RowState::AtRest(Arc::default())),
            };
            slot.place = place;
            part.push(slot, state);
        }
        if part.users.is_empty() {
            return;
        }
        self.next_part += 1;
        self.parts.push(part.put(self.next_part, snapshot));
    }

    /// Takes back a part that a snapshot held: in the order in which they were put.
    /// `adapt` makes users of an earlier plan users of `plan`.
    pub(super) fn restore(
        &mut self,
        part: &StatePart,
        lanes: Lanes,
        plan: &Plan,
        adapt: Option<impl Fn(User) -> User>,
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
        // Of other lanes all is new.
        let number = match lanes {
            Lanes::Same => part_number(&part.key) as u32,
            Lanes::Changed => 0,
        };
        if lanes == Lanes::Same {
            self.next_part = self.next_part.max(number);
            self.parts.push(Part {
                number,
                users: states.len(),
                live: 0,
                is_full: states.value_data().len() > PART_BYTES,
            });
        }
        let keys = high.values().iter().zip(low.values());
        let states = nexts.values().iter().zip(states.iter().flatten());
        for ((&high, &low), (next, state)) in keys.zip(states) {
            let key = KeyHash { high, low };
            let place = if state.is_empty() {
                Place::Nowhere
            } else {
                Place::AtRest(state.into())
            };
            self.insert(key, place, *next, number);
            if let Some(adapt) = &adapt
                && let Some(user) = self.take(key)?
            {
                self.put(plan, key, Box::new(adapt(*user)))?;
            }
        }
        self.cool()
    }

    /// Forgets users who are forgotten, where no part knows more of them.
    fn forget(&mut self) {
        let slots = &mut self.slots;
        let Some(oldest) = self.parts.first_mut() else {
            slots.retain(|slot| !matches!(slot.place, Place::Nowhere));
            return;
        };
        slots.retain(|slot| {
            let is_gone = matches!(slot.place, Place::Nowhere) && slot.part == oldest.number;
            oldest.live -= usize::from(is_gone);
            !is_gone
        });
    }

    /// Bytes in memory, an estimate.
    pub(super) fn bytes(&self) -> usize {
        self.bytes + self.slots.allocation_size() + self.timers.bytes()
    }

    fn cold_state(&self, key: KeyHash) -> Result<Vec<u8>> {
        let warmth = self.warmth.as_ref();
        let warmth = warmth.expect("without a limit no user is on disk");
        cold_state(warmth.cold.as_ref(), key)
    }

    fn insert(&mut self, key: KeyHash, place: Place, next: i64, part: u32) {
        let is_key = |slot: &Slot| slot.key == key;
        let (mut is_new_time, mut is_fresh) = (true, part == 0);
        let slot = match self.slots.entry(key.low, is_key, |slot| slot.key.low) {
            Entry::Occupied(entry) => {
                let slot = entry.into_mut();
                self.bytes -= slot.bytes();
                if slot.is_in_hand() {
                    self.in_hand_bytes -= slot.bytes();
                }
                is_new_time = next != slot.next;
                is_fresh = is_fresh && slot.part != 0;
                if let Some(part) = part_of(&mut self.parts, slot.part) {
                    part.live -= 1;
                }
                slot
            }
            Entry::Vacant(entry) => entry
                .insert(Slot {
                    key,
                    place: Place::Nowhere,
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
            Place::InHand(_) | Place::Lent(_) => {
                self.in_hand_bytes += slot.bytes();
                if !slot.is_listed {
                    slot.is_listed = true;
                    self.in_hand.push(key);
                }
            }
            Place::AtRest(state) => slot.length = state.len() as u32,
            Place::OnDisk | Place::Nowhere => {}
        }
        self.bytes += slot.bytes();
        if is_fresh {
            self.fresh.push(key);
        }
        if let Some(part) = part_of(&mut self.parts, part) {
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

impl Warmth {
    /// Of so many bytes, with the rest in `cold`.
    pub(super) fn new(limit_bytes: usize, cold: Box<dyn ColdStore>) -> Self {
        Self { limit_bytes, cold }
    }
}

/// The part with this number; they are in the order of these.
fn part_of(parts: &mut [Part], number: u32) -> Option<&mut Part> {
    let place = parts.binary_search_by_key(&number, |part| part.number);
    parts.get_mut(place.ok()?)
}

/// The state of a user in hand.
fn encode<'a>(user: &User, bytes: &'a mut Vec<u8>) -> Result<&'a [u8]> {
    bytes.clear();
    user.encode(bytes)?;
    Ok(bytes)
}

/// The state of a user on disk.
fn cold_state(cold: &(impl ColdRead + ?Sized), key: KeyHash) -> Result<Vec<u8>> {
    let state = cold.get(key)?;
    state.ok_or_else(|| Error::external("cold state is gone from the local disk"))
}

/// What becomes the rows of a part when it is written. Until then it has the users in
/// common with the lane, which goes on, and of those on disk only says who they are.
#[derive(Default)]
struct Rows {
    users: Vec<Row>,
    /// What the states take together.
    bytes: usize,
    /// Where the states on disk are.
    cold: Option<Arc<dyn ColdRead + Sync>>,
}

struct Row {
    key: KeyHash,
    next: i64,
    state: RowState,
}

enum RowState {
    Lent(Arc<Lent>),
    AtRest(Arc<[u8]>),
    OnDisk,
}

impl Rows {
    fn push(&mut self, slot: &Slot, state: RowState) {
        self.bytes += match &state {
            RowState::AtRest(state) => state.len(),
            RowState::Lent(_) | RowState::OnDisk => slot.length as usize,
        };
        self.users.push(Row {
            key: slot.key,
            next: slot.next,
            state,
        });
    }

    fn put(self, number: u32, snapshot: &mut Snapshot) -> Part {
        let users = self.users.len();
        let is_full = self.bytes > PART_BYTES;
        let bytes = self.bytes + users * ROW_BYTES;
        let part = NewPart::later(name(number), bytes, move || self.make());
        snapshot.put.push(part);
        Part {
            number,
            users,
            live: users,
            is_full,
        }
    }

    fn make(self) -> Result<RecordBatch> {
        let mut states = LargeBinaryBuilder::with_capacity(self.users.len(), self.bytes);
        let mut scratch = Vec::new();
        for row in &self.users {
            match (&row.state, &self.cold) {
                (RowState::AtRest(state), _) => states.append_value(state),
                (RowState::Lent(lent), _) => lent.lock().make_row(&mut states, &mut scratch)?,
                (RowState::OnDisk, Some(cold)) => {
                    states.append_value(cold_state(cold.as_ref(), row.key)?);
                }
                (RowState::OnDisk, None) => {
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
