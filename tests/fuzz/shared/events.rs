//! What the targets of the decoders share: running them, and comparing what they found.
#![allow(dead_code, reason = "each target uses its part")]

use proto::decode::{
    BodyDecoder, BodyShape, Context, DETAIL_BYTES_MAX, IdSource, Item, Progress, Rejection,
    decode_envelope,
};
use proto::envelope::{write_envelope, write_json_string};
use proto::event::{DataKind, Event};
use proto::position::{Epoch, Position};
use serde_json::value::RawValue;
use std::ops::ControlFlow;

/// What one item came to.
pub type Decoded = Result<Event, Rejection>;

/// Small, so that inputs reach it.
pub const DATA_BYTES_MAX: usize = 200;

pub fn with<T>(channel: Option<&str>, run: impl FnOnce(&mut Context<'_>) -> T) -> T {
    let mut ids = IdSource::new([1, 2]);
    run(&mut Context {
        channel,
        traceparent: "",
        author: "",
        data_bytes_max: DATA_BYTES_MAX,
        ids: &mut ids,
    })
}

/// Checks what holds for every item, and keeps it.
pub fn take(items: &mut Vec<Decoded>, item: Item) {
    assert_eq!(item.index, items.len() as u64);
    items.push(match item.result {
        Ok(unplaced) => {
            let event = unplaced.place(Position { epoch: Epoch(1), offset: 1 }, 5);
            assert!(event.data().len() <= DATA_BYTES_MAX);
            assert_eq!(Event::decode(event.as_bytes().clone()).as_ref(), Ok(&event));
            Ok(event)
        }
        Err(rejection) => {
            assert_eq!(rejection.index, item.index);
            assert!((1..=DETAIL_BYTES_MAX).contains(&rejection.detail.len()));
            assert!(!rejection.detail.contains(char::is_control));
            Err(rejection)
        }
    });
}

/// Decodes a whole body, going on after each item if the sink is to break there.
pub fn body(shape: BodyShape, channel: Option<&str>, text: &[u8], stop: bool) -> Vec<Decoded> {
    with(channel, |context| {
        let mut decoder = BodyDecoder::new(shape);
        let mut items = Vec::new();
        while let Progress::Stopped = decoder.decode(context, text, |item| {
            take(&mut items, item);
            if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }) {}
        items
    })
}

/// The items in a form that can be compared.
pub fn show(items: &[Decoded]) -> Vec<Result<String, Rejection>> {
    let text = |event: &Event| {
        let mut out = Vec::new();
        write_envelope(&mut out, event);
        // It is one JSON object whatever the event holds.
        let text = String::from_utf8(out).expect("an envelope is UTF-8");
        serde_json::from_str::<&RawValue>(&text).expect("an envelope is JSON");
        text
    };
    items.iter().map(|item| item.as_ref().map(text).map_err(Clone::clone)).collect()
}

/// Writes an event the way a publisher would and decodes that: it must be the same event.
pub fn reads_again(context: &mut Context<'_>, event: &Event) {
    let mut text = b"{\"channel\":".to_vec();
    write_json_string(&mut text, event.channel());
    for (name, value) in [
        ("id", event.id()),
        ("type", event.kind()),
        ("source", event.source()),
        ("key", event.key()),
        ("class", event.class().as_str()),
        ("content_type", event.content_type()),
        ("traceparent", event.traceparent()),
    ] {
        text.extend_from_slice(format!(",\"{name}\":").as_bytes());
        write_json_string(&mut text, value);
    }
    text.extend_from_slice(b",\"time\":\"");
    proto::rfc3339::write_rfc3339(&mut text, event.time_us());
    text.push(b'"');
    if !event.attributes().is_empty() {
        text.extend_from_slice(b",\"attributes\":");
        text.extend_from_slice(event.attributes().as_bytes());
    }
    write_data(&mut text, event);
    text.push(b'}');
    let again = decode_envelope(context, &text).expect("what we accepted once we accept again");
    let again = again.place(Position { epoch: Epoch(1), offset: 1 }, 5);
    let of = |e: &Event| {
        let texts = [e.id(), e.kind(), e.source(), e.key(), e.content_type(), e.traceparent()];
        let texts = texts.map(str::to_owned);
        (texts, e.attributes().to_owned(), e.time_us(), e.class(), e.data().to_vec())
    };
    assert_eq!(of(&again), of(event));
    assert_eq!(again.data_kind(), event.data_kind());
}

/// The data as its member of an envelope, without a second encoder: JSON as it is, the rest in
/// the envelope's own way.
pub fn write_data(text: &mut Vec<u8>, event: &Event) {
    match event.data_kind() {
        DataKind::Json => {
            text.extend_from_slice(b",\"data\":");
            text.extend_from_slice(event.data());
        }
        DataKind::Text => {
            text.extend_from_slice(b",\"data\":");
            write_json_string(text, std::str::from_utf8(event.data()).expect("text is UTF-8"));
        }
        DataKind::Binary => {
            let mut envelope = Vec::new();
            write_envelope(&mut envelope, event);
            let at = envelope.windows(14).rposition(|w| w == b"\"data_base64\":").expect("base64");
            text.push(b',');
            text.extend_from_slice(&envelope[at..envelope.len() - 1]);
        }
    }
}
