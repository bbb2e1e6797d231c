//! Beside other ways to pay: managed services at prices the caller gives, and discounts on our own
//! servers as others report them.

use super::bounds::{InputError, range};
use super::number::{parse_number, plain};
use super::plan::Cost;
use serde::{Deserialize, Serialize};

/// A managed service and its prices.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Managed {
    /// Its name.
    pub name: String,
    /// A month of it, without any use.
    pub base: f64,
    /// A million messages, published and delivered ones alike, as most of them count.
    pub million_messages: f64,
    /// A thousand connections for a month.
    pub thousand_connections: f64,
    /// A gigabyte delivered.
    pub gb: f64,
}

/// What it would cost.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Compared {
    /// Whose.
    pub name: String,
    /// For messages.
    pub messages: f64,
    /// For connections.
    pub connections: f64,
    /// For bytes.
    pub transfer: f64,
    /// Whatever is used.
    pub base: f64,
    /// All of it, in 30 days.
    pub total: f64,
    /// Times what our own servers cost.
    pub times_ours: Option<f64>,
}

/// What a month's load is, for a price list.
#[derive(Debug, Clone, Copy)]
pub(super) struct Month {
    pub(super) messages: f64,
    pub(super) connections: f64,
    pub(super) payload_bytes: f64,
}

impl Managed {
    /// Reads `NAME,messages=2.50,connections=1.00,gb=0.25,base=29`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let usage = "write NAME,messages=2.50,connections=1.00,gb=0.25,base=29: prices of a million \
                     messages, a thousand connections, a gigabyte and a month";
        let mut parts = text.split(',').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty() && !name.contains('='));
        let name = name.ok_or_else(|| format!("`{text}` has no name; {usage}"))?.to_owned();
        let (base, messages, connections) = (0.0, 0.0, 0.0);
        let mut found = Self {
            name,
            base,
            million_messages: messages,
            thousand_connections: connections,
            gb: 0.0,
        };
        let mut any = false;
        for part in parts {
            let (key, value) =
                part.split_once('=').ok_or_else(|| format!("`{part}` is no price; {usage}"))?;
            let price = parse_number(value).map_err(|problem| format!("{key}: {problem}"))?;
            match key.trim() {
                "messages" => found.million_messages = price,
                "connections" => found.thousand_connections = price,
                "gb" => found.gb = price,
                "base" => found.base = price,
                _ => return Err(format!("there is no price `{key}`; {usage}")),
            }
            any = true;
        }
        if any { Ok(found) } else { Err(format!("`{text}` has no price; {usage}")) }
    }

    pub(super) fn check(&self) -> Result<(), InputError> {
        let prices = [self.base, self.million_messages, self.thousand_connections, self.gb];
        prices.iter().try_for_each(|price| range("--managed", *price, 0.0, 1e9))
    }

    pub(super) fn compare(&self, month: Month, ours: Option<&Cost>) -> Compared {
        let messages = month.messages / 1e6 * self.million_messages;
        let connections = month.connections / 1e3 * self.thousand_connections;
        let transfer = month.payload_bytes / 1e9 * self.gb;
        let total = self.base + messages + connections + transfer;
        let ours = ours.map(|cost| cost.total).filter(|total| *total > 0.0);
        Compared {
            name: self.name.clone(),
            messages,
            connections,
            transfer,
            base: self.base,
            total,
            times_ours: ours.map(|ours| total / ours),
        }
    }
}

/// A discount, as a range that others report.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Discount {
    /// What is done.
    pub name: String,
    /// Of what.
    pub of: String,
    /// Percent saved, from.
    pub percent_low: f64,
    /// Percent saved, to.
    pub percent_high: f64,
    /// The same of this plan's cost in a month.
    pub saves_low: f64,
    /// The same.
    pub saves_high: f64,
}

/// Those that can be taken of this cost. What the model computes itself (idle timeouts,
/// compression) is among the effects and not here.
pub(super) fn discounts(cost: Option<&Cost>) -> Vec<Discount> {
    let Some(cost) = cost else { return Vec::new() };
    let of = |name: &str, of: &str, amount: f64, low: f64, high: f64| Discount {
        name: name.to_owned(),
        of: of.to_owned(),
        percent_low: low,
        percent_high: high,
        saves_low: amount * low / 100.0,
        saves_high: amount * high / 100.0,
    };
    let all = [
        of("reserved servers, for one to three years", "servers", cost.servers, 30.0, 60.0),
        of("spot servers, where a drain in time is possible", "servers", cost.servers, 50.0, 70.0),
        of("servers of the right size", "servers", cost.servers, 20.0, 40.0),
        of("regions near the clients", "transfer", cost.transfer, 10.0, 30.0),
    ];
    all.into_iter().filter(|discount| discount.saves_high > 0.0).collect()
}

/// What size says about running one's own servers.
pub(super) fn rule_of_thumb(connections: f64) -> String {
    let advice = match connections {
        it if it < 1_000.0 => "below 1,000 a managed service is usually cheaper than the work",
        it if it <= 50_000.0 => {
            "from 1,000 to 50,000 it depends: compare with --managed, and count the work"
        }
        it if it <= 1_000_000.0 => "above 50,000 own servers are usually cheaper",
        _ => {
            "above 1,000,000 own servers are usually cheaper, with a managed service for far regions"
        }
    };
    format!("{} connections: {advice}.", plain(connections))
}
