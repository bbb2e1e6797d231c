//! The world: one thread, one seed, one clock; whose turn it is and what goes wrong are drawn.
//!
//! Two phases. *Safety*: clients and faults together, and nothing that was promised may break.
//! *Liveness*: no faults any more; within bounded time everything is answered, every subscriber
//! stands at the top of its channels, a drain ends, and the next start finds a clean stop.

use super::chance::Chance;
use super::client::SdkClient;
use super::host::Host;
use super::http2::Http2Client;
use super::lurker::Lurker;
use super::net::Net;
use super::options::Options;
use super::oracle::{Kind, Oracle, Serial, Verdict};
use super::publisher::Publisher;
use super::request::{Request, Shape, data};
use super::subscriber::Subscriber;
use super::trace::Trace;
use super::wire::Scene;
use proto::position::Position;
use server::shard::Now;
use storage::StorageState;
use storage::sim_files::SimFiles;

/// Steps of the liveness phase, at most.
const CALM_STEPS_MAX: u64 = 400_000;
/// Virtual time of the liveness phase, at most.
const CALM_MS_MAX: u64 = 300_000;
/// 2026-01-01.
const WALL_START_US: i64 = 1_767_225_600_000_000;

/// See the module.
pub struct World {
    options: Options,
    chance: Chance,
    trace: Trace,
    net: Net,
    files: SimFiles,
    host: Option<Host>,
    oracle: Oracle,
    channels: Vec<String>,
    publishers: Vec<Publisher>,
    subscribers: Vec<Subscriber>,
    lurkers: Vec<Lurker>,
    http2: Vec<Http2Client>,
    clients: Vec<SdkClient>,
    now: Now,
    calm: bool,
    /// Drains that came to their end.
    stops: u64,
    /// When the stopped server comes back.
    boot_at_ms: u64,
    /// The stop was clean: the next start must say so.
    stopped_clean: bool,
    /// Storing has failed for good since.
    failed_since_ms: Option<u64>,
    heal_disk_at_ms: u64,
    /// A single sync was told to fail since the last start.
    sync_will_fail: bool,
    pump_part: u64,
    boots: u64,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    pub hash: u64,
    pub events: u32,
    pub delivered: u64,
    pub durable: usize,
    pub boots: u64,
    pub virtual_ms: u64,
    /// Clients that came back and recovered, and that did not.
    pub recoveries: (u64, u64),
}

impl World {
    /// The world of a seed.
    pub fn new(seed: u64, options: &Options, loud: bool) -> Self {
        let mut world = Self {
            chance: Chance::new(seed, 2),
            trace: Trace::new(loud),
            net: Net::default(),
            files: SimFiles::new(seed),
            host: None,
            oracle: Oracle::new(options),
            channels: options.channel_names(),
            publishers: (0..options.publishers).map(|_| Publisher::default()).collect(),
            subscribers: Vec::new(),
            lurkers: (0..options.lurkers).map(|_| Lurker::default()).collect(),
            http2: Vec::new(),
            clients: Vec::new(),
            now: Now { ms: 1_000, wall_us: WALL_START_US },
            calm: false,
            stops: 0,
            boot_at_ms: 0,
            stopped_clean: true,
            failed_since_ms: None,
            heal_disk_at_ms: 0,
            sync_will_fail: false,
            pump_part: 0,
            boots: 0,
            options: options.clone(),
        };
        world.files.faults(|faults| faults.short_write_one_in = options.short_writes);
        world.subscribers =
            (0..options.subscribers).map(|_| Subscriber::draw(&mut world.scene().0)).collect();
        world.http2 =
            (0..options.publishers_h2).map(|_| Http2Client::draw(&mut world.scene().0)).collect();
        world.clients =
            (0..options.clients).map(|_| SdkClient::draw(&mut world.scene().0)).collect();
        world
    }

    /// Runs both phases.
    pub fn run(&mut self) -> Result<Outcome, String> {
        for _ in 0..self.options.ticks {
            self.step()?;
        }
        self.calm_down()?;
        Ok(Outcome {
            hash: self.trace.hash(),
            events: self.oracle.count(),
            delivered: self.oracle.delivered,
            durable: self.oracle.durable_count(),
            boots: self.boots,
            virtual_ms: self.now.ms,
            recoveries: self.oracle.recoveries,
        })
    }

