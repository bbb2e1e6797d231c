//! Floods: how much one client, and all clients of one address, may ask for.
//!
//! A client's commands go through a bucket of its own: what goes over is answered with `too many
//! requests` and costs nothing more, and whoever goes on all the same is sent away for good. What
//! it sends counts as it is after decompression, so that a few bytes that expand to many pay for
//! what they become.
//!
//! The clients of an address share two buckets, for commands and for new connections. These are in
//! a table of fixed size without names: an address has a place in each of two rows and is over its
//! rate only if both places are, so that strangers who share one of them do not stop each other.
//! When nearly every place is full (a hundred thousand addresses that all flood) it bounds their
//! sum instead. IPv6 counts by /64, which is what one customer gets. Addresses that many clients
//! share, proxies above all, are exempt by configuration (`shared_addresses`).
//!
//! A bucket is the time at which everything taken will have been paid for (`rate`). Deliberately
//! absent: rates of services (`auth`), control frames (`session_ws`), what HTTP requests cost.
//! Threads: the table is shared by all shards, without locks. Tested here and over real sockets by
//! `tests/tests/it/floods.rs`.

use crate::rate;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds whose worth may come at once: an application that subscribes to all its channels.
const BURST_S: u64 = 5;
/// Bytes that count as one command more.
const BYTES_PER_COMMAND: u64 = 16 << 10;
/// Places in each of the two rows of a table.
const PLACES: usize = 8_192;
const NS_PER_S: u64 = 1_000_000_000;
const BURST_NS: u64 = BURST_S * NS_PER_S;

/// What a bucket says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// It is within the rate.
    Within,
    /// It is over it: not to be carried out.
    Over,
    /// It has been over it for long, and goes on.
    Flood,
}

/// One client's commands.
#[derive(Debug, Default)]
pub struct Bucket {
    paid_at_ns: u64,
}

impl Bucket {
    /// One command more, of so many a second; 0: as many as it likes.
    pub fn command(&mut self, now_ms: u64, per_s: u32) -> Flow {
        if per_s == 0 {
            return Flow::Within;
        }
        let (now_ns, cost_ns) = (now_ms * 1_000_000, NS_PER_S / u64::from(per_s));
        let paid_at = self.paid_at_ns.max(now_ns) + cost_ns;
        // What is refused costs, too: it stops counting when it stops coming.
        self.paid_at_ns = paid_at.min(now_ns + 2 * BURST_NS);
        match paid_at - now_ns {
            0..=BURST_NS => Flow::Within,
            owed if owed <= 2 * BURST_NS => Flow::Over,
            _ => Flow::Flood,
        }
    }

    /// What the bytes of a frame that was carried out cost on top: at most all there is.
    pub fn bytes(&mut self, now_ms: u64, per_s: u32, bytes: usize) {
        if per_s == 0 {
            return;
        }
        let now_ns = now_ms * 1_000_000;
        let commands = bytes as u64 / BYTES_PER_COMMAND;
        let cost_ns = commands.saturating_mul(NS_PER_S / u64::from(per_s));
        let paid_at = self.paid_at_ns.max(now_ns).saturating_add(cost_ns);
        self.paid_at_ns = self.paid_at_ns.max(paid_at.min(now_ns + BURST_NS));
    }
}

/// Names an address without saying it: 4 bytes in each connection. 0 is none in particular.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AddressKey(u32);

/// What the clients of each address ask for.
pub struct Addresses {
    hasher: RandomState,
    exempt: Vec<Network>,
    commands: Table,
    connects: Table,
}

impl Addresses {
    /// Nobody has asked for anything. `exempt`: networks of addresses that many share; those that
    /// are none were refused with the configuration.
    pub fn new(exempt: &[String]) -> Self {
        Self {
            hasher: RandomState::new(),
            exempt: exempt.iter().filter_map(|text| Network::parse(text)).collect(),
            commands: Table::default(),
            connects: Table::default(),
        }
    }

    /// The key of an address.
    pub fn key(&self, address: Option<IpAddr>) -> AddressKey {
        let Some(address) = address.map(|address| address.to_canonical()) else {
            return AddressKey::default();
        };
        if self.exempt.iter().any(|network| network.contains(address)) {
            return AddressKey::default();
        }
        let customer = match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64).into(),
        };
        AddressKey((self.hasher.hash_one(customer) as u32).max(1))
    }

    /// Whether a connection of an address may be made, of so many a second.
    pub fn connects(&self, key: AddressKey, now_ms: u64, per_s: u32) -> bool {
        self.connects.take(key, now_ms, per_s)
    }

    /// Whether a command may be carried out, of so many a second.
    pub fn commands(&self, key: AddressKey, now_ms: u64, per_s: u32) -> bool {
        self.commands.take(key, now_ms, per_s)
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self::new(&[])
    }
}

/// Two rows of buckets.
struct Table(Box<[[AtomicU64; PLACES]; 2]>);

impl Default for Table {
    fn default() -> Self {
        let rows: Vec<_> = (0..2).map(|_| [const { AtomicU64::new(0) }; PLACES]).collect();
        Self(rows.into_boxed_slice().try_into().expect("two rows"))
    }
}

