//! Messages in JSON: values as our scanner finds them, and objects member by member.
//!
//! A command's text is scanned as a whole before any of it is used, so nothing here meets a syntax
//! error; strings without escapes stay slices of the frame.
//!
//! An object is scanned again at each level that is entered: three times for a payload, and once
//! more for every level of a tags filter, whose depth is bounded. So the work is linear in the
//! frame, and no tree is built.

use super::data::Data;
use super::fault::Fault;
use super::value::{Field, Sink, Source};
use crate::decode::scan::{Raw, Scanner};
use crate::envelope::{write_json_string, write_number};
use std::borrow::Cow;

/// One value in a text that is UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct JsonSource<'a> {
    text: &'a str,
    raw: Raw,
}

impl<'a> JsonSource<'a> {
    /// The object at `at` and the place behind it.
    pub fn object_at(text: &'a str, at: usize) -> Result<(Self, usize), Fault> {
        let mut scanner = Scanner::new(text.as_bytes(), at);
        if scanner.peek() != Some(b'{') {
            return Err(Fault::NotAnObject);
        }
        let raw = scanner.value().map_err(|fault| Fault::Json(fault.what))?;
        Ok((Self { text, raw }, scanner.at()))
    }

    fn slice(self) -> &'a str {
        self.text.get(self.raw.start..self.raw.end).unwrap_or_default()
    }

    fn starts_with(self, byte: u8) -> bool {
        self.slice().as_bytes().first() == Some(&byte)
    }

    fn scanner(self) -> Scanner<'a> {
        Scanner::new(self.text.as_bytes(), self.raw.start)
    }

    /// A member's name or a string.
    fn string(text: &'a str, raw: Raw) -> Result<Cow<'a, str>, Fault> {
        if raw.escaped {
            let quoted = text.get(raw.start..raw.end).unwrap_or_default();
            // Half of a surrogate pair is no text.
            return serde_json::from_str(quoted).map(Cow::Owned).map_err(|_| Fault::Type(""));
        }
        Ok(Cow::Borrowed(text.get(raw.start + 1..raw.end - 1).unwrap_or_default()))
    }

    /// The digits of an integer, with its sign.
    fn integer(self) -> Result<&'a str, Fault> {
        let text = self.slice();
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(Fault::Type(""));
        }
        Ok(text)
    }
}

