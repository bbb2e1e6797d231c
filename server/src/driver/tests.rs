//! The same cases on both drivers, over real sockets on the loopback: whatever a driver does by
//! itself, the completions and the bytes must be the same.
//!
//! A rig owns a driver, its listener and all completions so far. `until` turns until a condition
//! holds and fails, with what was seen, after a fixed number of turns: a hang is a failure with a
//! story. Nothing sleeps to wait for the kernel.

use super::*;
use crate::epoll::EpollDriver;
use crate::uring::UringDriver;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const TURNS_MAX: usize = 5_000;
const TURN: Duration = Duration::from_millis(10);
/// Twice what a loopback socket pair takes while nobody reads (4 MiB sent, 128 KiB received).
const HUGE: usize = 9_000_001;

trait Make: Driver {
    fn make(sizes: DriverSizes) -> Self;
}

impl Make for UringDriver {
    fn make(sizes: DriverSizes) -> Self {
        Self::new(sizes).expect("io_uring is needed for these tests")
    }
}

impl Make for EpollDriver {
    fn make(sizes: DriverSizes) -> Self {
        Self::new(sizes).unwrap()
    }
}

const SIZES: DriverSizes = DriverSizes {
    connections: 4096,
    receive_buffers: 64,
    receive_buffer_bytes: 2048,
    receive_bytes_per_turn: 64 << 10,
};

pub(crate) struct Rig<D> {
    pub(crate) driver: D,
    addr: SocketAddr,
    turns: usize,
    out: Vec<Completion>,
    pub(crate) accepted: Vec<ConnId>,
    pub(crate) received: HashMap<ConnId, Vec<u8>>,
    pub(crate) ended: HashMap<ConnId, Option<i32>>,
    pub(crate) stopped: Vec<(ConnId, u32, SendStop)>,
    pub(crate) done: Vec<(ConnId, Result<(), i32>)>,
    pub(crate) closed: Vec<ConnId>,
    refused: usize,
    paused: usize,
    woken: usize,
    received_last_turn: HashMap<ConnId, usize>,
}

impl<D: Driver> Rig<D> {
    pub(crate) fn new(mut driver: D) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // The default backlog of 128 would make thousands of connections retry their SYN.
        rustix::net::listen(&listener, 4096).unwrap();
        let addr = listener.local_addr().unwrap();
        driver.listen(listener.into());
        Self {
            driver,
            addr,
            turns: 0,
            out: Vec::new(),
            accepted: Vec::new(),
            received: HashMap::new(),
            ended: HashMap::new(),
            stopped: Vec::new(),
            done: Vec::new(),
            closed: Vec::new(),
            refused: 0,
            paused: 0,
            woken: 0,
            received_last_turn: HashMap::new(),
        }
    }

    pub(crate) fn turn_for(&mut self, timeout: Duration) {
        self.driver.turn(timeout, &mut self.out).unwrap();
        self.turns += 1;
        self.received_last_turn.clear();
        for completion in self.out.drain(..) {
            match completion {
                Completion::Accepted { conn, listener, peer } => {
                    assert_eq!(listener, 0);
                    assert!(peer.is_some_and(|peer| peer.ip().is_loopback()));
                    self.accepted.push(conn);
                }
                Completion::Refused => self.refused += 1,
                Completion::AcceptPaused { errno } => {
                    assert_eq!(errno, libc::EMFILE);
                    self.paused += 1;
                }
                Completion::Received { conn, bytes } => {
                    assert!(!self.ended.contains_key(&conn), "bytes after the end");
                    assert!(!self.closed.contains(&conn), "bytes after the close");
                    let data = self.driver.received(&bytes);
                    assert!(!data.is_empty());
                    *self.received_last_turn.entry(conn).or_default() += data.len();
                    self.received.entry(conn).or_default().extend_from_slice(data);
                    self.driver.recycle(bytes);
                }
                Completion::ReceiveEnded { conn, errno } => {
                    assert_eq!(self.ended.insert(conn, errno), None, "said once");
                }
                Completion::SendStopped { conn, sent, stop } => {
                    self.stopped.push((conn, sent, stop));
                }
                Completion::SendArmedDone { conn, result } => self.done.push((conn, result)),
                Completion::Closed { conn } => self.closed.push(conn),
                Completion::Woken => self.woken += 1,
            }
        }
    }

    pub(crate) fn turn(&mut self) {
        self.turn_for(TURN);
    }

    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        for _ in 0..TURNS_MAX {
            if condition(self) {
                return;
            }
            self.turn();
        }
        panic!(
            "{what}: not after {TURNS_MAX} turns; accepted {}, received {:?}, ended {:?}, stopped \
             {:?}, done {:?}, closed {}, counters {:?}",
            self.accepted.len(),
            self.received.values().map(Vec::len).collect::<Vec<_>>(),
            self.ended,
            self.stopped,
            self.done,
            self.closed.len(),
            self.driver.counters(),
        );
    }

    pub(crate) fn connect(&mut self) -> (TcpStream, ConnId) {
        let (mut clients, mut conns) = self.connect_many(1);
        (clients.remove(0), conns.remove(0))
    }

    /// Clients and their connections, paired by order (one listener keeps it).
    pub(crate) fn connect_many(&mut self, count: usize) -> (Vec<TcpStream>, Vec<ConnId>) {
        let before = self.accepted.len();
        let clients = (0..count).map(|_| TcpStream::connect(self.addr).unwrap()).collect();
        self.until("accepted", |rig| rig.accepted.len() == before + count);
        (clients, self.accepted[before..].to_vec())
    }

    fn received_bytes(&self, conn: ConnId) -> &[u8] {
        self.received.get(&conn).map_or(&[], Vec::as_slice)
    }

    /// Sends chunks until the socket is full; returns how many bytes it took.
    fn fill(&mut self, conn: ConnId, chunk: &Bytes) -> usize {
        let mut sent = 0;
        loop {
            let before = self.stopped.len();
            self.driver.send_now(conn, chunk, 0);
            self.turn_for(Duration::ZERO);
            match self.stopped.get(before) {
                None => sent += chunk.len(),
                Some(&(stopped, taken, stop)) => {
                    assert_eq!((stopped, stop), (conn, SendStop::Full));
                    assert!((taken as usize) < chunk.len());
                    return sent + taken as usize;
                }
            }
        }
    }
}

