//! One description of every message for both encodings and both directions.
//!
//! A [`Source`] is a value as it came, a [`Sink`] is where values go; JSON and Protobuf implement
//! both (`json`, `wire`). A message is a list of numbered and named fields, written once with
//! `messages!`; a group of fields of which one is set is an enumeration, written with `choices!`
//! (`macros`). Both give the types and the reading and writing.
//!
//! Rules, the same in both encodings: unknown fields are skipped. A scalar given twice: the last
//! one counts. A message given twice is merged field by field, lists and maps given twice are
//! joined, and of a map's entries with one key the last one counts; the entries come out in the
//! order of their keys. JSON `null` is as good as absent, except as a payload, where it is a value.
//! Zero values are not written, except inside maps, and embedded messages are written even if they
//! are empty.

use super::data::Data;
use super::fault::Fault;
use std::borrow::Cow;

/// A field's number in Protobuf and its name in JSON.
#[derive(Debug, Clone, Copy)]
pub struct Field<'n> {
    pub number: u32,
    pub name: &'n str,
}

/// What one command or reply may still make us allocate.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    pub entries_left: usize,
    pub filter_nodes_left: usize,
    pub filter_depth_max: usize,
    pub text_bytes_max: usize,
}

impl Budget {
    /// Takes one entry of a map or item of a list.
    pub fn take_entry(&mut self) -> Result<(), Fault> {
        self.entries_left = self.entries_left.checked_sub(1).ok_or(Fault::TooManyEntries)?;
        Ok(())
    }
}

/// A value as it came.
pub trait Source<'a>: Copy {
    /// JSON `null`.
    fn is_null(self) -> bool;
    fn text(self) -> Result<Cow<'a, str>, Fault>;
    fn unsigned(self) -> Result<u64, Fault>;
    fn signed(self) -> Result<i64, Fault>;
    fn boolean(self) -> Result<bool, Fault>;
    /// A payload.
    fn data(self) -> Result<Data<'a>, Fault>;
    /// Bytes that JSON carries as a string.
    fn bytes(self) -> Result<Cow<'a, [u8]>, Fault>;
    /// Shows every field of a message, in the order they came. `number_of` knows the names.
    fn fields(
        self,
        number_of: fn(&str) -> Option<u32>,
        visit: impl FnMut(u32, Self) -> Result<(), Fault>,
    ) -> Result<(), Fault>;
    /// Shows every item of a list: a JSON array has all of them, a Protobuf field is one.
    fn items(self, visit: impl FnMut(Self) -> Result<(), Fault>) -> Result<(), Fault>;
    /// Shows every entry of a map, as `items` does. `read` reads into a value that was fresh with
    /// the entry, `push` takes the entry.
    fn entries<T: Default>(
        self,
        read: impl FnMut(&mut T, Self) -> Result<(), Fault>,
        push: impl FnMut(Cow<'a, str>, T) -> Result<(), Fault>,
    ) -> Result<(), Fault>;
}

