//! The second feed: the 69,659 purchases of `CDNOW_master.txt`, replayed in the order of their
//! days, a day in six seconds, so that busy days are busy here too. After the last one it starts
//! over.

/// Purchases in the file.
pub const ORDERS: usize = 69_659;
/// How long a day takes: about 21 orders per second on average, 84 on the busiest.
pub const DAY_MS: u64 = 6_000;

/// A purchase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Order {
    customer: u32,
    /// As a number: 19970326.
    date: u32,
    cds: u16,
    cents: u32,
    /// When it is due, from the start of the replay.
    due_ms: u64,
}

/// All purchases and where the replay stands.
#[derive(Debug)]
pub struct Replay {
    orders: Vec<Order>,
    next: usize,
    /// Rounds through the file that are complete.
    laps: u64,
    lap_ms: u64,
}

impl Replay {
    /// Parses the file: `customer date cds dollars`, one purchase per line.
    pub fn parse(text: &str) -> Result<Self, String> {
        let lines = text.lines().enumerate().skip(1);
        let lines = lines.filter(|(_, line)| !line.trim().is_empty());
        let mut orders = lines
            .map(|(at, line)| parse(line).ok_or_else(|| format!("line {} is not an order", at + 1)))
            .collect::<Result<Vec<Order>, String>>()?;
        if orders.is_empty() {
            return Err("the file has no orders".to_owned());
        }
        orders.sort_by_key(|order| order.date);
        // Days are numbered as they occur; within its day an order gets a place of its own.
        let (mut day, mut date) = (0, orders[0].date);
        for (at, order) in orders.iter_mut().enumerate() {
            if order.date != date {
                (day, date) = (day + 1, order.date);
            }
            let place =
                (at as u64 ^ u64::from(order.customer) << 20).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            order.due_ms = day * DAY_MS + (place >> 32) % DAY_MS;
        }
        orders.sort_by_key(|order| order.due_ms);
        Ok(Self { orders, next: 0, laps: 0, lap_ms: (day + 1) * DAY_MS })
    }

    /// Purchases in all.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Gives the next order that is due, with its number.
    pub fn due(&mut self, elapsed_ms: u64) -> Option<(u64, Order)> {
        let order = self.orders[self.next];
        if self.laps * self.lap_ms + order.due_ms > elapsed_ms {
            return None;
        }
        self.next += 1;
        let number = self.next as u64;
        if self.next == self.orders.len() {
            (self.next, self.laps) = (0, self.laps + 1);
        }
        Some((number, order))
    }
}

impl Order {
    /// As the data of an event made at `t`, in milliseconds since the epoch.
    pub fn json(&self, number: u64, t: &str) -> String {
        let (year, month, day) = (self.date / 10_000, self.date / 100 % 100, self.date % 100);
        let (dollars, cents) = (self.cents / 100, self.cents % 100);
        format!(
            "{{\"t\":{t},\"n\":{number},\"customer\":{},\"day\":\"{year}-{month:02}-{day:02}\",\
             \"cds\":{},\"usd\":{dollars}.{cents:02}}}",
            self.customer, self.cds,
        )
    }
}

fn parse(line: &str) -> Option<Order> {
    let mut fields = line.split_whitespace();
    let customer = fields.next()?.parse().ok()?;
    let date: u32 = fields.next()?.parse().ok()?;
    let cds = fields.next()?.parse().ok()?;
    let (dollars, cents) = fields.next()?.split_once('.')?;
    let is_date = (1..=12).contains(&(date / 100 % 100)) && (1..=31).contains(&(date % 100));
    if !is_date || cents.len() != 2 || fields.next().is_some() {
        return None;
    }
    let cents = dollars.parse::<u32>().ok()?.checked_mul(100)?.checked_add(cents.parse().ok()?)?;
    Some(Order { customer, date, cds, cents, due_ms: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = " customer_id  date number_of_cds  dollar_value\r\n";

    #[test]
    fn every_order_is_replayed_once_per_lap_on_its_day() {
        let text = format!(
            "{HEAD} 00001 19970102  1   11.77\r\n 00002 19970101  5   77.00\r\n 00002 19980630 1 0.05\r\n"
        );
        let mut replay = Replay::parse(&text).unwrap();
        let mut all = Vec::new();
        for elapsed in (0..=6 * DAY_MS).step_by(50) {
            while let Some((number, order)) = replay.due(elapsed) {
                all.push((elapsed / DAY_MS, number, order.json(number, "1.5")));
            }
        }
        let days: Vec<_> = all.iter().map(|(day, number, _)| (*day, *number)).collect();
        // The step may carry an order that is due at the very end of its day into the next.
        assert_eq!(days.len(), 6, "{days:?}");
        assert_eq!(days.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [1, 2, 3, 1, 2, 3]);
        let first = r#"{"t":1.5,"n":1,"customer":2,"day":"1997-01-01","cds":5,"usd":77.00}"#;
        assert_eq!(all[0].2, first);
        assert!(all[2].2.ends_with(r#""day":"1998-06-30","cds":1,"usd":0.05}"#));
    }

    #[test]
    fn what_is_not_the_file_is_refused_with_the_line() {
        let check = |lines: &str, expected: &str| {
            assert_eq!(Replay::parse(&format!("{HEAD}{lines}")).unwrap_err(), expected);
        };
        check("", "the file has no orders");
        check("1 19970101 1 1.00\n<html>\n", "line 3 is not an order");
        check("1 19971301 1 1.00", "line 2 is not an order");
        check("1 19970101 1 1.0", "line 2 is not an order");
        check("1 19970101 1 1.00 x", "line 2 is not an order");
        check("1 19970101 1 99999999999.00", "line 2 is not an order");
    }
}
