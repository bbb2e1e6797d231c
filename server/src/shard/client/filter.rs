//! Filters by tags: what a subscriber does not want is not sent to it.
//!
//! An event's tags are its attributes with text values. A filter leaves out and changes nothing, so
//! events stay encoded once, and offsets go on over what was left out.

use proto::centrifuge::FilterNode;
use proto::event::Event;
use std::collections::BTreeMap;

/// A subscription's filter.
#[derive(Debug, Clone, PartialEq)]
pub struct TagsFilter(FilterNode);

impl TagsFilter {
    /// The filter that a subscribe asks for.
    pub fn new(node: FilterNode) -> Self {
        Self(node)
    }

    /// Which of the events pass, by their index.
    pub fn passing(&self, events: &[Event]) -> Vec<u32> {
        let passes = |(_, event): &(u32, &Event)| {
            let tags = tags(event);
            self.0.matches(&|name: &str| tags.get(name).map(String::as_str))
        };
        (0..).zip(events).filter(passes).map(|(at, _)| at).collect()
    }

    /// Heap it holds, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.0.size_bytes()
    }
}

/// An event's tags.
pub fn tags(event: &Event) -> BTreeMap<String, String> {
    let attributes = event.attributes();
    if attributes.is_empty() {
        return BTreeMap::new();
    }
    let all: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(attributes).unwrap_or_default();
    let text = |(name, value)| match value {
        serde_json::Value::String(text) => Some((name, text)),
        _ => None,
    };
    all.into_iter().filter_map(text).collect()
}
