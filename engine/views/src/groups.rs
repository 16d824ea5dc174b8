//! `Groups`: the open minutes of one view. Rows go in; a minute comes out as partial rows when it is sealed.
//! All minutes share one set of slots, so that a batch that spans many minutes is still one pass over columns.

use std::{collections::BTreeMap, mem, sync::Arc};

use arrow::{
    array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, new_null_array},
    compute,
    datatypes::DataType,
};
use datafusion::error::DataFusionError;
use hashbrown::HashTable;
use tidewatch_model::{Minute, hash64, limits};

use crate::{
    frame::FrameError,
    partial::{KeyBytes, PartialRows},
    states::States,
    view::{Aggregate, KeyCodec, OTHER, View, filtered},
};

#[derive(Debug)]
struct Slot {
    minute: i64,
    key: KeyBytes,
    hash: u64,
    /// The key is as it came, not `__other__`.
    own: bool,
}

#[derive(Debug, Default)]
struct OpenMinute {
    slots: Vec<u32>,
    /// How many of them hold a key of their own.
    own: usize,
}

/// The open groups of a view.
#[derive(Debug)]
pub struct Groups {
    view: Arc<View>,
    codec: KeyCodec,
    table: HashTable<u32>,
    slots: Vec<Slot>,
    free: Vec<u32>,
    minutes: BTreeMap<Minute, OpenMinute>,
    states: Vec<States>,
    /// Events whose key became `__other__`.
    overflowed: u64,
}

/// What absorbing a batch met on its way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Absorbed {
    /// Events for which one of the view's expressions failed, with the newest reason.
    pub failed: Option<(u64, String)>,
    /// Events whose key became `__other__` because the minute had no room for it.
    pub overflowed: u64,
}

impl Absorbed {
    fn fail(&mut self, reason: String) {
        let count = self.failed.as_ref().map_or(0, |(count, _)| *count);
        self.failed = Some((count + 1, reason));
    }
}