/// Bytes in which a missing, doubled or swapped piece shows.
pub(crate) fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|i| ((i * 31 + seed * 7) ^ (i >> 8) ^ (i >> 16)) as u8).collect()
}

fn read_exactly(client: &mut TcpStream, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    client.read_exact(&mut bytes).unwrap();
    bytes
}

fn reset(client: TcpStream) {
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
}

fn data_of_all_sizes_arrives_in_both_modes<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let mut rig = Rig::new(D::make(SIZES));
        for len in [1, 2, 2047, 2048, 2049, 65_535, 65_536, 65_537, 1_000_000] {
            let (mut client, conn) = rig.connect();
            rig.driver.arm_receive(conn, mode);
            let sent = pattern(len, len);
            let writer = std::thread::spawn({
                let sent = sent.clone();
                move || {
                    client.write_all(&sent).unwrap();
                    client
                }
            });
            rig.until("all bytes", |rig| rig.received_bytes(conn).len() >= len);
            assert!(rig.received_bytes(conn) == sent, "{len} bytes, {mode:?}");
            drop(writer.join().unwrap());
            rig.until("the end", |rig| rig.ended.get(&conn) == Some(&None));
        }
    }
}

fn data_that_waited_before_arming_is_received<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let mut rig = Rig::new(D::make(SIZES));
        let (mut client, conn) = rig.connect();
        client.write_all(b"early").unwrap();
        for _ in 0..3 {
            rig.turn_for(Duration::ZERO);
        }
        assert!(rig.received.is_empty(), "nothing was armed");
        rig.driver.arm_receive(conn, mode);
        rig.until("early bytes", |rig| rig.received_bytes(conn) == b"early");
    }
}

fn a_half_closed_client_still_gets_its_answer<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let mut rig = Rig::new(D::make(SIZES));
        let (mut client, conn) = rig.connect();
        rig.driver.arm_receive(conn, mode);
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        rig.until("end of the question", |rig| rig.ended.get(&conn) == Some(&None));
        assert_eq!(rig.received_bytes(conn), b"question");
        rig.driver.send_now(conn, &Bytes::from_static(b"answer"), 0);
        rig.driver.shutdown_send(conn);
        rig.turn_for(Duration::ZERO);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert_eq!(answer, b"answer");
        rig.driver.close(conn);
        rig.until("closed", |rig| rig.closed == [conn]);
    }
}