impl Table {
    /// Takes one from each of a key's places that has one; `false` if none has.
    fn take(&self, key: AddressKey, now_ms: u64, per_s: u32) -> bool {
        if per_s == 0 || key == AddressKey::default() {
            return true;
        }
        let (now_ns, cost_ns) = (now_ms * 1_000_000, NS_PER_S / u64::from(per_s));
        let place = |row: u32| (key.0.rotate_left(row * 16) & 0xffff) as usize % PLACES;
        let pay = |paid_at_ns| rate::pay(paid_at_ns, now_ns, cost_ns, BURST_NS).ok();
        let mut any = false;
        for (row, places) in (0..).zip(self.0.iter()) {
            any |= places[place(row)].fetch_update(Relaxed, Relaxed, pay).is_ok();
        }
        any
    }
}

/// Addresses with the same first bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    bits: u32,
}

impl Network {
    /// `10.0.0.0/8`, `fd00::/8`, or a single address.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
        (bits <= most).then_some(Self { address, bits })
    }

    fn contains(self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                (own.to_bits() ^ other.to_bits()).leading_zeros() >= self.bits
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_client_gets_its_burst_then_its_rate_and_is_sent_away_only_if_it_goes_on() {
        let mut bucket = Bucket::default();
        let mut asked = |now_ms, count| -> Vec<Flow> {
            (0..count).map(|_| bucket.command(now_ms, 10)).collect()
        };
        let first = asked(1_000, 101);
        let count = |flows: &[Flow], flow| flows.iter().filter(|it| **it == flow).count();
        assert_eq!((count(&first, Flow::Within), count(&first, Flow::Over)), (50, 50));
        assert_eq!(first.last(), Some(&Flow::Flood));
        // Whoever waits until it has paid is served again, at its rate.
        let later = asked(1_000 + 5_500, 7);
        assert_eq!((count(&later, Flow::Within), count(&later, Flow::Over)), (5, 2));
        assert_eq!(Bucket::default().command(1, 0), Flow::Within);
    }

    #[test]
    fn what_expands_pays_for_what_it_becomes_and_one_of_any_size_is_carried_out() {
        let mut bucket = Bucket::default();
        assert_eq!(bucket.command(1_000, 10), Flow::Within);
        bucket.bytes(1_000, 10, 40 * BYTES_PER_COMMAND as usize);
        let within = (0..50).filter(|_| bucket.command(1_000, 10) == Flow::Within).count();
        assert_eq!(within, 9);
        // A huge one takes all there is, and no more than that.
        let mut bucket = Bucket::default();
        bucket.bytes(1_000, 10, usize::MAX);
        assert_eq!(bucket.command(1_000, 10), Flow::Over);
        assert_eq!(bucket.command(1_000 + 300, 10), Flow::Within);
        // Nor does it help whoever is over already.
        let mut bucket = Bucket::default();
        let asked = (0..90).filter(|_| bucket.command(1_000, 10) == Flow::Within).count();
        assert_eq!(asked, 50);
        bucket.bytes(1_000, 10, 1 << 30);
        assert_eq!(bucket.command(1_000, 10), Flow::Over);
    }

    #[test]
    fn addresses_have_rates_of_their_own_but_for_those_that_many_share() {
        let shared = ["127.0.0.0/8".to_owned(), "fd00::/8".to_owned(), "10.1.2.3".to_owned()];
        let addresses = Addresses::new(&shared);
        let taken = |text: &str| {
            let key = addresses.key(address(text));
            (0..100).filter(|_| addresses.connects(key, 1_000, 10)).count()
        };
        assert_eq!((taken("192.0.2.1"), taken("192.0.2.1")), (50, 0));
        assert_eq!(taken("::ffff:192.0.2.1"), 0, "the same, mapped");
        assert_eq!((taken("2001:db8::1"), taken("2001:db8::ffff")), (50, 0), "one customer");
        for text in ["127.0.0.1", "127.9.9.9", "fd12::1", "10.1.2.3"] {
            assert_eq!(taken(text), 100, "{text}");
        }
        assert_eq!(taken("10.1.2.4"), 50);
        let key = addresses.key(address("192.0.2.1"));
        assert!(addresses.commands(key, 1_000, 10), "commands are counted apart");
        assert!(addresses.connects(key, 7_000, 10), "it has paid");
        assert!(addresses.connects(addresses.key(None), 1_000, 1));
    }

    /// Many who flood stop few who do not: both places of one of them would have to be taken.
    #[test]
    fn strangers_rarely_share_both_places() {
        let addresses = Addresses::default();
        let key = |n: u32| addresses.key(Some(IpAddr::V4(n.into())));
        for n in 0..400 {
            let key = key(0x0a00_0000 + n);
            let refused = (0..60).filter(|_| !addresses.connects(key, 1_000, 10)).count();
            assert!(refused >= 9, "it floods: {refused} of 60");
        }
        let refused =
            (0..1_000).filter(|n| !addresses.connects(key(0xc000_0000 + n), 1_000, 10)).count();
        assert!(refused < 50, "{refused} of 1,000");
    }

    #[test]
    fn a_network_is_an_address_with_as_many_bits_as_it_has() {
        for text in ["1.2.3.4", "1.2.3.4/0", "1.2.3.4/32", "::1", "fd00::/8", "::/128"] {
            assert!(Network::parse(text).is_some(), "{text}");
        }
        for text in ["", "1.2.3", "1.2.3.4/33", "1.2.3.4/", "::/129", "a/8", "1.2.3.4/-1"] {
            assert!(Network::parse(text).is_none(), "{text}");
        }
    }
}