fn slot_hash(minute: i64, key: &[u8]) -> u64 {
    hash64(key) ^ (minute as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl Groups {
    pub fn new(view: Arc<View>) -> Result<Self, DataFusionError> {
        Ok(Self {
            codec: view.key_codec()?,
            states: view.aggregates.iter().map(|aggregate| States::new(&aggregate.kind)).collect(),
            view,
            table: HashTable::new(),
            slots: Vec::new(),
            free: Vec::new(),
            minutes: BTreeMap::new(),
            overflowed: 0,
        })
    }

    /// Adds rows; `minutes[i]` is the minute of row `i`.
    pub fn absorb(&mut self, rows: &RecordBatch, minutes: &[i64]) -> Absorbed {
        let mut absorbed = Absorbed::default();
        self.overflowed = 0;
        if self.try_absorb(rows, minutes).is_err() {
            // An expression failed for some row. One by one, so that only the rows at fault are left out.
            // Nothing was added by the failed attempt: every expression is evaluated before the first state changes.
            for row in 0..rows.num_rows() {
                let one = rows.slice(row, 1);
                if let Err(error) = self.try_absorb(&one, minutes.get(row..=row).unwrap_or_default()) {
                    absorbed.fail(error.strip_backtrace());
                }
            }
        }
        absorbed.overflowed = self.overflowed;
        absorbed
    }

    fn try_absorb(&mut self, rows: &RecordBatch, minutes: &[i64]) -> Result<(), DataFusionError> {
        let view = Arc::clone(&self.view);
        let (rows, minutes) = match filtered(view.filter.as_ref(), rows)? {
            None => (rows.clone(), minutes.to_vec()),
            Some(passed) => {
                let minutes = compute::filter(&Int64Array::from(minutes.to_vec()), &passed)?;
                let minutes = minutes.as_primitive::<arrow::datatypes::Int64Type>().values().to_vec();
                (compute::filter_record_batch(rows, &passed)?, minutes)
            }
        };
        let count = rows.num_rows();
        if count == 0 {
            return Ok(());
        }
        let keys = view.keys.iter().map(|key| key.evaluate(&rows)?.into_array(count));
        let keys = keys.collect::<Result<Vec<ArrayRef>, _>>()?;
        let inputs = view.aggregates.iter().map(|aggregate| Input::of(aggregate, &rows));
        let inputs = inputs.collect::<Result<Vec<Input>, _>>()?;
        let slots = self.find_slots(&keys, &minutes)?;
        for (states, input) in self.states.iter_mut().zip(&inputs) {
            states.grow(self.slots.len());
            states.update(&slots, &input.args, input.filter.as_ref())?;
        }
        Ok(())
    }

    /// The slot of each row, made where it is new.
    fn find_slots(&mut self, keys: &[ArrayRef], minutes: &[i64]) -> Result<Vec<u32>, DataFusionError> {
        let encoded = self.codec.encode(keys)?;
        let mut found = Vec::with_capacity(minutes.len());
        for (row, minute) in minutes.iter().enumerate() {
            let key: &[u8] = match &encoded {
                Some(rows) => rows.row(row).data(),
                None => &[],
            };
            let hash = slot_hash(*minute, key);
            if let Some(slot) = self.lookup(hash, *minute, key) {
                found.push(slot);
                continue;
            }
            let full =
                self.minutes.get(&Minute::from_index(*minute)).is_some_and(|open| open.own >= self.view.limit.keys_max);
            found.push(if full { self.other_slot(keys, row, *minute)? } else { self.insert(hash, *minute, key, true) });
        }
        Ok(found)
    }

    fn lookup(&self, hash: u64, minute: i64, key: &[u8]) -> Option<u32> {
        let same = |slot: &u32| {
            self.slots.get(*slot as usize).is_some_and(|s| s.hash == hash && s.minute == minute && *s.key == *key)
        };
        self.table.find(hash, same).copied()
    }

    fn insert(&mut self, hash: u64, minute: i64, key: &[u8], own: bool) -> u32 {
        let fresh = Slot { minute, key: key.into(), hash, own };
        let slot = match self.free.pop() {
            Some(slot) => {
                // `free` holds only slots that were handed out before.
                self.slots[slot as usize] = fresh;
                slot
            }
            None => {
                self.slots.push(fresh);
                (self.slots.len() - 1) as u32
            }
        };
        let slots = &self.slots;
        self.table.insert_unique(hash, slot, |slot| slots.get(*slot as usize).map_or(0, |s| s.hash));
        let open = self.minutes.entry(Minute::from_index(minute)).or_default();
        open.slots.push(slot);
        open.own += usize::from(own);
        slot
    }

    /// The slot for a key beyond the limit: the overflow key becomes `__other__`; where the view names none, or where
    /// such keys have reached the limit, too, every key does.
    fn other_slot(&mut self, keys: &[ArrayRef], row: usize, minute: i64) -> Result<u32, DataFusionError> {
        self.overflowed += 1;
        if let Some(column) = self.view.limit.overflow {
            let key = self.other_key(keys, row, Some(column))?;
            let hash = slot_hash(minute, &key);
            if let Some(slot) = self.lookup(hash, minute, &key) {
                return Ok(slot);
            }
            let others = self.minutes.get(&Minute::from_index(minute)).map_or(0, |open| open.slots.len() - open.own);
            if others < self.view.limit.keys_max {
                return Ok(self.insert(hash, minute, &key, false));
            }
        }
        let key = self.other_key(keys, row, None)?;
        let hash = slot_hash(minute, &key);
        Ok(self.lookup(hash, minute, &key).unwrap_or_else(|| self.insert(hash, minute, &key, false)))
    }

    /// A row's key with one column, or every column, made `__other__`.
    fn other_key(&self, keys: &[ArrayRef], row: usize, one: Option<usize>) -> Result<KeyBytes, DataFusionError> {
        let replaced: Vec<ArrayRef> = keys
            .iter()
            .enumerate()
            .map(
                |(column, key)| {
                    if one.is_some_and(|one| one != column) { key.slice(row, 1) } else { other(key.data_type()) }
                },
            )
            .collect();
        let encoded = self.codec.encode(&replaced)?;
        Ok(encoded.map_or_else(KeyBytes::default, |rows| rows.row(0).data().into()))
    }

    /// The oldest open minute.
    pub fn oldest(&self) -> Option<Minute> {
        self.minutes.keys().next().copied()
    }

    pub fn minutes(&self) -> impl Iterator<Item = Minute> {
        self.minutes.keys().copied()
    }

    /// Groups that are open now, over all minutes.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a minute out; its slots are free again. A minute without rows gives empty partial rows.
    pub fn seal(&mut self, minute: Minute) -> PartialRows {
        let slots = self.minutes.remove(&minute).unwrap_or_default().slots;
        let mut keys = Vec::with_capacity(slots.len());
        for slot in &slots {
            // Slots of an open minute are in use, so they exist.
            let entry = &mut self.slots[*slot as usize];
            keys.push(mem::take(&mut entry.key));
            if let Ok(found) = self.table.find_entry(entry.hash, |other| other == slot) {
                found.remove();
            }
        }
        let states = self.states.iter_mut().map(|states| states.take(&slots)).collect();
        self.free.extend(&slots);
        if self.minutes.is_empty() {
            self.release();
        }
        PartialRows::new(minute, keys, states)
    }

    /// Gives memory back when nothing is open: a burst of keys must not be held for ever.
    fn release(&mut self) {
        let roomy = self.slots.len() > 4_096;
        if roomy {
            self.slots = Vec::new();
            self.free = Vec::new();
            self.table = HashTable::new();
            self.states = self.view.aggregates.iter().map(|aggregate| States::new(&aggregate.kind)).collect();
        }
    }

    /// A minute as it stands, without taking it out.
    pub fn peek(&self, minute: Minute) -> Option<PartialRows> {
        let slots = &self.minutes.get(&minute)?.slots;
        let keys = slots.iter().map(|slot| self.slots[*slot as usize].key.clone()).collect();
        let states = self.states.iter().map(|states| states.gather(slots)).collect();
        Some(PartialRows::new(minute, keys, states))
    }

    /// All open minutes as frames, none of them much larger than it must be.
    pub fn to_frames(&self) -> Result<Vec<RecordBatch>, FrameError> {
        let mut frames = Vec::new();
        let (mut rows, mut own, mut bytes) = (Vec::new(), Vec::new(), 0);
        for minute in self.minutes() {
            let Some(partial) = self.peek(minute) else { continue };
            let slot = |key: &KeyBytes| self.lookup(slot_hash(minute.index(), key), minute.index(), key);
            let is_own = |slot: u32| self.slots.get(slot as usize).is_some_and(|slot| slot.own);
            own.extend(partial.keys().iter().map(|key| slot(key).is_some_and(is_own)));
            bytes += partial.bytes();
            rows.push(partial);
            if bytes >= limits::OPEN_FRAME_BYTES {
                frames.push(self.view.open_frame(&self.codec, &rows, mem::take(&mut own))?);
                rows.clear();
                bytes = 0;
            }
        }
        if !rows.is_empty() {
            frames.push(self.view.open_frame(&self.codec, &rows, own)?);
        }
        Ok(frames)
    }

    /// Puts the rows of one of `to_frames` in place.
    pub fn put_frame(&mut self, frame: &RecordBatch) -> Result<(), FrameError> {
        for (partial, own) in self.view.read_open_frame(&self.codec, frame)? {
            let minute = partial.minute().index();
            let (keys, mut states) = partial.into_parts();
            let mut slots = Vec::with_capacity(keys.len());
            for (key, own) in keys.iter().zip(own) {
                let hash = slot_hash(minute, key);
                if self.lookup(hash, minute, key).is_some() {
                    let (view, minute) = (self.view.meta.name.clone(), Minute::from_index(minute));
                    return Err(FrameError::Repeated { view, minute });
                }
                slots.push(self.insert(hash, minute, key, own));
            }
            for (ours, theirs) in self.states.iter_mut().zip(&mut states) {
                ours.grow(self.slots.len());
                ours.put(&slots, theirs);
            }
        }
        Ok(())
    }

    /// Adds partial rows of the same view to the open minute.
    pub fn absorb_partial(&mut self, partial: &PartialRows) {
        let minute = partial.minute().index();
        let slots: Vec<u32> = partial
            .keys()
            .iter()
            .map(|key| {
                let hash = slot_hash(minute, key);
                self.lookup(hash, minute, key).unwrap_or_else(|| self.insert(hash, minute, key, true))
            })
            .collect();
        for (ours, theirs) in self.states.iter_mut().zip(partial.states()) {
            ours.grow(self.slots.len());
            ours.merge(&slots, theirs);
        }
    }
}

fn other(kind: &DataType) -> ArrayRef {
    match kind {
        DataType::Utf8 => Arc::new(StringArray::from(vec![OTHER])),
        other => new_null_array(other, 1),
    }
}

/// One aggregate's arguments and filter, evaluated.
struct Input {
    args: Vec<ArrayRef>,
    filter: Option<BooleanArray>,
}

impl Input {
    fn of(aggregate: &Aggregate, rows: &RecordBatch) -> Result<Self, DataFusionError> {
        let count = rows.num_rows();
        let filter = match &aggregate.filter {
            Some(filter) => Some(filter.evaluate(rows)?.into_array(count)?.as_boolean().clone()),
            None => None,
        };
        // Arguments are evaluated only where the filter lets a row through, as a batch engine does: the rest may fail.
        let args = aggregate.args.iter().map(|arg| match &filter {
            Some(filter) => arg.evaluate_selection(rows, filter)?.into_array(count),
            None => arg.evaluate(rows)?.into_array(count),
        });
        Ok(Self { args: args.collect::<Result<_, _>>()?, filter })
    }
}
