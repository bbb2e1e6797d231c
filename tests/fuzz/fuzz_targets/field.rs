//! Fields of events: any path into any payload gives a bounded value or none, the value of a string
//! is that string, and no bytes taken for an image are read out of bounds.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
mod target {
    use proto::event::{Draft, EventView};
    use proto::field::{FIELD_DEPTH_MAX, Field, VALUE_BYTES_MAX};
    use proto::position::{Epoch, Position};
    use serde_json::{Value, json};

    pub fn run(data: &[u8]) {
        let end = data.iter().position(|b| *b == b'\n').unwrap_or(data.len());
        let (name, payload) = (&data[..end], data.get(end + 1..).unwrap_or_default());
        let Some(field) = std::str::from_utf8(name).ok().and_then(|f| Field::parse(f).ok()) else {
            return;
        };
        assert!(field.path().count() <= FIELD_DEPTH_MAX);
        if let Ok(view) = EventView::new(payload) {
            let _ = (view.channel(), view.position(), view.source(), field.value(view));
        }
        let Some(value) = value_of(&field, payload) else { return };
        assert!(value.len() <= VALUE_BYTES_MAX);
        let nest = |inner: Value, name: &str| json!({ name: inner });
        let names: Vec<&str> = field.path().collect();
        if !names.is_empty() {
            let object = names.iter().rev().fold(json!(value), |inner, name| nest(inner, name));
            assert_eq!(value_of(&field, object.to_string().as_bytes()), Some(value));
        }
    }

    fn value_of(field: &Field, data: &[u8]) -> Option<String> {
        let draft = Draft { channel: "c", id: "i", data, ..Draft::default() };
        let position = Position { epoch: Epoch::new(1, 1), offset: 1 };
        let event = draft.build().ok()?.place(position, 1);
        field.value(EventView::from(&event)).map(|value| value.into_owned())
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
