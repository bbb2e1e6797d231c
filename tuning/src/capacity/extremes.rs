//! Every number that a flag accepts, at the ends of what it accepts and anywhere between: planned
//! or refused, never a panic, an overflow or a figure that is none.

use super::*;
use proptest::prelude::*;
use proptest::sample::select;

type Place = fn(&mut Inputs, f64);

/// A number of the inputs: how it is put in, the least and the most that is accepted.
const NUMBERS: &[(Place, f64, f64)] = &[
    (|it, value| it.load.users = value, 1.0, 1e12),
    (|it, value| it.load.rooms_per_user = value, 0.001, 1e6),
    (|it, value| it.load.users_per_room = value, 1.0, 1e12),
    (|it, value| it.load.messages_per_user_min = value, 0.0, 1e9),
    (|it, value| it.load.events_per_s = value, 0.0, 1e12),
    (|it, value| it.load.message_bytes = value, 1.0, 1e9),
    (|it, value| it.load.session_min = value, 0.01, 1e6),
    (|it, value| it.load.active_min = value, 0.0, 1e6),
    (|it, value| it.load.idle_timeout_min = Some(value), 0.1, 1e6),
    (|it, value| it.wire.delta = value, 0.001, 1.0),
    (|it, value| it.wire.deflate = value, 0.001, 1.0),
    (|it, value| it.wire.deflate_bytes_min = value, 0.0, 1e9),
    (|it, value| it.wire.heartbeat_s = value, 1.0, 1e6),
    (|it, value| it.wire.batch_ms = value, 0.0, 60_000.0),
    (|it, value| it.server.connections = Some(value), 1.0, 1e12),
    (|it, value| it.server.in_per_s = Some(value), 0.001, 1e15),
    (|it, value| it.server.out_per_s = Some(value), 0.001, 1e15),
    (|it, value| it.server.link_gbps = Some(value), 1e-6, 1e6),
    (|it, value| it.server.memory_bytes = Some(value), 1.0, 1e18),
    (|it, value| it.server.cores = value, 0.01, 1e6),
    (|it, value| it.server.admitted = Some(Admitted { plain: value, tls: value }), 1.0, 1e12),
    (|it, value| it.reserve.peak = value, 1.0, 1_000.0),
    (|it, value| it.reserve.peak_hours = Some(value), 0.01, 23.99),
    (|it, value| it.reserve.headroom_percent = value, 0.0, 1_000.0),
    (|it, value| it.prices.server_hour = Some(value), 0.0, 1e6),
    (|it, value| it.prices.per_gb = Some(value), 0.0, 1e6),
    (|it, value| it.pod_memory_bytes = Some(value), 1.0, 1e18),
];

fn base() -> Inputs {
    let mut inputs = example("chat-1m").expect("it is listed");
    inputs.server = Server::of_profile(&PROFILES[1]);
    inputs
}

/// What is refused only beside another number is made to go with it.
fn fitting(mut inputs: Inputs) -> Inputs {
    let load = &mut inputs.load;
    load.users_per_room = load.users_per_room.min(load.users * load.rooms_per_user).max(1.0);
    load.rooms_per_user = load.rooms_per_user.max(load.users_per_room / load.users);
    load.active_min = load.active_min.min(load.session_min);
    load.skip_sender &= load.users_per_room >= 2.0;
    let base = inputs.server.bytes.base;
    for bytes in [&mut inputs.server.memory_bytes, &mut inputs.pod_memory_bytes] {
        *bytes = bytes.map(|bytes| bytes.max(base + 1.0));
    }
    if inputs.reserve.headroom_percent < 1.0 {
        inputs.reserve.headroom_percent = 0.0;
    }
    let peak = inputs.reserve.peak;
    inputs.reserve.peak_hours = inputs.reserve.peak_hours.filter(|hours| hours * peak <= 24.0);
    inputs
}