    /// The last lines.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    fn scene(&mut self) -> (Scene<'_>, &mut [Publisher], &mut [Subscriber], &mut [Lurker]) {
        let scene = Scene {
            now_ms: self.now.ms,
            net: &mut self.net,
            host: self.host.as_mut(),
            oracle: &mut self.oracle,
            chance: &mut self.chance,
            trace: &mut self.trace,
            options: &self.options,
            channels: &self.channels,
            calm: self.calm,
        };
        (scene, &mut self.publishers, &mut self.subscribers, &mut self.lurkers)
    }

    /// One thing happens.
    fn step(&mut self) -> Verdict {
        self.pass_time();
        if self.host.is_none() {
            if self.now.ms >= self.boot_at_ms {
                self.boot()?;
            }
            return self.client();
        }
        match self.chance.range(0, 100) {
            0..45 => self.shard(),
            45..85 => self.client(),
            85..96 => self.storage(),
            96 | 97 => {
                if let Some(host) = &mut self.host {
                    host.read();
                }
                Ok(())
            }
            98 => {
                let most = self.options.event_bytes * 2 + 400;
                self.host.as_mut().map_or(Ok(()), |host| host.check_limits(most))
            }
            _ => Ok(()),
        }?;
        if !self.calm && self.chance.range(0, 100_000) < self.options.faults {
            self.fault()?;
        }
        Ok(())
    }

    fn pass_time(&mut self) {
        let ms = match self.chance.range(0, 1_000) {
            0..700 => 0,
            700..960 => self.chance.range(1, 4),
            960..998 => self.chance.range(4, 40),
            _ => self.chance.range(40, 3_000),
        };
        self.now.ms += ms;
        self.now.wall_us += ms as i64 * 1_000;
        self.net.set_now(self.now.ms);
    }

    fn shard(&mut self) -> Verdict {
        let Some(host) = &mut self.host else { return Ok(()) };
        let at = self.chance.index(host.shard_count());
        if !host.is_due(at, &self.net, self.now.ms) && !self.chance.per_mille(20) {
            return Ok(());
        }
        host.turn(at, self.now, &mut self.net, &mut self.chance)?;
        if host.is_drained(self.now.ms) {
            self.stop()?;
        }
        Ok(())
    }

    fn client(&mut self) -> Verdict {
        let http1 = self.publishers.len() + self.subscribers.len() + self.lurkers.len();
        let others = http1 + self.http2.len();
        let at = self.chance.index(others + self.clients.len());
        if let Some(number) = at.checked_sub(others) {
            let mut clients = std::mem::take(&mut self.clients);
            let stepped = clients[number].step(&mut self.scene().0);
            self.clients = clients;
            return stepped.map_err(|why| format!("client {number}: {why}"));
        }
        if let Some(number) = at.checked_sub(http1) {
            let mut http2 = std::mem::take(&mut self.http2);
            let stepped = http2[number].step(&mut self.scene().0);
            self.http2 = http2;
            return stepped.map_err(|why| format!("HTTP/2 client {number}: {why}"));
        }
        let (mut scene, publishers, subscribers, lurkers) = self.scene();
        let (p, s) = (publishers.len(), subscribers.len());
        if at < p {
            publishers[at].step(&mut scene).map_err(|why| format!("publisher {at}: {why}"))
        } else if at < p + s {
            let number = at - p;
            let stepped = subscribers[number].step(&mut scene);
            stepped.map_err(|why| format!("subscriber {number}: {why}"))
        } else {
            lurkers[at - p - s].step(&mut scene);
            Ok(())
        }
    }

    /// One step of the writer thread; the power may go in the middle of it.
    fn storage(&mut self) -> Verdict {
        if !self.calm && self.options.slow_steps > 0 && self.chance.per_mille(900) {
            return Ok(());
        }
        let cut = !self.calm
            && self.options.power_cuts > 0
            && self.chance.range(0, 2_000_000)
                < self.options.faults * self.options.power_cuts / 100;
        if cut {
            let operations = self.chance.size(12);
            self.files.faults(|faults| faults.power_off_in = Some(operations));
        }
        self.pump_part = (self.pump_part + 1) % 3;
        let Some(host) = &mut self.host else { return Ok(()) };
        let state = host.pump(self.pump_part, self.now);
        if cut {
            // Nobody saw what this step acknowledged: the power is off.
            return self.crash(true);
        }
        match (state, self.failed_since_ms) {
            (StorageState::Failed, None) => self.failed_since_ms = Some(self.now.ms),
            (StorageState::Failed, Some(since)) if self.now.ms > since + 3_000 || self.calm => {
                return self.crash(false);
            }
            _ => {}
        }
        if self.heal_disk_at_ms > 0 && self.now.ms >= self.heal_disk_at_ms {
            self.heal_disk();
        }
        Ok(())
    }

    fn disk_is_ill(&self) -> bool {
        let ill = |faults: &mut storage::sim_files::Faults| {
            faults.fail_every_sync || faults.capacity_bytes.is_some() || self.sync_will_fail
        };
        self.files.faults(ill)
    }

    fn heal_disk(&mut self) {
        self.heal_disk_at_ms = 0;
        self.sync_will_fail = false;
        self.files.faults(|faults| {
            faults.capacity_bytes = None;
            faults.fail_every_sync = false;
            faults.fail_syncs_in = Vec::new();
        });
    }

    fn fault(&mut self) -> Verdict {
        let o = &self.options;
        let rates = [
            o.cuts,
            o.stalls,
            o.kills,
            o.power_cuts,
            o.restarts,
            o.disk_full,
            o.sync_fails,
            o.sync_dead,
            o.wall_jumps,
        ];
        let total: u64 = rates.iter().sum();
        if total == 0 {
            return Ok(());
        }
        let mut left = self.chance.range(0, total);
        let kind = rates.iter().position(|rate| {
            let found = left < *rate;
            left = left.saturating_sub(*rate);
            found
        });
        match kind.unwrap_or(0) {
            0 => self.cut(),
            1 => self.stall(),
            2 => return self.crash(false),
            3 => return self.crash(true),
            4 => self.restart(),
            5 => {
                let more = self.chance.size(self.options.segment_bytes);
                let all = self.files.used_bytes() + more;
                self.note(format_args!("the disk is full at {all}"));
                self.files.faults(|faults| faults.capacity_bytes = Some(all));
                self.heal_disk_at_ms = self.now.ms + self.chance.size(8_000);
            }
            6 => {
                self.note(format_args!("a sync will fail"));
                self.sync_will_fail = true;
                self.files.faults(|faults| faults.fail_syncs_in = vec![1]);
            }
            7 => {
                self.note(format_args!("every sync fails"));
                self.files.faults(|faults| faults.fail_every_sync = true);
                self.heal_disk_at_ms = self.now.ms + self.chance.size(4_000);
            }
            _ => self.now.wall_us += self.chance.range(0, 4_000_000) as i64 - 2_000_000,
        }
        Ok(())
    }

    fn cut(&mut self) {
        let live = self.net.live();
        if !live.is_empty() {
            let socket = live[self.chance.index(live.len())];
            let kept = self.chance.size(64 << 10) as usize - 1;
            self.note(format_args!("cut {socket}"));
            self.net.cut(socket, kept);
        }
    }

    fn stall(&mut self) {
        let live = self.net.live();
        if !live.is_empty() {
            let socket = live[self.chance.index(live.len())];
            let (up, ms) = (self.chance.per_mille(500), self.chance.size(90_000));
            self.note(format_args!("stall {socket} up {up} {ms} ms"));
            self.net.stall(socket, up, self.now.ms + ms);
        }
    }

    /// The process dies; with the power, what was not synced may go, too.
    fn crash(&mut self, power: bool) -> Verdict {
        self.note(format_args!("crash, power {power}"));
        self.host = None;
        self.net.server_died();
        if power {
            self.files.power_cut();
        }
        self.stopped_clean = false;
        self.boot_at_ms = self.now.ms + self.chance.size(1_000);
        Ok(())
    }

    /// An orderly stop begins.
    fn restart(&mut self) {
        self.note(format_args!("drain"));
        if let Some(host) = &mut self.host {
            host.drain(self.now, 2_000, &mut self.net);
        }
    }

    /// The shards have ended: the writer syncs what they left.
    fn stop(&mut self) -> Verdict {
        let Some(host) = self.host.take() else { return Ok(()) };
        self.net.server_died();
        let report = host.finish(self.now);
        self.note(format_args!("stopped, clean {} {:?}", report.clean, report.error));
        self.stopped_clean = report.clean;
        self.stops += 1;
        self.boot_at_ms = self.now.ms + self.chance.size(1_000);
        Ok(())
    }

    fn boot(&mut self) -> Verdict {
        if self.calm {
            self.heal_disk();
        }
        if !self.calm && self.options.power_cuts > 0 && self.chance.per_mille(100) {
            // The power goes again while it starts.
            let operations = self.chance.size(40);
            self.files.faults(|faults| faults.power_off_in = Some(operations));
            let shards = self.chance.range(1, self.options.shards_max + 1) as u32;
            let files = self.files.clone();
            let booted =
                Host::boot(&self.options, shards, files, self.now, &mut self.chance.clone());
            self.note(format_args!("power cut at start, up {}", booted.is_ok()));
            drop(booted);
            self.files.power_cut();
            self.stopped_clean = false;
        }
        self.files.faults(|faults| faults.power_off_in = None);
        self.failed_since_ms = None;
        let shards = self.chance.range(1, self.options.shards_max + 1) as u32;
        let files = self.files.clone();
        let booted = Host::boot(&self.options, shards, files, self.now, &mut self.chance);
        let host = match booted {
            Ok(host) => host,
            // A disk that is full or does not sync may refuse the start; it is tried again.
            Err(why) if self.disk_is_ill() => {
                self.note(format_args!("no start: {why}"));
                self.heal_disk();
                // It may have got far enough to use up the mark of the clean stop.
                self.stopped_clean = false;
                return Ok(());
            }
            Err(why) => return Err(format!("the server does not start: {why}")),
        };
        let recovered = &host.recovered;
        let (lineage, clean) = (recovered.current_lineage, recovered.clean);
        self.boots += 1;
        let start = format_args!("boot {} with {shards}, clean {clean}", self.boots);
        self.trace.note(self.now.ms, start);
        self.oracle.booted(lineage, clean, self.stopped_clean)?;
        self.check_disk(&host)?;
        self.host = Some(host);
        Ok(())
    }

    /// Everything on the disk, against everything that was promised.
    fn check_disk(&mut self, host: &Host) -> Verdict {
        let mut events: Vec<(String, Position, Serial)> = Vec::new();
        let mut wrong = Ok(());
        host.stored(&mut |event| match self.oracle.recognise(event.channel(), event.data()) {
            Ok(serial) => events.push((event.channel().to_owned(), event.position(), serial)),
            Err(why) => wrong = Err(format!("on the disk: {why}")),
        })?;
        wrong?;
        self.trace.note(self.now.ms, format_args!("{} events on the disk", events.len()));
        self.oracle.check_stored(&events)
    }

    fn note(&mut self, line: std::fmt::Arguments<'_>) {
        self.trace.note(self.now.ms, line);
    }
}

