//! How many servers a load needs, what that costs, and why: the model behind `shardcast capacity`.
//!
//! [`plan()`] is a pure function from [`Inputs`] to a [`Plan`]. Every figure that decides a number
//! of servers is a product of named factors, kept in the order in which they were multiplied, so
//! that whoever doubts the result can multiply them again: average load, then the peak (on rates
//! only: the users are those connected at the busiest moment already), then headroom, then one
//! server more if one may be down. Servers are rounded up, and once, at the end.
//!
//! More users, higher rates, larger rooms, a higher peak or more headroom never give fewer
//! servers: all factors are positive, and the rounding of floating-point products and sums keeps
//! their order.
//!
//! Deliberately absent: files, clocks, the network, prices of anybody (they change; the caller
//! gives them), regions, queueing theory (headroom is what is left for bursts shorter than the
//! peak). Runs on any thread. Tested on the example whose answers are known, by properties over
//! random inputs, and by the texts it makes.

mod bounds;
mod build;
mod calibration;
mod compare;
mod effects;
mod example;
mod inputs;
mod live;
mod notes;
mod number;
mod page;
mod plan;
mod pod;
mod server;
mod svg;
mod text;
mod wire;

pub use bounds::InputError;
pub use build::plan;
pub use calibration::{Calibration, CalibrationError, Costs, FORMAT, Spread};
pub use compare::{Compared, Discount, Managed};
pub use effects::{Effect, Growth};
pub use example::{EXAMPLES, example};
pub use inputs::{Inputs, Load, Prices, Reserve, Transport, Wire};
pub use live::{Activity, DRIFT_LIMIT, Drift, Predicted};
pub use number::{parse_bytes, parse_number, parse_percent};
pub use page::{page, pod_page};
pub use plan::{
    Cost, Dimension, Elastic, Factor, Memory, Op, Plan, Stage, Term, Traffic, WirePart,
};
pub use pod::{Pod, PodPlan};
pub use server::{Admitted, Bytes, PROFILES, Profile, Server, profile};
pub use text::{pod_text, text};
pub use wire::billed_bytes;

#[cfg(test)]
mod extremes;
#[cfg(test)]
mod tests;
