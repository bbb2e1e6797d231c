//! When to arm, receive, cancel and wait: the receive side of one connection as a pure state
//! machine.
//!
//! Invariants: at most one poll and at most one receive operation of a connection are in flight
//! (two receivers could swap bytes), so a switch of mode waits for the terminal completion of what
//! it cancelled. A poll is edge-like: it says only that something happened, so `readable` stays set
//! until a receive found the socket empty; arming a poll on a socket with data fires at once.
//!
//! Absent: the operations themselves, the buffers, the lists of who waits (the driver's). Tested
//! here against a model socket with every order of events.

use crate::driver::ReceiveMode;

/// What to submit, or to note, next. The machine assumes it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    ArmPoll,
    CancelPoll,
    Receive,
    ReceiveMulti,
    CancelMulti,
    /// Its bytes for this turn are used up: list it for the next.
    Later,
}

/// How a receive operation ended or went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Bytes came; `more`: the kernel says the socket has more.
    Bytes { more: bool },
    /// Nothing there (or interrupted, or cancelled).
    Empty,
    /// No free buffer.
    Starved,
    /// End of stream or failure.
    Ended,
}

/// Where a connection that found no buffer waits for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Queue {
    /// It got nothing since its last try: before all that got something. Without this, with fewer
    /// buffers than senders, the same ones would come too late every time.
    First,
    /// Behind everybody.
    Last,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Want {
    #[default]
    Nothing,
    Poll,
    Multi,
    /// The stream ended: nothing, for ever.
    Ended,
}

/// See the module. Eight bytes a connection.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Receive {
    want: Want,
    poll: Flight,
    multi: Flight,
    /// A one-shot receive is in flight.
    single: bool,
    /// The socket may have bytes.
    readable: bool,
    /// The peer hung up: read on to the end, even if the socket seems empty.
    hung_up: bool,
    /// In one of the driver's lists.
    listed: bool,
    /// The multishot receive got bytes since it was armed.
    fed: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Flight {
    #[default]
    Idle,
    /// In the kernel.
    Out,
    /// In the kernel, with a cancel behind it.
    Cancelling,
}

impl Receive {
    /// The caller's wish; `None` stops receiving.
    pub(super) fn wish(&mut self, mode: Option<ReceiveMode>) {
        if self.want != Want::Ended {
            self.want = match mode {
                None => Want::Nothing,
                Some(ReceiveMode::Poll) => Want::Poll,
                Some(ReceiveMode::Multishot) => Want::Multi,
            };
        }
    }

    /// What to do next; call until `None`. `room`: bytes are left for this turn.
    pub(super) fn step(&mut self, room: bool) -> Option<Step> {
        let step = match self.want {
            Want::Nothing | Want::Ended => self.cancel_poll().or_else(|| self.cancel_multi()),
            Want::Poll => self.step_poll(room),
            Want::Multi => self.step_multi(room),
        }?;
        match step {
            Step::ArmPoll => self.poll = Flight::Out,
            Step::CancelPoll => self.poll = Flight::Cancelling,
            Step::Receive => (self.single, self.readable) = (true, false),
            Step::ReceiveMulti => {
                (self.multi, self.fed, self.readable) = (Flight::Out, false, false);
            }
            Step::CancelMulti => self.multi = Flight::Cancelling,
            Step::Later => self.listed = true,
        }
        Some(step)
    }

    fn step_poll(&self, room: bool) -> Option<Step> {
        if self.multi != Flight::Idle {
            return self.cancel_multi();
        }
        if self.poll == Flight::Idle {
            return Some(Step::ArmPoll);
        }
        if !self.readable || self.single || self.listed {
            return None;
        }
        Some(if room { Step::Receive } else { Step::Later })
    }

    fn step_multi(&self, room: bool) -> Option<Step> {
        if let Some(cancel) = self.cancel_poll() {
            return Some(cancel);
        }
        match self.multi {
            Flight::Idle if self.single || self.listed => None,
            Flight::Idle if room => Some(Step::ReceiveMulti),
            Flight::Idle => Some(Step::Later),
            Flight::Out if !room => Some(Step::CancelMulti),
            Flight::Out | Flight::Cancelling => None,
        }
    }

    fn cancel_poll(&self) -> Option<Step> {
        (self.poll == Flight::Out).then_some(Step::CancelPoll)
    }