/// The liveness phase.
impl World {
    fn calm_down(&mut self) -> Verdict {
        self.note(format_args!("calm"));
        self.calm = true;
        self.net.heal();
        self.heal_disk();
        self.files.faults(|faults| faults.short_write_one_in = 0);
        // Each ends a connection: with many clients hardly ever would all of them be there.
        self.options.completions.cancelled = 0;
        if let Some(host) = &mut self.host {
            host.cancel_nothing();
        }
        let began_ms = self.now.ms;
        self.settle(began_ms, "requests unanswered", |world| {
            world.host.is_some()
                && world.publishers.iter().all(Publisher::is_idle)
                && world.http2.iter().all(Http2Client::is_idle)
        })?;
        self.publish_everywhere(began_ms)?;
        self.restart();
        let stops = self.stops;
        self.settle(began_ms, "the drain does not end", |world| world.stops > stops)?;
        if !self.stopped_clean {
            return Err("a calm server did not stop cleanly".to_owned());
        }
        // Everybody comes back to the next run of the same lineage.
        let began_ms = self.now.ms;
        self.publish_everywhere(began_ms)?;
        self.oracle.check_late()
    }

    /// One more event on every channel: it must reach everybody.
    fn publish_everywhere(&mut self, began_ms: u64) -> Verdict {
        for at in 0..self.channels.len() {
            let channel = self.channels[at].clone();
            let serial =
                self.oracle.create(&channel, Kind::Json, true, |n| data(Kind::Json, n, 10));
            let durable = Options::is_stored(&channel);
            let request = Request { serials: vec![serial], durable, shape: Shape::Object };
            let publisher = at % self.publishers.len();
            self.publishers[publisher].order(request);
        }
        self.settle(began_ms, "subscribers behind", |world| world.behind().is_none())
    }

