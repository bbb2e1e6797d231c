//! CloudEvents: structured, batch and binary mode take any bytes, and an event from any of them
//! is the same event when it is written in the JSON format and decoded again.
#![cfg_attr(fuzzing, no_main)]

#[cfg(not(fuzzing))]
fn main() {}

#[cfg(fuzzing)]
#[path = "../shared/events.rs"]
mod events;

#[cfg(fuzzing)]
mod target {
    use super::events::{body, show, take, with, write_data};
    use proto::decode::{BodyShape, Item, decode_cloudevent_binary};
    use proto::envelope::write_json_string;
    use proto::event::{Class, DataKind, Event};
    use std::collections::BTreeMap;

    /// Lines `name:value` up to an empty one are headers, the rest is the body.
    fn binary(input: &[u8]) -> Vec<Result<Event, proto::decode::Rejection>> {
        let mut rest = input;
        let mut headers = Vec::new();
        let mut content_type = None;
        while let Some(at) = rest.iter().position(|b| *b == b'\n') {
            let line = &rest[..at];
            rest = &rest[at + 1..];
            let Some(colon) = line.iter().position(|b| *b == b':') else { break };
            let Ok(name) = std::str::from_utf8(&line[..colon]) else { continue };
            let value = &line[colon + 1..];
            if name.eq_ignore_ascii_case("content-type") {
                content_type = std::str::from_utf8(value).ok();
            }
            headers.push((name, value));
        }
        let mut items = Vec::new();
        with(Some("c"), |context| {
            let result = decode_cloudevent_binary(context, headers, content_type, rest);
            take(&mut items, Item { index: 0, result });
        });
        items
    }

    fn reads_again(event: &Event) {
        let mut text = b"{\"specversion\":\"1.0\"".to_vec();
        for (name, value) in [
            ("id", event.id()),
            ("source", event.source()),
            ("type", event.kind()),
            ("datacontenttype", event.content_type()),
            ("partitionkey", event.key()),
            ("traceparent", event.traceparent()),
            ("channel", event.channel()),
        ] {
            text.extend_from_slice(format!(",\"{name}\":").as_bytes());
            write_json_string(&mut text, value);
        }
        if event.class() != Class::Normal {
            text.extend_from_slice(b",\"class\":");
            write_json_string(&mut text, event.class().as_str());
        }
        text.extend_from_slice(b",\"time\":\"");
        proto::rfc3339::write_rfc3339(&mut text, event.time_us());
        text.push(b'"');
        if !event.attributes().is_empty() {
            serde_json::from_str::<BTreeMap<String, serde_json::Value>>(event.attributes())
                .expect("attributes are an object");
            text.push(b',');
            text.extend_from_slice(&event.attributes().as_bytes()[1..event.attributes().len() - 1]);
        }
        // An empty text is an event without data.
        if event.data_kind() != DataKind::Text || !event.data().is_empty() {
            write_data(&mut text, event);
        }
        text.push(b'}');
        // Compared as envelopes: the image also remembers whether the time was given.
        let again = body(BodyShape::CloudEvent, None, &text, false);
        assert_eq!(show(&again), show(&[Ok(event.clone())]));
    }

    pub fn run(data: &[u8]) {
        let Some((mode, input)) = data.split_first() else { return };
        let items = match mode % 3 {
            0 => body(BodyShape::CloudEvent, Some("c"), input, false),
            1 => {
                let items = body(BodyShape::CloudEventBatch, Some("c"), input, false);
                let stopped = body(BodyShape::CloudEventBatch, Some("c"), input, true);
                assert_eq!(show(&items), show(&stopped));
                items
            }
            _ => binary(input),
        };
        assert!(mode % 3 == 1 || items.len() == 1);
        items.iter().flatten().for_each(reads_again);
    }
}

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|data: &[u8]| target::run(data));