/// Where values go. Every call writes; leaving out zeros is the caller's.
pub trait Sink {
    fn text(&mut self, field: Field<'_>, value: &str);
    fn unsigned(&mut self, field: Field<'_>, value: u64);
    fn signed(&mut self, field: Field<'_>, value: i64);
    fn boolean(&mut self, field: Field<'_>, value: bool);
    fn data(&mut self, field: Field<'_>, value: Data<'_>);
    /// Bytes that JSON carries as a string.
    fn bytes(&mut self, field: Field<'_>, value: &[u8]);
    /// `guess` is about the message's size in bytes.
    fn message(&mut self, field: Field<'_>, guess: usize, write: impl FnOnce(&mut Self));
    fn list<T>(
        &mut self,
        field: Field<'_>,
        items: &[T],
        write: impl FnMut(&mut Self, Field<'_>, &T),
    );
    fn map<T>(
        &mut self,
        field: Field<'_>,
        entries: &[(Cow<'_, str>, T)],
        write: impl FnMut(&mut Self, Field<'_>, &T),
    );
}

/// Numbered and named fields.
pub trait Message<'a>: Default {
    /// The number of a field by its name.
    fn number_of(name: &str) -> Option<u32>;
    /// Reads one field.
    fn merge_field(
        &mut self,
        number: u32,
        value: impl Source<'a>,
        budget: &mut Budget,
    ) -> Result<(), Fault>;
    /// Writes the fields that are not zero.
    fn write_fields(&self, sink: &mut impl Sink);
    /// About how many bytes that will be: the payloads count, the rest does not.
    fn guess(&self) -> usize;

    /// Reads all fields of a message.
    fn merge(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        source.fields(Self::number_of, |number, value| self.merge_field(number, value, budget))
    }
}

/// What a field may hold.
pub trait Value<'a>: Sized {
    /// True if JSON `null` is a value and not an absence.
    const TAKES_NULL: bool = false;
    fn merge(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault>;
    /// Writes the value unless it is zero.
    fn write(&self, sink: &mut impl Sink, field: Field<'_>);
    /// See [`Message::guess`].
    fn guess(&self) -> usize {
        0
    }
}

/// What a map may hold beside its keys.
pub trait Entry<'a>: Default {
    fn merge_entry(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault>;
    /// Writes the value even if it is zero.
    fn write_entry(&self, sink: &mut impl Sink, field: Field<'_>);
    fn entry_guess(&self) -> usize;
}

impl<'a> Value<'a> for Cow<'a, str> {
    fn merge(&mut self, source: impl Source<'a>, _: &mut Budget) -> Result<(), Fault> {
        *self = source.text()?;
        Ok(())
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if !self.is_empty() {
            sink.text(field, self);
        }
    }
    fn guess(&self) -> usize {
        self.len()
    }
}

impl<'a> Value<'a> for Cow<'a, [u8]> {
    fn merge(&mut self, source: impl Source<'a>, _: &mut Budget) -> Result<(), Fault> {
        *self = source.bytes()?;
        Ok(())
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if !self.is_empty() {
            sink.bytes(field, self);
        }
    }
    fn guess(&self) -> usize {
        self.len()
    }
}

impl<'a> Value<'a> for Data<'a> {
    const TAKES_NULL: bool = true;
    fn merge(&mut self, source: impl Source<'a>, _: &mut Budget) -> Result<(), Fault> {
        *self = source.data()?;
        Ok(())
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if !self.is_none() {
            sink.data(field, *self);
        }
    }
    fn guess(&self) -> usize {
        self.bytes().len()
    }
}

impl<'a> Value<'a> for bool {
    fn merge(&mut self, source: impl Source<'a>, _: &mut Budget) -> Result<(), Fault> {
        *self = source.boolean()?;
        Ok(())
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if *self {
            sink.boolean(field, true);
        }
    }
}

macro_rules! integers {
    ($($kind:ty: $way:ident $wide:ty,)*) => {$(
        impl<'a> Value<'a> for $kind {
            fn merge(&mut self, source: impl Source<'a>, _: &mut Budget) -> Result<(), Fault> {
                *self = Self::try_from(source.$way()?).map_err(|_| Fault::Range(""))?;
                Ok(())
            }
            fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
                if *self != 0 {
                    sink.$way(field, <$wide>::from(*self));
                }
            }
        }
    )*};
}

integers! { u32: unsigned u64, u64: unsigned u64, i32: signed i64, i64: signed i64, }

impl<'a, M: Message<'a>> Value<'a> for Option<M> {
    fn merge(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        self.get_or_insert_default().merge(source, budget)
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if let Some(message) = self {
            sink.message(field, message.guess(), |sink| message.write_fields(sink));
        }
    }
    fn guess(&self) -> usize {
        self.as_ref().map_or(0, M::guess)
    }
}

impl<'a, M: Message<'a>> Value<'a> for Vec<M> {
    fn merge(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        source.items(|item| {
            budget.take_entry()?;
            let mut message = M::default();
            if !item.is_null() {
                message.merge(item, budget)?;
            }
            self.push(message);
            Ok(())
        })
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if !self.is_empty() {
            sink.list(field, self, |sink, field, message| {
                sink.message(field, message.guess(), |sink| message.write_fields(sink));
            });
        }
    }
    fn guess(&self) -> usize {
        self.iter().map(M::guess).sum()
    }
}

impl<'a, M: Message<'a>> Entry<'a> for M {
    fn merge_entry(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        self.merge(source, budget)
    }
    fn write_entry(&self, sink: &mut impl Sink, field: Field<'_>) {
        sink.message(field, self.guess(), |sink| self.write_fields(sink));
    }
    fn entry_guess(&self) -> usize {
        self.guess()
    }
}

impl<'a> Entry<'a> for Cow<'a, str> {
    fn merge_entry(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        self.merge(source, budget)
    }
    fn write_entry(&self, sink: &mut impl Sink, field: Field<'_>) {
        sink.text(field, self);
    }
    fn entry_guess(&self) -> usize {
        self.len()
    }
}

/// A map as its entries in the order of their keys, each key once.
impl<'a, T: Entry<'a>> Value<'a> for Vec<(Cow<'a, str>, T)> {
    fn merge(&mut self, source: impl Source<'a>, budget: &mut Budget) -> Result<(), Fault> {
        // Two closures want it, never at once.
        let budget = std::cell::RefCell::new(budget);
        source.entries(
            |value: &mut T, source| {
                if source.is_null() {
                    return Ok(());
                }
                value.merge_entry(source, &mut budget.borrow_mut())
            },
            |key, value| {
                budget.borrow_mut().take_entry()?;
                insert(self, key, value);
                Ok(())
            },
        )
    }
    fn write(&self, sink: &mut impl Sink, field: Field<'_>) {
        if !self.is_empty() {
            sink.map(field, self, |sink, field, value| value.write_entry(sink, field));
        }
    }
    fn guess(&self) -> usize {
        self.iter().map(|(key, value)| key.len() + value.entry_guess()).sum()
    }
}

/// Moving entries is cheap: the budget keeps a map to some hundred of them.
fn insert<'a, T>(entries: &mut Vec<(Cow<'a, str>, T)>, key: Cow<'a, str>, value: T) {
    match entries.binary_search_by(|(own, _)| own.cmp(&key)) {
        Ok(at) => {
            if let Some(entry) = entries.get_mut(at) {
                entry.1 = value;
            }
        }
        Err(at) => entries.insert(at, (key, value)),
    }
}