fn a_reset_is_told_by_receive_and_by_send<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let mut rig = Rig::new(D::make(SIZES));
        let (client, conn) = rig.connect();
        rig.driver.arm_receive(conn, mode);
        rig.turn_for(Duration::ZERO);
        reset(client);
        rig.until("reset", |rig| rig.ended.contains_key(&conn));
        assert_eq!(rig.ended[&conn], Some(libc::ECONNRESET));
        rig.driver.send_now(conn, &Bytes::from_static(b"late"), 0);
        rig.turn_for(Duration::ZERO);
        assert_eq!(rig.stopped, [(conn, 0, SendStop::Gone(libc::EPIPE))]);
    }
}

fn a_full_socket_stops_exactly_and_an_armed_send_completes_it<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (mut client, conn) = rig.connect();
    let chunk = Bytes::from(pattern(100_003, 5));
    let taken = rig.fill(conn, &chunk);
    // Goes on in the middle of a chunk, with more than any socket or piece holds.
    let big = pattern(HUGE, 6);
    let rest = Bytes::from([&chunk[taken % chunk.len()..], &big].concat());
    rig.driver.send_armed(conn, rest, 0);
    rig.turn_for(Duration::ZERO);
    assert!(rig.done.is_empty(), "no room yet");
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    rig.until("the rest", |rig| rig.done.len() == 1);
    rig.driver.send_armed(conn, Bytes::from(big.clone()), 11);
    rig.driver.shutdown_send(conn);
    rig.until("the big one", |rig| rig.done.len() == 2);
    assert_eq!(rig.done, [(conn, Ok(())), (conn, Ok(()))]);
    let all = reader.join().unwrap();
    let (in_chunks, in_big) = all.split_at((taken / chunk.len() + 1) * chunk.len());
    assert!(in_chunks.chunks(chunk.len()).all(|sent| sent == chunk));
    assert!(in_big == [&big, &big[11..]].concat());
}

fn an_armed_send_to_a_dead_peer_ends<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (client, conn) = rig.connect();
    let chunk = Bytes::from(pattern(HUGE, 1));
    rig.fill(conn, &chunk);
    rig.driver.send_armed(conn, chunk, 0);
    rig.turn_for(Duration::ZERO);
    reset(client);
    rig.until("the failure", |rig| rig.done.len() == 1);
    let (_, result) = rig.done[0];
    assert!(matches!(result, Err(libc::ECONNRESET | libc::EPIPE)), "{result:?}");
}

fn sent_bytes_are_released<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (mut client, conn) = rig.connect();
    let now = Bytes::from(pattern(1000, 1));
    rig.driver.send_now(conn, &now, 0);
    rig.turn_for(Duration::ZERO);
    assert!(now.is_unique(), "a send_now holds its bytes until the turn is over");
    read_exactly(&mut client, 1000);
    let armed = Bytes::from(pattern(1000, 2));
    rig.driver.send_armed(conn, armed.clone(), 0);
    rig.until("armed", |rig| rig.done.len() == 1);
    assert!(armed.is_unique());
    let chunk = Bytes::from(pattern(HUGE, 3));
    rig.fill(conn, &chunk);
    rig.driver.send_armed(conn, chunk.clone(), 0);
    rig.turn_for(Duration::ZERO);
    assert!(!chunk.is_unique(), "the kernel may still read it");
    rig.driver.close(conn);
    rig.until("closed", |rig| rig.closed == [conn]);
    assert!(chunk.is_unique());
}

fn after_close_nothing_but_closed_is_said<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let mut rig = Rig::new(D::make(SIZES));
        let (mut client, conn) = rig.connect();
        rig.driver.arm_receive(conn, mode);
        let chunk = Bytes::from(pattern(HUGE, 1));
        rig.fill(conn, &chunk);
        rig.driver.send_armed(conn, chunk, 0);
        rig.turn_for(Duration::ZERO);
        client.write_all(&pattern(100_000, 2)).unwrap();
        rig.stopped.clear();
        rig.driver.close(conn);
        rig.driver.close(conn);
        rig.received.clear();
        rig.until("closed", |rig| !rig.closed.is_empty());
        for _ in 0..10 {
            rig.turn_for(Duration::ZERO);
        }
        assert_eq!(rig.closed, [conn], "said once");
        assert!(rig.received.is_empty() && rig.ended.is_empty() && rig.done.is_empty());
        let gone = client.read_to_end(&mut Vec::new());
        assert!(gone.is_ok() || gone.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    }
}

