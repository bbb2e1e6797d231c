//! Filters by tags: what a subscriber does not want is not sent to it.
//!
//! An event's tags are its attributes with text values. A filter leaves out and changes nothing, so
//! events stay encoded once, and offsets go on over what was left out.

use proto::centrifuge::{FilterNode, tags};
use proto::event::Event;

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
            let tags = tags(event.attributes());
            self.0.matches(&|wanted: &str| {
                tags.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value)
            })
        };
        (0..).zip(events).filter(passes).map(|(at, _)| at).collect()
    }

    /// Heap it holds, for the ledger.
    pub fn memory_bytes(&self) -> usize {
        self.0.size_bytes()
    }
}