    /// Steps until it is so.
    fn settle(
        &mut self,
        began_ms: u64,
        what: &str,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Verdict {
        for step in 0..CALM_STEPS_MAX {
            if step % 64 == 0 && done(self) {
                return Ok(());
            }
            if self.now.ms > began_ms + CALM_MS_MAX {
                break;
            }
            self.step()?;
        }
        let who = self.behind().unwrap_or_default();
        for line in self.host.as_mut().map(Host::report).unwrap_or_default() {
            self.note(format_args!("{line}"));
        }
        Err(format!("no end: {what} after {} ms; {who}", self.now.ms - began_ms))
    }

    /// Somebody who is not where everybody should be.
    fn behind(&self) -> Option<String> {
        if self.host.is_none() {
            return Some("no server".to_owned());
        }
        if let Some(at) = self.publishers.iter().position(|publisher| !publisher.is_idle()) {
            return Some(format!("publisher {at}: {}", self.publishers[at].waits_for()));
        }
        let http1 = self.subscribers.iter().map(|s| s.standing().unwrap_or_default());
        let all = http1.chain(self.http2.iter().map(Http2Client::standing));
        let all = all.chain(self.clients.iter().map(SdkClient::standing));
        for (number, standing) in all.enumerate() {
            for (channel, at) in standing {
                let Some(top) = self.oracle.top(channel) else { continue };
                let there = at.is_some_and(|at| {
                    at.epoch.incarnation() == top.epoch.incarnation() && at.offset >= top.offset
                });
                if !there {
                    return Some(format!("subscriber {number}: {channel} at {at:?}, top {top}"));
                }
            }
        }
        None
    }
}
