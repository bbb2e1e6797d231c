//! The accumulators of aggregates: events in, counts out. Pure, no files.
//!
//! Memory is bounded whatever is stored. [`CountsGather`] names [`TYPES_MAX`] types and refuses
//! when the answer would be longer than [`ANSWER_BYTES_MAX`]. [`TopGather`] tracks at most
//! [`VALUES_MAX`] values in [`VALUES_BYTES_MAX`]; over that it takes the median count off all of
//! them and forgets those that are left with nothing (Misra and Gries, "Finding repeated elements",
//! 1982; in one go as Anderson et al. do, "A high-performance algorithm for identifying frequent
//! items", 2017), so that a count is too low by at most twice the events divided by the values
//! tracked.
//!
//! Deliberately absent: ranges and channels (see `walk`), JSON. Any thread. Tested against brute
//! force in `tests::aggregates`.

use crate::query::{Bucket, Counts, CountsQuery, TYPES_MAX, Top, TopQuery};
use crate::read::ReadError;
use crate::walk::{Found, Gather};
use hashbrown::HashMap;
use proto::event::EventView;
use proto::field::Field;
use std::borrow::Cow;
use std::cmp::Reverse;
use std::sync::Arc;

/// Longest answer of a count, about, as JSON.
pub const ANSWER_BYTES_MAX: usize = 8 << 20;
/// Distinct values that a top tracks.
pub const VALUES_MAX: usize = 100_000;
/// Bytes of the values that a top tracks, with what each takes in the table.
pub const VALUES_BYTES_MAX: usize = 8 << 20;

/// What a bucket and a type in a bucket take in JSON, beside the name.
pub(crate) const CELL_BYTES: usize = 32;
const BUCKET_BYTES: usize = 64;
const VALUE_BYTES: usize = 48;
/// Stands for all types that are not named.
const OTHER: u32 = u32::MAX;

/// Counts by bucket and type.
#[derive(Debug)]
pub(crate) struct CountsGather {
    bucket_us: i64,
    kind: Option<Box<str>>,
    types: HashMap<Arc<str>, u32>,
    names: Vec<Arc<str>>,
    buckets: HashMap<i64, u64>,
    cells: HashMap<(i64, u32), u64>,
    /// What the last events had in common, not yet in the tables.
    last: Cell,
    more_types: bool,
    bytes: usize,
}

/// A run of events in one bucket.
#[derive(Debug, Clone, Copy, Default)]
struct Cell {
    bucket: i64,
    kind: u32,
    count: u64,
}

impl CountsGather {
    pub(crate) fn new(query: &CountsQuery) -> Self {
        Self {
            bucket_us: i64::from(query.bucket_s.max(1)) * 1_000_000,
            kind: query.kind.clone(),
            types: HashMap::new(),
            names: Vec::new(),
            buckets: HashMap::new(),
            cells: HashMap::new(),
            last: Cell::default(),
            more_types: false,
            bytes: 0,
        }
    }

    pub(crate) fn count(&mut self, event: EventView<'_>) -> Result<(), ReadError> {
        let kind = event.kind();
        if self.kind.as_deref().is_some_and(|wanted| wanted != kind) {
            return Ok(());
        }
        let time_us = event.time_us();
        let start = self.last.bucket;
        let bucket = match time_us.checked_sub(start) {
            Some(since) if (0..self.bucket_us).contains(&since) => start,
            _ => time_us.saturating_sub(time_us.rem_euclid(self.bucket_us)),
        };
        let kind = self.type_of(kind);
        if (bucket, kind) == (self.last.bucket, self.last.kind) {
            self.last.count += 1;
            return Ok(());
        }
        self.settle()?;
        self.last = Cell { bucket, kind, count: 1 };
        Ok(())
    }

    /// Events of one bucket and type that another store has counted; without a name they are of
    /// the types that are not named.
    pub(crate) fn add(
        &mut self,
        bucket: i64,
        kind: Option<&str>,
        count: u64,
    ) -> Result<(), ReadError> {
        let kind = kind.map_or(OTHER, |kind| self.type_of(kind));
        self.more_types |= kind == OTHER;
        self.last = Cell { bucket, kind, count };
        self.settle()
    }

    /// There were more types than are named.
    pub(crate) fn has_more_types(&self) -> bool {
        self.more_types
    }

    fn type_of(&mut self, kind: &str) -> u32 {
        if let Some(last) = self.names.get(self.last.kind as usize)
            && **last == *kind
        {
            return self.last.kind;
        }
        if let Some(known) = self.types.get(kind) {
            return *known;
        }
        if self.names.len() >= TYPES_MAX {
            return OTHER;
        }
        let name: Arc<str> = kind.into();
        let number = self.names.len() as u32;
        self.names.push(name.clone());
        self.types.insert(name, number);
        number
    }

    /// Puts the last run into the tables.
    fn settle(&mut self) -> Result<(), ReadError> {
        let Cell { bucket, kind, count } = std::mem::take(&mut self.last);
        if count == 0 {
            return Ok(());
        }
        let total = self.buckets.entry(bucket).or_insert(0);
        self.bytes += if *total == 0 { BUCKET_BYTES } else { 0 };
        *total += count;
        let cell = self.cells.entry((bucket, kind)).or_insert(0);
        if *cell == 0 {
            let name = self.names.get(kind as usize).map_or(0, |name| json_bytes(name));
            self.bytes += CELL_BYTES + name;
        }
        *cell += count;
        if self.bytes > ANSWER_BYTES_MAX {
            let remedy = "use a larger bucket, a shorter range, or count one type";
            return Err(ReadError::TooLarge { remedy });
        }
        Ok(())
    }