fn bytes_sent_before_a_close_in_the_same_turn_arrive<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (mut client, conn) = rig.connect();
    rig.driver.send_now(conn, &Bytes::from_static(b"goodbye"), 0);
    rig.driver.close(conn);
    rig.until("closed", |rig| rig.closed == [conn]);
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert_eq!(all, b"goodbye");
}

fn a_stale_id_touches_nothing<D: Make>() {
    let mut rig = Rig::new(D::make(DriverSizes { connections: 1, ..SIZES }));
    let (_first, old) = rig.connect();
    rig.driver.close(old);
    rig.until("closed", |rig| rig.closed == [old]);
    let (mut second, new) = rig.connect();
    assert_eq!(new.slot, old.slot);
    assert_ne!(new, old);
    rig.driver.send_now(old, &Bytes::from_static(b"not yours"), 0);
    rig.driver.send_armed(old, Bytes::from_static(b"not yours"), 0);
    rig.driver.arm_receive(old, ReceiveMode::Poll);
    rig.driver.disarm_receive(old);
    rig.driver.shutdown_send(old);
    rig.driver.close(old);
    assert!(rig.driver.release(old).is_none());
    rig.turn_for(Duration::ZERO);
    rig.driver.send_now(new, &Bytes::from_static(b"yours"), 0);
    rig.turn_for(Duration::ZERO);
    assert_eq!(read_exactly(&mut second, 5), b"yours");
    assert_eq!(rig.closed, [old]);
    assert!(rig.done.is_empty() && rig.stopped.is_empty());
}

fn connections_over_the_cap_are_refused_and_slots_come_back<D: Make>() {
    let mut rig = Rig::new(D::make(DriverSizes { connections: 3, ..SIZES }));
    let (clients, conns) = rig.connect_many(3);
    let mut over = TcpStream::connect(rig.addr).unwrap();
    rig.until("refused", |rig| rig.refused == 1);
    assert_eq!(over.read(&mut [0]).unwrap_or(0), 0, "closed at once");
    rig.driver.close(conns[1]);
    rig.until("closed", |rig| rig.closed.len() == 1);
    let (_again, conn) = rig.connect();
    assert_eq!(conn.slot, conns[1].slot);
    assert_eq!(rig.driver.counters().refused, 1);
    drop(clients);
}

fn few_buffers_starve_nobody<D: Make>() {
    const SMALL: usize = 30;
    let sizes = DriverSizes {
        receive_buffers: 4,
        receive_buffer_bytes: 64,
        receive_bytes_per_turn: 128,
        ..SIZES
    };
    for modes in [
        [ReceiveMode::Poll, ReceiveMode::Poll],
        [ReceiveMode::Multishot, ReceiveMode::Multishot],
        [ReceiveMode::Multishot, ReceiveMode::Poll],
    ] {
        let mut rig = Rig::new(D::make(sizes));
        let (mut heavy, heavy_conns) = rig.connect_many(3);
        let (mut small, small_conns) = rig.connect_many(SMALL);
        for client in &heavy {
            client.set_nonblocking(true).unwrap();
        }
        for &conn in &heavy_conns {
            rig.driver.arm_receive(conn, modes[0]);
        }
        let block = pattern(1 << 16, 3);
        for (client, &conn) in small.iter_mut().zip(&small_conns) {
            rig.driver.arm_receive(conn, modes[1]);
            client.write_all(&pattern(150, conn.slot as usize)).unwrap();
        }
        // The heavy ones never run dry; what each of them got rid of has to arrive whole.
        let mut written = [0; 3];
        let all = |rig: &Rig<D>| small_conns.iter().all(|&c| rig.received_bytes(c).len() == 150);
        let mut turns = 0;
        while !all(&rig) {
            for (client, written) in heavy.iter_mut().zip(&mut written) {
                let at = *written % block.len();
                *written += client.write(&block[at..]).unwrap_or(0);
            }
            rig.turn();
            turns += 1;
            assert!(turns < 2_000, "{modes:?}: starved, counters {:?}", rig.driver.counters());
        }
        for &conn in &small_conns {
            assert!(rig.received_bytes(conn) == pattern(150, conn.slot as usize));
        }
        assert!(rig.driver.counters().receive_buffers_exhausted > 0, "buffers were short");
        for (&conn, written) in heavy_conns.iter().zip(written) {
            let mut turns = 0;
            while rig.received_bytes(conn).len() < written {
                rig.turn();
                turns += 1;
                assert!(turns < 100_000, "{modes:?}: {written} bytes were written");
            }
            let received = rig.received_bytes(conn).chunks(block.len());
            assert!(received.into_iter().all(|part| *part == block[..part.len()]), "{modes:?}");
            assert_eq!(rig.received_bytes(conn).len(), written, "{modes:?}");
        }
    }
}