    fn cancel_multi(&self) -> Option<Step> {
        (self.multi == Flight::Out).then_some(Step::CancelMulti)
    }

    /// A completion of the poll.
    pub(super) fn polled(&mut self, hung_up: bool, terminal: bool) {
        self.readable = true;
        self.hung_up |= hung_up;
        if terminal {
            self.poll = Flight::Idle;
        }
    }

    /// The completion of a one-shot receive. `Some`: list it there.
    pub(super) fn received(&mut self, outcome: Outcome) -> Option<Queue> {
        self.single = false;
        self.ran(outcome)
    }

    /// A completion of the multishot receive. `Some`: list it there.
    pub(super) fn received_multi(&mut self, outcome: Outcome, terminal: bool) -> Option<Queue> {
        if terminal {
            self.multi = Flight::Idle;
        }
        self.fed |= matches!(outcome, Outcome::Bytes { .. });
        self.ran(outcome)
    }

    fn ran(&mut self, outcome: Outcome) -> Option<Queue> {
        match outcome {
            Outcome::Bytes { more } => self.readable |= more || self.hung_up,
            Outcome::Empty => {}
            Outcome::Ended => self.want = Want::Ended,
            Outcome::Starved => {
                self.readable = true;
                let fed = std::mem::replace(&mut self.fed, false);
                if !std::mem::replace(&mut self.listed, true) {
                    return Some(if fed { Queue::Last } else { Queue::First });
                }
            }
        }
        None
    }