    /// Heap held, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        // A cell of the answer takes about as much in the tables.
        self.bytes
    }

    pub(crate) fn finish(mut self) -> Result<Counts, ReadError> {
        self.settle()?;
        let mut counts = Counts { total: self.buckets.values().sum(), buckets: Vec::new() };
        let mut starts: Vec<(i64, u64)> = self.buckets.drain().collect();
        starts.sort_unstable();
        let mut cells: Vec<((i64, u32), u64)> = self.cells.drain().collect();
        cells.sort_unstable_by(|((bucket, kind), count), ((other_bucket, other), other_count)| {
            let name = |kind: u32| self.names.get(kind as usize);
            let by_count = || other_count.cmp(count);
            bucket
                .cmp(other_bucket)
                .then_with(by_count)
                .then_with(|| name(*kind).cmp(&name(*other)))
        });
        let mut cells = cells.into_iter().peekable();
        for (start_us, total) in starts {
            let mut bucket = Bucket { start_us, total, types: Vec::new(), other_types: 0 };
            while let Some(((_, kind), count)) = cells.next_if(|((of, _), _)| *of == start_us) {
                match self.names.get(kind as usize) {
                    Some(name) => bucket.types.push((name.clone(), count)),
                    None => bucket.other_types = count,
                }
            }
            counts.buckets.push(bucket);
        }
        Ok(counts)
    }
}

impl Gather for CountsGather {
    fn is_full(&self) -> bool {
        false
    }

    fn take(&mut self, found: Found<'_>) -> Result<(), ReadError> {
        if found.in_range { self.count(found.view) } else { Ok(()) }
    }
}

/// What a name takes as a JSON string.
fn json_bytes(name: &str) -> usize {
    let escaped = |byte: u8| match byte {
        0..0x20 => 6,
        b'"' | b'\\' => 2,
        _ => 1,
    };
    name.bytes().map(escaped).sum()
}

/// Counts the values of a field.
#[derive(Debug)]
pub(crate) struct TopGather {
    field: Field,
    limit: usize,
    total: u64,
    missing: u64,
    exact: bool,
    values: HashMap<Box<str>, u64>,
    bytes: usize,
}

impl TopGather {
    pub(crate) fn new(query: &TopQuery) -> Self {
        Self {
            field: query.field.clone(),
            limit: query.limit as usize,
            total: 0,
            missing: 0,
            exact: true,
            values: HashMap::new(),
            bytes: 0,
        }
    }

    pub(crate) fn count(&mut self, event: EventView<'_>) {
        self.count_value(self.field.value(event));
    }

    /// One event with a value, or without one.
    pub(crate) fn count_value(&mut self, value: Option<Cow<'_, str>>) {
        self.total += 1;
        let Some(value) = value else {
            self.missing += 1;
            return;
        };
        if let Some(count) = self.values.get_mut(&*value) {
            *count += 1;
            return;
        }
        self.bytes += VALUE_BYTES + value.len();
        self.values.insert(value.into_owned().into(), 1);
        if !self.is_small() {
            self.forget();
        }
    }

    /// Events with a value, or without one, that another store has counted. That store must say
    /// which to keep when there are more than are tracked.
    pub(crate) fn add(&mut self, value: Option<&str>, count: u64) {
        self.total += count;
        let Some(value) = value else {
            self.missing += count;
            return;
        };
        if let Some(known) = self.values.get_mut(value) {
            *known += count;
        } else {
            self.bytes += VALUE_BYTES + value.len();
            self.values.insert(value.into(), count);
        }
    }

    /// False: there are or were more values than are tracked.
    pub(crate) fn fits(&self) -> bool {
        self.exact && self.is_small()
    }

    fn is_small(&self) -> bool {
        self.values.len() <= VALUES_MAX && self.bytes <= VALUES_BYTES_MAX
    }

    /// Events whose values are left out because they are too many.
    pub(crate) fn add_rare(&mut self, count: u64) {
        self.total += count;
        self.exact = false;
    }

    /// Takes the median count off all values.
    fn forget(&mut self) {
        self.exact = false;
        let mut counts: Vec<u64> = self.values.values().copied().collect();
        let middle = counts.len() / 2;
        let (_, median, _) = counts.select_nth_unstable(middle);
        let median = *median;
        self.values.retain(|_, count| {
            *count = count.saturating_sub(median);
            *count > 0
        });
        self.bytes = self.values.keys().map(|value| VALUE_BYTES + value.len()).sum();
    }

    /// Heap held, about.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn finish(self) -> Top {
        let mut values: Vec<(Box<str>, u64)> = self.values.into_iter().collect();
        let order = |a: &(Box<str>, u64), b: &(Box<str>, u64)| {
            Reverse(a.1).cmp(&Reverse(b.1)).then_with(|| a.0.cmp(&b.0))
        };
        if self.limit < values.len() {
            values.select_nth_unstable_by(self.limit, order);
            values.truncate(self.limit);
        }
        values.sort_unstable_by(order);
        Top { total: self.total, missing: self.missing, exact: self.exact, values }
    }
}

impl Gather for TopGather {
    fn is_full(&self) -> bool {
        false
    }

    fn take(&mut self, found: Found<'_>) -> Result<(), ReadError> {
        if found.in_range {
            self.count(found.view);
        }
        Ok(())
    }
}
