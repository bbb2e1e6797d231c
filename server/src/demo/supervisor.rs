//! The supervisor's turn: watches its children, presses the trigger, and says what came of it.
//!
//! A kill is a round: the clients are told first, so that they know who was there; then SIGKILL, a
//! new server at once, and the count, until every client is back and has every event that was
//! acknowledged, or time runs out. Then the store is compared with the acknowledgements.
//!
//! Lives on the main thread, which must not end before the server does: the kernel stops the
//! server when the thread that started it ends.

use super::acked::{self, Comparison};
use super::clients::report::{Order, Report};
use super::http::Http;
use super::server::{Launch, Running};
use super::status::{Phase, Verdict};
use super::{Shared, lock};
use crate::cli::exit;
use std::io::Write;
use std::process::{Child, ChildStdin};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

/// A kill that is under way.
struct Round {
    number: u32,
    killed: Instant,
    /// Servers that were started since.
    starts: u32,
    listening: Option<Duration>,
    /// When every client was back.
    resumed: Option<Duration>,
    /// The clients know what to wait for.
    expecting: bool,
}

/// Everything the main thread owns.
pub struct Supervisor {
    pub shared: Arc<Shared>,
    pub launch: Launch,
    pub server: Running,
    pub clients: Child,
    pub orders: ChildStdin,
    pub presses: mpsc::Receiver<()>,
    /// A press would be heard.
    pub listening: Arc<AtomicBool>,
    pub http: Http,
    round: Option<Round>,
    number: u32,
}

impl Supervisor {
    /// Puts it together. The server is ready, the clients were started.
    pub fn new(
        shared: Arc<Shared>,
        launch: Launch,
        server: Running,
        clients: Child,
        orders: ChildStdin,
        (presses, listening): (mpsc::Receiver<()>, Arc<AtomicBool>),
    ) -> Self {
        let http = Http::new(launch.listen);
        let (round, number) = (None, 0);
        Self { shared, launch, server, clients, orders, presses, listening, http, round, number }
    }

    /// Runs until it is told to stop; gives the exit code.
    pub fn run(mut self) -> u8 {
        let code = loop {
            std::thread::sleep(TURN);
            if self.shared.is_stopping() {
                break exit::OK;
            }
            if let Ok(Some(status)) = self.clients.try_wait() {
                eprintln!("shardcast: the clients ended by themselves ({status})");
                break exit::INTERNAL;
            }
            if let Err(message) = self.turn() {
                eprintln!("shardcast: {message}");
                break exit::INTERNAL;
            }
        };
        self.server.stop();
        // The end of their input is the clients' order to stop.
        drop(self.orders);
        let _ = self.clients.wait();
        code
    }

    fn turn(&mut self) -> Result<(), String> {
        let pressed = self.presses.try_recv().is_ok();
        if self.round.is_some() {
            return self.follow();
        }
        if let Some(status) = self.server.ended() {
            eprintln!("shardcast: the server ended by itself ({status}); it is started again");
            return self.begin();
        }
        let report = lock(&self.shared.report).clone();
        let phase = self.shared.status().1.phase;
        let is_whole = report.connected == self.shared.status().1.clients;
        if phase == Phase::Starting && is_whole && self.listening.load(Relaxed) {
            println!(
                "  ready     {} clients are connected; the button is on the page",
                report.connected
            );
            self.shared.change(|status| status.phase = Phase::Running);
        }
        match pressed && phase == Phase::Running {
            true => self.begin(),
            false => Ok(()),
        }
    }

    /// Kills the server, if it is still alive, and starts the next one.
    fn begin(&mut self) -> Result<(), String> {
        self.number += 1;
        let number = self.number;
        self.order(&Order::Round(number))?;
        let deadline = Instant::now() + ROUND_BEGINS;
        while lock(&self.shared.report).round.number != number {
            if Instant::now() > deadline {
                return Err("the clients do not answer".to_owned());
            }
            std::thread::sleep(TURN);
        }
        let killed = Instant::now();
        self.server.kill();
        let of = lock(&self.shared.report).round.of;
        self.restart()?;
        self.shared.change(|status| {
            status.phase = Phase::Killed;
            status.kills = number;
            (status.resumed, status.of) = (0, of);
        });
        self.round = Some(Round {
            number,
            killed,
            starts: 1,
            listening: None,
            resumed: None,
            expecting: false,
        });
        Ok(())
    }

    fn restart(&mut self) -> Result<(), String> {
        self.server = self.launch.start().map_err(|e| format!("cannot start the server: {e}"))?;
        self.http = Http::new(self.launch.listen);
        let pid = self.server.pid();
        self.shared.change(|status| status.pid = pid);
        Ok(())
    }