    /// Taken off the driver's list.
    pub(super) fn unlist(&mut self) {
        self.listed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A socket and its kernel operations, as the machine sees them.
    #[derive(Default)]
    struct Model {
        receive: Receive,
        bytes: u32,
        delivered: u32,
        sent: u32,
        poll: Flight,
        /// Readiness the poll has not reported yet (edges coalesce).
        edge: bool,
        single: bool,
        multi: Flight,
        listed: bool,
        room: bool,
        wish: Option<ReceiveMode>,
    }

    #[derive(Debug, Clone)]
    enum Event {
        Data(u8),
        Wish(Option<ReceiveMode>),
        Poll { terminal: bool },
        Single { starved: bool },
        Multi { starved: bool, terminal: bool },
        Turn { room: bool },
    }

    fn events() -> impl Strategy<Value = Event> {
        prop_oneof![
            (1..4u8).prop_map(Event::Data),
            prop_oneof![
                Just(None),
                Just(Some(ReceiveMode::Poll)),
                Just(Some(ReceiveMode::Multishot)),
            ]
            .prop_map(Event::Wish),
            any::<bool>().prop_map(|terminal| Event::Poll { terminal }),
            any::<bool>().prop_map(|starved| Event::Single { starved }),
            any::<(bool, bool)>()
                .prop_map(|(starved, terminal)| Event::Multi { starved, terminal }),
            any::<bool>().prop_map(|room| Event::Turn { room }),
        ]
    }

    impl Model {
        fn apply(&mut self, event: Event) {
            match event {
                Event::Data(count) => {
                    self.bytes += u32::from(count);
                    self.sent += u32::from(count);
                    self.edge |= self.poll != Flight::Idle;
                }
                Event::Wish(wish) => {
                    self.wish = wish;
                    self.receive.wish(wish);
                }
                Event::Poll { terminal } => self.poll_completes(terminal),
                Event::Single { starved } => self.single_completes(starved),
                Event::Multi { starved, terminal } => self.multi_completes(starved, terminal),
                Event::Turn { room } => {
                    self.room = room;
                    if std::mem::take(&mut self.listed) {
                        self.receive.unlist();
                    }
                }
            }
            self.steps();
        }

        fn poll_completes(&mut self, terminal: bool) {
            if self.poll == Flight::Idle || !(self.edge || terminal) {
                return;
            }
            let terminal = terminal || self.poll == Flight::Cancelling;
            self.edge = false;
            if terminal {
                self.poll = Flight::Idle;
            }
            self.receive.polled(false, terminal);
        }

        fn single_completes(&mut self, starved: bool) {
            if !std::mem::take(&mut self.single) {
                return;
            }
            let outcome = match (self.bytes, starved) {
                (_, true) => Outcome::Starved,
                (0, _) => Outcome::Empty,
                _ => {
                    self.bytes -= 1;
                    self.delivered += 1;
                    Outcome::Bytes { more: self.bytes > 0 }
                }
            };
            self.listed |= self.receive.received(outcome).is_some();
        }

        fn multi_completes(&mut self, starved: bool, terminal: bool) {
            if self.multi == Flight::Idle {
                return;
            }
            let cancelled = self.multi == Flight::Cancelling;
            let outcome = match (self.bytes, starved) {
                (_, true) => Outcome::Starved,
                (0, _) if !cancelled => return,
                (0, _) => Outcome::Empty,
                _ => {
                    self.bytes -= 1;
                    self.delivered += 1;
                    Outcome::Bytes { more: self.bytes > 0 }
                }
            };
            let ends = matches!(outcome, Outcome::Starved | Outcome::Empty);
            let terminal = terminal || ends;
            if terminal {
                self.multi = Flight::Idle;
            }
            self.listed |= self.receive.received_multi(outcome, terminal).is_some();
        }

        fn steps(&mut self) {
            for _ in 0..8 {
                let Some(step) = self.receive.step(self.room) else { return };
                match step {
                    Step::ArmPoll => {
                        assert_eq!(self.poll, Flight::Idle, "one poll at a time");
                        self.poll = Flight::Out;
                        self.edge = self.bytes > 0;
                    }
                    Step::CancelPoll => self.poll = Flight::Cancelling,
                    Step::Receive => {
                        assert!(!self.single && self.multi == Flight::Idle, "one receiver");
                        assert!(self.room);
                        self.single = true;
                    }
                    Step::ReceiveMulti => {
                        assert!(!self.single && self.multi == Flight::Idle, "one receiver");
                        assert!(self.room);
                        self.multi = Flight::Out;
                    }
                    Step::CancelMulti => {
                        assert_eq!(self.multi, Flight::Out, "cancelled once");
                        self.multi = Flight::Cancelling;
                    }
                    Step::Later => {
                        assert!(!self.listed, "listed once");
                        self.listed = true;
                    }
                }
            }
            panic!("the steps of one event end");
        }
    }

    proptest! {
        #[test]
        fn data_is_never_left_unread_whatever_happened_before(
            script in proptest::collection::vec(events(), 0..60),
            last in prop_oneof![Just(ReceiveMode::Poll), Just(ReceiveMode::Multishot)],
        ) {
            let mut model = Model::default();
            for event in script {
                model.apply(event);
            }
            model.apply(Event::Wish(Some(last)));
            // From here the kernel and the caller behave; all that came must be handed up.
            for _ in 0..model.bytes * 2 + 10 {
                model.apply(Event::Turn { room: true });
                model.apply(Event::Poll { terminal: false });
                if model.poll == Flight::Cancelling {
                    model.apply(Event::Poll { terminal: true });
                }
                model.apply(Event::Single { starved: false });
                model.apply(Event::Multi { starved: false, terminal: false });
            }
            prop_assert_eq!(model.delivered, model.sent);
            let waits = model.poll != Flight::Idle || model.multi != Flight::Idle;
            prop_assert!(waits, "something waits for the next bytes");
        }
    }

    #[test]
    fn the_end_is_final_and_frees_the_kernels_memory() {
        let mut receive = Receive::default();
        receive.wish(Some(ReceiveMode::Poll));
        assert_eq!(receive.step(true), Some(Step::ArmPoll));
        receive.polled(true, false);
        assert_eq!(receive.step(true), Some(Step::Receive));
        assert_eq!(receive.received(Outcome::Bytes { more: false }), None);
        assert_eq!(receive.step(true), Some(Step::Receive), "a hang-up is read to its end");
        assert_eq!(receive.received(Outcome::Ended), None);
        receive.wish(Some(ReceiveMode::Multishot));
        assert_eq!(receive.step(true), Some(Step::CancelPoll));
        assert_eq!(receive.step(true), None);
    }

    #[test]
    fn who_got_nothing_goes_first() {
        let mut receive = Receive::default();
        receive.wish(Some(ReceiveMode::Multishot));
        assert_eq!(receive.step(true), Some(Step::ReceiveMulti));
        assert_eq!(receive.received_multi(Outcome::Starved, true), Some(Queue::First));
        assert_eq!(receive.step(true), None, "listed: waits for a buffer");
        receive.unlist();
        assert_eq!(receive.step(true), Some(Step::ReceiveMulti));
        receive.received_multi(Outcome::Bytes { more: true }, false);
        assert_eq!(receive.received_multi(Outcome::Starved, true), Some(Queue::Last));
    }
}
