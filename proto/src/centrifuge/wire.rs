//! Messages in Protobuf: fields as [`crate::protobuf`] reads and writes them.

use super::data::Data;
use super::fault::Fault;
use super::value::{Field, Sink, Source};
use crate::protobuf::{Prefix, Reader, Wire, write_bytes_field, write_varint_field};
use std::borrow::Cow;

/// One field's value.
#[derive(Debug, Clone, Copy)]
pub struct ProtobufSource<'a>(pub Wire<'a>);

impl<'a> ProtobufSource<'a> {
    fn slice(self) -> Result<&'a [u8], Fault> {
        match self.0 {
            Wire::Bytes(bytes) => Ok(bytes),
            _ => Err(Fault::Type("")),
        }
    }

    fn varint(self) -> Result<u64, Fault> {
        match self.0 {
            Wire::Varint(value) => Ok(value),
            _ => Err(Fault::Type("")),
        }
    }
}

impl<'a> Source<'a> for ProtobufSource<'a> {
    fn is_null(self) -> bool {
        false
    }

    fn text(self) -> Result<Cow<'a, str>, Fault> {
        // A string that is not UTF-8 is no string.
        let text = simdutf8::basic::from_utf8(self.slice()?).map_err(|_| Fault::Type(""))?;
        Ok(Cow::Borrowed(text))
    }

    fn unsigned(self) -> Result<u64, Fault> {
        self.varint()
    }

    fn signed(self) -> Result<i64, Fault> {
        Ok(self.varint()? as i64)
    }

    fn boolean(self) -> Result<bool, Fault> {
        Ok(self.varint()? != 0)
    }

    fn data(self) -> Result<Data<'a>, Fault> {
        let bytes = self.slice()?;
        Ok(if bytes.is_empty() { Data::None } else { Data::Binary(bytes) })
    }

    fn bytes(self) -> Result<Cow<'a, [u8]>, Fault> {
        Ok(Cow::Borrowed(self.slice()?))
    }

    fn fields(
        self,
        _: fn(&str) -> Option<u32>,
        mut visit: impl FnMut(u32, Self) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let mut reader = Reader::new(self.slice()?);
        while let Some((number, value)) = reader.field()? {
            visit(number, Self(value))?;
        }
        Ok(())
    }

    fn items(self, mut visit: impl FnMut(Self) -> Result<(), Fault>) -> Result<(), Fault> {
        visit(self)
    }

    fn entries<T: Default>(
        self,
        mut read: impl FnMut(&mut T, Self) -> Result<(), Fault>,
        mut push: impl FnMut(Cow<'a, str>, T) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let (mut key, mut value) = (Cow::Borrowed(""), T::default());
        self.fields(
            |_| None,
            |number, part| {
                match number {
                    1 => key = part.text()?,
                    2 => read(&mut value, part)?,
                    _ => {}
                }
                Ok(())
            },
        )?;
        push(key, value)
    }
}

/// Appends fields to a buffer.
#[derive(Debug)]
pub struct ProtobufSink<'o> {
    out: &'o mut Vec<u8>,
}

impl<'o> ProtobufSink<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self { out }
    }
}

impl Sink for ProtobufSink<'_> {
    fn text(&mut self, field: Field<'_>, value: &str) {
        write_bytes_field(self.out, field.number, value.as_bytes());
    }

    fn unsigned(&mut self, field: Field<'_>, value: u64) {
        write_varint_field(self.out, field.number, value);
    }

    fn signed(&mut self, field: Field<'_>, value: i64) {
        write_varint_field(self.out, field.number, value as u64);
    }

    fn boolean(&mut self, field: Field<'_>, value: bool) {
        write_varint_field(self.out, field.number, u64::from(value));
    }

    fn data(&mut self, field: Field<'_>, value: Data<'_>) {
        let bytes = value.bytes();
        if !bytes.is_empty() {
            write_bytes_field(self.out, field.number, bytes);
        }
    }

    fn bytes(&mut self, field: Field<'_>, value: &[u8]) {
        write_bytes_field(self.out, field.number, value);
    }

    fn message(&mut self, field: Field<'_>, guess: usize, write: impl FnOnce(&mut Self)) {
        let prefix = Prefix::open_field(self.out, field.number, guess);
        write(self);
        prefix.close(self.out);
    }

    fn list<T>(
        &mut self,
        field: Field<'_>,
        items: &[T],
        mut write: impl FnMut(&mut Self, Field<'_>, &T),
    ) {
        for item in items {
            write(self, field, item);
        }
    }

    fn map<T>(
        &mut self,
        field: Field<'_>,
        entries: &[(Cow<'_, str>, T)],
        mut write: impl FnMut(&mut Self, Field<'_>, &T),
    ) {
        for (key, value) in entries {
            self.message(field, 0, |sink| {
                sink.text(Field { number: 1, name: "" }, key);
                write(sink, Field { number: 2, name: "" }, value);
            });
        }
    }
}