impl<'a> Source<'a> for JsonSource<'a> {
    fn is_null(self) -> bool {
        self.slice() == "null"
    }

    fn text(self) -> Result<Cow<'a, str>, Fault> {
        if !self.starts_with(b'"') {
            return Err(Fault::Type(""));
        }
        Self::string(self.text, self.raw)
    }

    fn unsigned(self) -> Result<u64, Fault> {
        self.integer()?.parse().map_err(|_| Fault::Range(""))
    }

    fn signed(self) -> Result<i64, Fault> {
        self.integer()?.parse().map_err(|_| Fault::Range(""))
    }

    fn boolean(self) -> Result<bool, Fault> {
        match self.slice() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(Fault::Type("")),
        }
    }

    fn data(self) -> Result<Data<'a>, Fault> {
        Ok(Data::Json(self.slice().as_bytes()))
    }

    fn bytes(self) -> Result<Cow<'a, [u8]>, Fault> {
        Ok(match self.text()? {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    fn fields(
        self,
        number_of: fn(&str) -> Option<u32>,
        mut visit: impl FnMut(u32, Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.starts_with(b'{') {
            return Err(Fault::Type(""));
        }
        let mut result = Ok(());
        let scanned = self.scanner().object(|_, name, raw| {
            if result.is_err() {
                return;
            }
            // A name that is no text is none of ours.
            let name = Self::string(self.text, name).ok();
            if let Some(number) = name.and_then(|name| number_of(&name)) {
                result = visit(number, Self { text: self.text, raw });
            }
        });
        scanned.map_err(|fault| Fault::Json(fault.what))?;
        result
    }

    fn items(self, mut visit: impl FnMut(Self) -> Result<(), Fault>) -> Result<(), Fault> {
        if !self.starts_with(b'[') {
            return Err(Fault::Type(""));
        }
        let mut result = Ok(());
        let scanned = self.scanner().array(|raw| {
            if result.is_ok() {
                result = visit(Self { text: self.text, raw });
            }
        });
        scanned.map_err(|fault| Fault::Json(fault.what))?;
        result
    }

    fn entries<T: Default>(
        self,
        mut read: impl FnMut(&mut T, Self) -> Result<(), Fault>,
        mut push: impl FnMut(Cow<'a, str>, T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        if !self.starts_with(b'{') {
            return Err(Fault::Type(""));
        }
        let mut entry = |name: Raw, raw: Raw| {
            let mut value = T::default();
            read(&mut value, Self { text: self.text, raw })?;
            push(Self::string(self.text, name)?, value)
        };
        let mut result = Ok(());
        let scanned = self.scanner().object(|_, name, raw| {
            if result.is_ok() {
                result = entry(name, raw);
            }
        });
        scanned.map_err(|fault| Fault::Json(fault.what))?;
        result
    }
}

/// Appends the members of an object to a buffer.
#[derive(Debug)]
pub struct JsonSink<'o> {
    out: &'o mut Vec<u8>,
    /// Something stands before the next member or item.
    comma: bool,
    /// Items have no names.
    in_list: bool,
}

impl<'o> JsonSink<'o> {
    /// Appends one object.
    pub fn object(out: &'o mut Vec<u8>, write: impl FnOnce(&mut Self)) {
        let mut sink = Self { out, comma: false, in_list: false };
        sink.inside(b'{', b'}', false, write);
    }

    /// The comma and the name, if there is one.
    fn place(&mut self, field: Field<'_>) {
        if self.comma {
            self.out.push(b',');
        }
        self.comma = true;
        if !self.in_list {
            write_json_string(self.out, field.name);
            self.out.push(b':');
        }
    }

    fn inside(&mut self, open: u8, close: u8, in_list: bool, write: impl FnOnce(&mut Self)) {
        let outer = self.in_list;
        (self.comma, self.in_list) = (false, in_list);
        self.out.push(open);
        write(self);
        self.out.push(close);
        (self.comma, self.in_list) = (true, outer);
    }
}

impl Sink for JsonSink<'_> {
    fn text(&mut self, field: Field<'_>, value: &str) {
        self.place(field);
        write_json_string(self.out, value);
    }

    fn unsigned(&mut self, field: Field<'_>, value: u64) {
        self.place(field);
        write_number(self.out, value);
    }

    fn signed(&mut self, field: Field<'_>, value: i64) {
        self.place(field);
        if value < 0 {
            self.out.push(b'-');
        }
        write_number(self.out, value.unsigned_abs());
    }

    fn boolean(&mut self, field: Field<'_>, value: bool) {
        self.place(field);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn data(&mut self, field: Field<'_>, value: Data<'_>) {
        self.place(field);
        value.write_json(self.out);
    }

    fn bytes(&mut self, field: Field<'_>, value: &[u8]) {
        self.place(field);
        write_json_string(self.out, &String::from_utf8_lossy(value));
    }

    fn message(&mut self, field: Field<'_>, _: usize, write: impl FnOnce(&mut Self)) {
        self.place(field);
        self.inside(b'{', b'}', false, write);
    }

    fn list<T>(
        &mut self,
        field: Field<'_>,
        items: &[T],
        mut write: impl FnMut(&mut Self, Field<'_>, &T),
    ) {
        self.place(field);
        self.inside(b'[', b']', true, |sink| {
            items.iter().for_each(|item| write(sink, field, item));
        });
    }

    fn map<T>(
        &mut self,
        field: Field<'_>,
        entries: &[(Cow<'_, str>, T)],
        mut write: impl FnMut(&mut Self, Field<'_>, &T),
    ) {
        self.place(field);
        self.inside(b'{', b'}', false, |sink| {
            for (key, value) in entries {
                write(sink, Field { number: 2, name: key }, value);
            }
        });
    }
}