fn one_sender_gets_its_share_of_a_turn_and_no_more<D: Make>() {
    let sizes = DriverSizes { receive_buffer_bytes: 256, receive_bytes_per_turn: 1024, ..SIZES };
    let mut rig = Rig::new(D::make(sizes));
    let (mut client, conn) = rig.connect();
    client.write_all(&pattern(50_000, 1)).unwrap();
    rig.driver.arm_receive(conn, ReceiveMode::Poll);
    while rig.received_bytes(conn).len() < 50_000 {
        rig.turn();
        let got = rig.received_last_turn.get(&conn).copied().unwrap_or(0);
        assert!(got <= 1024, "{got} bytes in a turn");
        assert!(rig.turns < TURNS_MAX);
    }
    assert!(rig.received_bytes(conn) == pattern(50_000, 1));
}

fn buffers_that_the_caller_keeps_are_waited_for<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let sizes = DriverSizes { receive_buffers: 2, receive_buffer_bytes: 16, ..SIZES };
        let mut rig = Rig::new(D::make(sizes));
        let (mut client, conn) = rig.connect();
        rig.driver.arm_receive(conn, mode);
        client.write_all(&pattern(64, 9)).unwrap();
        let mut kept = Vec::new();
        let mut out = Vec::new();
        for _ in 0..TURNS_MAX {
            rig.driver.turn(TURN, &mut out).unwrap();
            for completion in out.drain(..) {
                let Completion::Received { bytes, .. } = completion else { panic!() };
                kept.push(bytes);
            }
            if kept.len() == 2 {
                break;
            }
        }
        // All buffers are lent: the driver sleeps instead of trying again and again.
        let before = rig.driver.counters();
        for _ in 0..10 {
            rig.turn_for(Duration::from_millis(1));
        }
        let after = rig.driver.counters();
        assert!(after.enters - before.enters <= 30, "{before:?} {after:?}");
        assert!(rig.received.is_empty());
        let mut all = Vec::new();
        for bytes in kept {
            all.extend_from_slice(rig.driver.received(&bytes));
            rig.driver.recycle(bytes);
        }
        rig.until("the rest", |rig| rig.received_bytes(conn).len() == 32);
        all.extend_from_slice(rig.received_bytes(conn));
        assert!(all == pattern(64, 9), "{mode:?}");
    }
}

fn switching_modes_with_data_pending_never_hangs_or_swaps<D: Make>() {
    let sizes = DriverSizes {
        receive_buffers: 8,
        receive_buffer_bytes: 32,
        receive_bytes_per_turn: 96,
        ..SIZES
    };
    for seed in 0..40u64 {
        let mut rig = Rig::new(D::make(sizes));
        let (mut client, conn) = rig.connect();
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |below: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % below
        };
        let mut sent = Vec::new();
        for step in 0..200 {
            match next(5) {
                0 => rig.driver.arm_receive(conn, ReceiveMode::Poll),
                1 => rig.driver.arm_receive(conn, ReceiveMode::Multishot),
                2 => rig.driver.disarm_receive(conn),
                3 => {
                    let bytes = pattern(next(300) as usize, step);
                    client.write_all(&bytes).unwrap();
                    sent.extend(bytes);
                }
                _ => rig.turn_for(Duration::ZERO),
            }
        }
        let last = [ReceiveMode::Poll, ReceiveMode::Multishot][next(2) as usize];
        rig.driver.arm_receive(conn, last);
        rig.until("all bytes", |rig| rig.received_bytes(conn).len() >= sent.len());
        assert!(rig.received_bytes(conn) == sent, "seed {seed}");
        client.write_all(b"more").unwrap();
        rig.until("more", |rig| rig.received_bytes(conn).ends_with(b"more"));
    }
}

