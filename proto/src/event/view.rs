//! A borrowed look at an image, for readers that want a field or two of very many events.
//!
//! Checks what [`Event::decode`] checks except that texts are UTF-8: that is looked at field by
//! field when one is asked for, so that passing an event by costs some additions and no copy.
//! Invariant: no accessor reads outside the image or panics, whatever the bytes are.
//! Deliberately absent: ownership. Tested here against [`Event`].

use super::{
    AT_EPOCH, AT_OFFSET, AT_TIME, DataKind, Event, EventError, Spans, check_shape, data_kind,
    field_span, text, u64_at,
};
use super::{HEADER_BYTES, u16_at};
use crate::position::{Epoch, Position};

/// An event that somebody else owns. A text that is not UTF-8 reads as empty.
#[derive(Clone, Copy)]
pub struct EventView<'a> {
    image: &'a [u8],
    data_at: usize,
}

impl<'a> EventView<'a> {
    /// Looks at an image whose bytes are known to be those that were written.
    pub fn new(image: &'a [u8]) -> Result<Self, EventError> {
        let Spans { data, .. } = check_shape(image)?;
        Ok(Self { image, data_at: data })
    }

    /// The channel's name.
    pub fn channel(self) -> &'a str {
        text(self.image, HEADER_BYTES, usize::from(u16_at(self.image, super::AT_CHANNEL_LEN)))
    }

    /// The same as bytes, for comparing.
    pub fn channel_bytes(self) -> &'a [u8] {
        let len = usize::from(u16_at(self.image, super::AT_CHANNEL_LEN));
        self.image.get(HEADER_BYTES..HEADER_BYTES + len).unwrap_or_default()
    }

    /// Where the event stands in its channel.
    pub fn position(self) -> Position {
        let epoch = Epoch(u64_at(self.image, AT_EPOCH));
        Position { epoch, offset: u64_at(self.image, AT_OFFSET) }
    }

    /// The event's time, microseconds since the Unix epoch.
    pub fn time_us(self) -> i64 {
        u64_at(self.image, AT_TIME) as i64
    }

    /// The id.
    pub fn id(self) -> &'a str {
        self.field(0)
    }

    /// The type; empty if none.
    pub fn kind(self) -> &'a str {
        self.field(1)
    }

    /// The source; empty if none.
    pub fn source(self) -> &'a str {
        self.field(2)
    }

    /// The key; empty if none.
    pub fn key(self) -> &'a str {
        self.field(3)
    }

    /// See [`DataKind`].
    pub fn data_kind(self) -> DataKind {
        data_kind(self.image)
    }

    /// The payload.
    pub fn data(self) -> &'a [u8] {
        self.image.get(self.data_at..).unwrap_or_default()
    }

    fn field(self, index: usize) -> &'a str {
        let (at, len) = field_span(self.image, index);
        text(self.image, at, len)
    }
}

impl<'a> From<&'a Event> for EventView<'a> {
    fn from(event: &'a Event) -> Self {
        let image = event.as_bytes();
        Self { image, data_at: Spans::of(image).data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Draft;

    fn event() -> Event {
        let draft = Draft {
            channel: "orders:eu",
            id: "a1",
            kind: "order",
            source: "shop",
            key: "k",
            attributes: r#"{"x":1}"#,
            data_kind: DataKind::Text,
            data: "grün".as_bytes(),
            ..Draft::default()
        };
        draft.build().unwrap().place(Position { epoch: Epoch::new(3, 4), offset: 9 }, 77)
    }

    #[test]
    fn a_view_reads_what_the_event_reads() {
        let event = event();
        for view in [EventView::new(event.as_bytes()).unwrap(), EventView::from(&event)] {
            assert_eq!((view.channel(), view.position()), (event.channel(), event.position()));
            assert_eq!(view.channel_bytes(), event.channel().as_bytes());
            assert_eq!((view.id(), view.kind()), (event.id(), event.kind()));
            assert_eq!((view.source(), view.key()), (event.source(), event.key()));
            assert_eq!((view.time_us(), view.data_kind()), (77, DataKind::Text));
            assert_eq!(view.data(), event.data());
        }
    }

    #[test]
    fn no_damage_makes_a_view_panic_or_read_out_of_bounds() {
        let image = event().as_bytes().to_vec();
        for cut in 0..image.len() {
            assert!(EventView::new(&image[..cut]).is_err(), "cut {cut}");
        }
        for at in 0..image.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut damaged = image.clone();
                damaged[at] = value;
                if let Ok(view) = EventView::new(&damaged) {
                    let _ = (view.channel(), view.id(), view.kind(), view.key(), view.data());
                }
            }
        }
    }
}