    /// One look at a kill that is under way.
    fn follow(&mut self) -> Result<(), String> {
        let Some(mut round) = self.round.take() else { return Ok(()) };
        let elapsed = round.killed.elapsed();
        if let Some(status) = self.server.ended() {
            round.starts += 1;
            if round.starts > STARTS_MAX {
                return Err(format!("the server does not stay up ({status})"));
            }
            eprintln!("shardcast: the server ended by itself ({status}); it is started again");
            self.restart()?;
            round.listening = None;
        }
        if round.listening.is_none() && self.launch.is_ready(&mut self.http) {
            round.listening = Some(elapsed);
            self.shared.change(|status| status.phase = Phase::Resuming);
        }
        let report = lock(&self.shared.report).clone();
        let own = report.round;
        if own.number == round.number && round.listening.is_some() {
            self.shared.change(|status| status.resumed = own.resumed);
            let all = own.resumed == own.of;
            if all && round.resumed.is_none() {
                round.resumed = Some(elapsed);
            }
            // What the feeds still have to send belongs to the kill, too.
            if all && !round.expecting && self.shared.waiting() == 0 {
                let tops = lock(&self.shared.acked).tops();
                self.order(&Order::Expect(tops))?;
                round.expecting = true;
            }
            if round.expecting && own.behind == Some(0) && self.listening.load(Relaxed) {
                return self.finish(&round, &report, true);
            }
        }
        if elapsed > ROUND_ENDS {
            return self.finish(&round, &report, false);
        }
        self.round = Some(round);
        Ok(())
    }

    fn finish(&mut self, round: &Round, report: &Report, finished: bool) -> Result<(), String> {
        let comparison = acked::compare(&self.shared.acked, &mut self.http);
        let (compared, finished) = match comparison {
            Ok(comparison) => (comparison, finished),
            Err(error) => {
                eprintln!("shardcast: the store could not be compared: {error}");
                (Comparison::default(), false)
            }
        };
        let ms = |time: Option<Duration>| time.unwrap_or(ROUND_ENDS).as_millis() as u64;
        let own = report.round;
        let verdict = Verdict {
            kill: round.number,
            resumed: own.resumed,
            of: own.of,
            lost: own.totals.lost,
            doubled: own.totals.doubled,
            gaps: own.totals.gaps,
            acknowledged: compared.acknowledged,
            missing: compared.missing,
            stored_twice: compared.stored_twice,
            listening_ms: ms(round.listening),
            resumed_ms: ms(round.resumed),
            finished,
        };
        println!("  {}", verdict.line());
        self.shared.change(|status| {
            status.phase = Phase::Running;
            status.verdicts.push(verdict.clone());
            let surplus = status.verdicts.len().saturating_sub(VERDICTS_MAX);
            status.verdicts.drain(..surplus);
        });
        // Presses from while this was going on are not meant for the new server.
        while self.presses.try_recv().is_ok() {}
        Ok(())
    }

    fn order(&mut self, order: &Order) -> Result<(), String> {
        let mut line = serde_json::to_vec(order).map_err(|error| error.to_string())?;
        line.push(b'\n');
        let sent = self.orders.write_all(&line).and_then(|()| self.orders.flush());
        sent.map_err(|error| format!("the clients are gone: {error}"))
    }
}

/// Starts the server and waits until it serves. The error is for the user.
pub fn first_start(shared: &Shared, launch: &Launch) -> Result<Running, String> {
    let mut server = launch.start().map_err(|error| format!("cannot start the server: {error}"))?;
    let mut http = Http::new(launch.listen);
    let deadline = Instant::now() + FIRST_START;
    while !launch.is_ready(&mut http) {
        if let Some(status) = server.ended() {
            // Its own words are on standard error already.
            return Err(format!("the server did not start ({status})"));
        }
        if shared.is_stopping() || Instant::now() > deadline {
            server.stop();
            return Err("the server did not get ready in time".to_owned());
        }
        std::thread::sleep(TURN);
    }
    Ok(server)
}

const TURN: Duration = Duration::from_millis(20);
const ROUND_BEGINS: Duration = Duration::from_secs(5);
/// 5,000 clients are back within seconds; a minute is a failure.
const ROUND_ENDS: Duration = Duration::from_secs(60);
/// A server that dies again and again has a reason that a person must read.
const STARTS_MAX: u32 = 5;
const FIRST_START: Duration = Duration::from_secs(30);
const VERDICTS_MAX: usize = 10;