fn nothing_is_handed_up_while_disarmed<D: Make>() {
    for mode in [ReceiveMode::Poll, ReceiveMode::Multishot] {
        let mut rig = Rig::new(D::make(SIZES));
        let (mut client, conn) = rig.connect();
        rig.driver.arm_receive(conn, mode);
        client.write_all(b"one").unwrap();
        rig.until("one", |rig| rig.received_bytes(conn) == b"one");
        rig.driver.disarm_receive(conn);
        rig.turn_for(Duration::ZERO);
        rig.turn_for(Duration::ZERO);
        client.write_all(b"two").unwrap();
        for _ in 0..5 {
            rig.turn_for(Duration::from_millis(1));
        }
        assert_eq!(rig.received_bytes(conn), b"one");
        rig.driver.arm_receive(conn, mode);
        rig.until("two", |rig| rig.received_bytes(conn) == b"onetwo");
    }
}

fn no_wake_is_lost<D: Make>() {
    const ROUNDS: u64 = 20_000;
    let mut driver = D::make(SIZES);
    let waker = driver.waker();
    let (pushed, seen) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let pusher = std::thread::spawn({
        let (pushed, seen) = (pushed.clone(), seen.clone());
        move || {
            for round in 1..=ROUNDS {
                pushed.store(round, Ordering::Release);
                waker.wake();
                while seen.load(Ordering::Acquire) < round {
                    // Sometimes let the shard fall asleep, sometimes race it there.
                    if round % 3 == 0 {
                        std::thread::yield_now();
                    } else {
                        std::hint::spin_loop();
                    }
                }
            }
        }
    });
    let mut out = Vec::new();
    let asleep = Duration::from_secs(20);
    while seen.load(Ordering::Relaxed) < ROUNDS {
        let began = std::time::Instant::now();
        driver.turn(asleep, &mut out).unwrap();
        // A turn may end early for nothing (the write of a wake that was taken already), but one
        // that slept its whole time while somebody waited for it lost a wake.
        if out.drain(..).any(|completion| matches!(completion, Completion::Woken)) {
            seen.store(pushed.load(Ordering::Acquire), Ordering::Release);
        } else {
            assert!(began.elapsed() < asleep, "round {}", pushed.load(Ordering::Acquire));
        }
    }
    pusher.join().unwrap();
}

fn several_wakes_from_several_threads_wake_a_sleeper<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    for _ in 0..50 {
        let before = rig.woken;
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let waker = rig.driver.waker();
                std::thread::spawn(move || waker.wake())
            })
            .collect();
        rig.until("woken", |rig| rig.woken > before);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        // What is left of the four is said by the next turns, then it is quiet.
        rig.turn_for(Duration::ZERO);
        let quiet = rig.woken;
        rig.turn_for(Duration::ZERO);
        assert_eq!(rig.woken, quiet);
    }
}

fn a_connection_moves_to_another_driver<D: Make>() {
    let mut from = Rig::new(D::make(SIZES));
    let mut to = Rig::new(D::make(SIZES));
    let (mut client, conn) = from.connect();
    client.write_all(b"hello").unwrap();
    let socket = from.driver.release(conn).expect("nothing was armed");
    assert!(from.driver.release(conn).is_none(), "the id is dead");
    let conn = to.driver.adopt(socket).unwrap();
    to.driver.arm_receive(conn, ReceiveMode::Poll);
    to.until("hello", |rig| rig.received_bytes(conn) == b"hello");
    assert!(to.driver.release(conn).is_none(), "armed: not to be moved any more");
    let chunk = Bytes::from(pattern(HUGE, 1));
    let taken = to.fill(conn, &chunk);
    to.driver.send_armed(conn, chunk.clone(), 0);
    to.turn_for(Duration::ZERO);
    assert!(to.done.is_empty(), "an adopted socket waits for room like any other");
    let all = taken + HUGE;
    let reader = std::thread::spawn(move || read_exactly(&mut client, all).len());
    to.until("the rest", |rig| rig.done == [(conn, Ok(()))]);
    assert_eq!(reader.join().unwrap(), all);
}

fn after_stop_listening_connections_stay_and_new_ones_are_refused<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (mut client, conn) = rig.connect();
    rig.driver.stop_listening();
    rig.turn_for(Duration::ZERO);
    rig.turn_for(Duration::ZERO);
    let refused = TcpStream::connect(rig.addr).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    rig.driver.send_now(conn, &Bytes::from_static(b"still here"), 0);
    rig.turn_for(Duration::ZERO);
    assert_eq!(read_exactly(&mut client, 10), b"still here");
}

