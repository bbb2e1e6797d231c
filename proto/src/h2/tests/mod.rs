//! Two rigs: `h2`'s own client over the same in-memory pipe ([`peer`]), and raw frames ([`abuse`]).

mod abuse;
mod client;
mod peer;
mod wire;

use super::*;

/// Every event that is queued.
fn events(session: &mut H2Session) -> Vec<H2Event> {
    std::iter::from_fn(|| session.next_event()).collect()
}

fn closed(events: &[H2Event]) -> Option<Option<H2Error>> {
    events.iter().find_map(|event| match event {
        H2Event::Closed { error } => Some(*error),
        _ => None,
    })
}

fn ok() -> http::Response<()> {
    http::Response::new(())
}