/// Each of the numbers as it is, at one of its ends, or between them.
fn anything_accepted() -> impl Strategy<Value = Inputs> {
    let one = (0..4_u8, 0.0..1.0_f64);
    let numbers = proptest::collection::vec(one, NUMBERS.len());
    (numbers, any::<[bool; 5]>()).prop_map(|(chosen, [sse, tls, skip, spare, given])| {
        let mut inputs = base();
        if given {
            inputs.server = Server::given();
        }
        for ((put, least, most), (which, share)) in NUMBERS.iter().zip(chosen) {
            match which {
                0 => {}
                1 => put(&mut inputs, *least),
                2 => put(&mut inputs, *most),
                _ => put(&mut inputs, (least + (most - least) * share).clamp(*least, *most)),
            }
        }
        inputs.wire.transport = if sse { Transport::Sse } else { Transport::Ws };
        inputs.wire.tls = tls;
        inputs.load.skip_sender = skip;
        inputs.reserve.n_minus_1 = spare;
        fitting(inputs)
    })
}

/// The table is that of the flags: each end is accepted, and what is beyond it is not.
#[test]
fn the_ends_are_those_of_the_flags() {
    for (index, (put, least, most)) in NUMBERS.iter().enumerate() {
        for (value, accepted) in [
            (*least, true),
            (*most, true),
            (least - 1e-7 - least * 1e-7, false),
            (most * 1.001, false),
        ] {
            let mut inputs = base();
            put(&mut inputs, value);
            let found = match accepted {
                true => plan(&fitting(inputs)),
                false => plan(&inputs),
            };
            match found {
                Err(error) if accepted => assert_eq!(error.flag, "the load", "{index}: {error}"),
                found => assert_eq!(found.is_ok(), accepted, "{index}: {value}"),
            }
        }
    }
}

#[test]
fn more_servers_than_can_be_counted_are_said_to_be_that() {
    let mut inputs = base();
    (inputs.load.users, inputs.load.users_per_room) = (1e12, 1e12);
    (inputs.load.messages_per_user_min, inputs.load.message_bytes) = (1e9, 1e9);
    inputs.reserve.n_minus_1 = true;
    let error = plan(&inputs).expect_err("no fleet is that large").to_string();
    assert!(error.starts_with("the load: bandwidth out asks for "), "{error}");
    assert!(error.contains("more than can be counted (1e15)"), "{error}");
    // Just below it the plan is made, and no more users than can be are shown beside it.
    let mut inputs = example("chat-1m").expect("it is listed");
    (inputs.load.users, inputs.server.out_per_s) = (1e11, Some(0.001));
    let plan = plan(&inputs).expect("it can be counted");
    assert!(plan.servers > 100_000_000_000_000, "{}", plan.servers);
    assert!(plan.growth.iter().all(|it| it.servers as f64 <= 1e15));
    assert_eq!(plan.growth.len(), 6, "ten times as many cannot be counted");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_flags_accept_is_planned_or_refused(inputs in anything_accepted()) {
        match plan(&inputs) {
            Ok(plan) => {
                prop_assert!(plan.servers >= 1 && plan.servers <= 1_000_000_000_000_001);
                prop_assert!(!plan.dimensions.is_empty());
                let json = serde_json::to_string(&plan).unwrap();
                for text in [text(&plan), pod_text(&plan), page(&plan), pod_page(&plan), json] {
                    prop_assert!(!text.contains("NaN") && !text.contains(" inf"), "{}", text);
                }
            }
            // Nothing else is left that could be wrong.
            Err(error) => prop_assert!(
                error.flag == "the load" || error.flag == "--profile", "{}", error
            ),
        }
    }

    /// A size that no list has, in every place at once.
    #[test]
    fn sizes_out_of_this_world_are_refused(value in select(vec![
        f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -1.0, -0.5, 1e300, f64::MAX,
    ])) {
        for (put, ..) in NUMBERS {
            let mut inputs = base();
            put(&mut inputs, value);
            prop_assert!(plan(&inputs).is_err());
        }
    }
}