fn a_broadcast_reaches_two_thousand<D: Make>() {
    const COUNT: usize = 2_000;
    let mut rig = Rig::new(D::make(DriverSizes { receive_buffers: 4096, ..SIZES }));
    let (mut clients, conns) = rig.connect_many(COUNT);
    for &conn in &conns {
        rig.driver.arm_receive(conn, ReceiveMode::Poll);
    }
    for round in 0..5 {
        let frame = Bytes::from(pattern(128, round));
        for &conn in &conns {
            rig.driver.send_now(conn, &frame, 0);
        }
        rig.turn_for(Duration::ZERO);
        assert!(frame.is_unique());
    }
    assert!(rig.stopped.is_empty());
    let wanted: Vec<u8> = (0..5).flat_map(|round| pattern(128, round)).collect();
    for client in &mut clients {
        assert!(read_exactly(client, wanted.len()) == wanted);
        client.write_all(b"!").unwrap();
    }
    let turns = rig.turns;
    rig.until("answers", |rig| conns.iter().all(|&conn| rig.received_bytes(conn) == b"!"));
    let turns = rig.turns - turns;
    assert!(turns <= 8, "{turns} turns: large bursts make large turns, that is what coalesces");
    drop(clients);
    rig.until("ends", |rig| rig.ended.len() == COUNT);
    conns.iter().for_each(|&conn| rig.driver.close(conn));
    rig.until("closed", |rig| rig.closed.len() == COUNT);
    let slots = rig.driver.memory()[0].1;
    assert!(slots <= COUNT.next_power_of_two() * 64, "{slots} bytes for {COUNT} connections");
}

fn a_quiet_driver_sleeps<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (mut clients, conns) = rig.connect_many(10);
    for (index, &conn) in conns.iter().enumerate() {
        let mode = [ReceiveMode::Poll, ReceiveMode::Multishot][index % 2];
        rig.driver.arm_receive(conn, mode);
        clients[index].write_all(b"?").unwrap();
    }
    rig.until("questions", |rig| conns.iter().all(|&conn| rig.received_bytes(conn) == b"?"));
    // One ended, one blocked, one waked: each may leave something behind that keeps it busy.
    clients[0].shutdown(Shutdown::Write).unwrap();
    rig.until("end", |rig| rig.ended.len() == 1);
    let chunk = Bytes::from(pattern(HUGE, 1));
    rig.fill(conns[1], &chunk);
    rig.driver.send_armed(conns[1], chunk, 0);
    rig.driver.waker().wake();
    for _ in 0..5 {
        rig.turn_for(Duration::ZERO);
    }
    let before = rig.driver.counters();
    for _ in 0..20 {
        rig.turn_for(Duration::from_millis(1));
    }
    let after = rig.driver.counters();
    assert_eq!(after.completions, before.completions);
    assert!(after.enters - before.enters <= 40, "{before:?} {after:?}");
}

fn the_floor_reaches_everybody<D: Make>() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let mut clients: Vec<_> = (0..50).map(|_| TcpStream::connect(addr).unwrap()).collect();
    let frame = pattern(128, 1);
    match D::NAME {
        "uring" => {
            let mut floor = crate::uring::floor::Floor::new(listener.into(), 50).unwrap();
            floor.accept_all().unwrap();
            assert!(floor.round(&frame).unwrap() > Duration::ZERO);
            assert_eq!(floor.short(), 0);
        }
        _ => {
            let mut floor = crate::epoll::floor::Floor::new(listener.into(), 50).unwrap();
            floor.accept_all().unwrap();
            assert!(floor.round(&frame).unwrap() > Duration::ZERO);
            assert_eq!(floor.short(), 0);
        }
    }
    for client in &mut clients {
        assert_eq!(read_exactly(client, 128), frame);
    }
}

fn a_driver_is_dropped_with_everything_under_way<D: Make>() {
    let mut rig = Rig::new(D::make(SIZES));
    let (mut clients, conns) = rig.connect_many(20);
    let chunk = Bytes::from(pattern(HUGE, 1));
    for (index, &conn) in conns.iter().enumerate() {
        let mode = [ReceiveMode::Poll, ReceiveMode::Multishot][index % 2];
        rig.driver.arm_receive(conn, mode);
        if index % 4 < 2 {
            rig.fill(conn, &chunk);
            rig.driver.send_armed(conn, chunk.clone(), 0);
        }
    }
    rig.turn_for(Duration::ZERO);
    for client in &mut clients {
        client.write_all(b"unread").unwrap();
    }
    rig.driver.send_now(conns[2], &chunk, 0);
    drop(rig);
    assert!(chunk.is_unique(), "nothing is left in the kernel");
    for mut client in clients {
        let gone = client.read_to_end(&mut Vec::new());
        assert!(gone.is_ok() || gone.is_err_and(|e| e.kind() == ErrorKind::ConnectionReset));
    }
}

/// Runs in a process of its own, because the descriptor limit is the process's.
fn out_of_descriptors_accept_pauses_and_recovers<D: Make>() {
    const CHILD: &str = "SHARDCAST_TEST_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = format!("driver::tests::{}::{DESCRIPTORS}", D::NAME);
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &name, "--nocapture", "--test-threads=1"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&child.stdout);
        assert!(child.status.success(), "{said}{}", String::from_utf8_lossy(&child.stderr));
        assert!(said.contains("1 passed"), "the child ran nothing: {said}");
        return;
    }
    let mut rig = Rig::new(D::make(SIZES));
    let mut clients: Vec<_> = (0..10).map(|_| TcpStream::connect(rig.addr).unwrap()).collect();
    let next = std::fs::File::open("/dev/null").unwrap();
    let lowest = std::os::fd::AsRawFd::as_raw_fd(&next) as u64;
    drop(next);
    let before = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(lowest + 3), ..before }).unwrap();
    rig.until("paused", |rig| rig.paused == 1);
    assert_eq!(rig.accepted.len(), 3);
    // Two back-offs long: it tries again, says nothing, and sleeps in between.
    let enters = rig.driver.counters().enters;
    let began = std::time::Instant::now();
    let mut turns = 0;
    while began.elapsed() < Duration::from_millis(250) {
        rig.turn_for(Duration::from_millis(25));
        turns += 1;
    }
    assert_eq!((rig.accepted.len(), rig.paused), (3, 1));
    let enters = rig.driver.counters().enters - enters;
    assert!(turns < 30 && enters < 60, "spins: {turns} turns, {enters} enters");
    let (first, second) = (rig.accepted[0], rig.accepted[1]);
    rig.driver.close(first);
    rig.driver.close(second);
    rig.until("two more", |rig| rig.accepted.len() == 5);
    setrlimit(Resource::Nofile, before).unwrap();
    rig.until("all", |rig| rig.accepted.len() == 10);
    let last = *rig.accepted.last().unwrap();
    rig.driver.arm_receive(last, ReceiveMode::Poll);
    clients.last_mut().unwrap().write_all(b"alive").unwrap();
    rig.until("alive", |rig| rig.received_bytes(last) == b"alive");
}

const DESCRIPTORS: &str = "out_of_descriptors_accept_pauses_and_recovers";

macro_rules! on_both {
    ($($case:ident,)*) => {
        mod uring {
            $(#[test] fn $case() { super::$case::<super::UringDriver>(); })*
        }
        mod epoll {
            $(#[test] fn $case() { super::$case::<super::EpollDriver>(); })*
        }
    };
}

on_both! {
    data_of_all_sizes_arrives_in_both_modes,
    data_that_waited_before_arming_is_received,
    a_half_closed_client_still_gets_its_answer,
    a_reset_is_told_by_receive_and_by_send,
    a_full_socket_stops_exactly_and_an_armed_send_completes_it,
    an_armed_send_to_a_dead_peer_ends,
    sent_bytes_are_released,
    after_close_nothing_but_closed_is_said,
    bytes_sent_before_a_close_in_the_same_turn_arrive,
    a_stale_id_touches_nothing,
    connections_over_the_cap_are_refused_and_slots_come_back,
    few_buffers_starve_nobody,
    one_sender_gets_its_share_of_a_turn_and_no_more,
    buffers_that_the_caller_keeps_are_waited_for,
    switching_modes_with_data_pending_never_hangs_or_swaps,
    nothing_is_handed_up_while_disarmed,
    no_wake_is_lost,
    several_wakes_from_several_threads_wake_a_sleeper,
    a_connection_moves_to_another_driver,
    after_stop_listening_connections_stay_and_new_ones_are_refused,
    a_broadcast_reaches_two_thousand,
    a_quiet_driver_sleeps,
    the_floor_reaches_everybody,
    a_driver_is_dropped_with_everything_under_way,
    out_of_descriptors_accept_pauses_and_recovers,
}
