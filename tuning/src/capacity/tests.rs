//! The example whose answers are known, properties over random inputs, and the texts.

use super::*;
use proptest::prelude::*;

fn chat() -> Inputs {
    example("chat-1m").expect("it is listed")
}

fn planned(change: impl FnOnce(&mut Inputs)) -> Plan {
    let mut inputs = chat();
    change(&mut inputs);
    plan(&inputs).expect("it can be planned")
}

fn dimension<'a>(plan: &'a Plan, name: &str) -> &'a Dimension {
    plan.dimensions.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no {name}"))
}

#[test]
fn the_example_gives_the_corrected_answers() {
    assert_eq!(planned(|_| ()).servers, 50);
    assert_eq!(planned(|it| it.reserve.peak = 1.0).servers, 25);
    assert_eq!(planned(|it| it.reserve.n_minus_1 = true).servers, 51);
    let bare = planned(|it| (it.reserve.peak, it.reserve.headroom_percent) = (1.0, 0.0));
    assert_eq!((bare.servers, bare.limiting.as_str()), (17, "messages out"));
    let cost = planned(|_| ()).cost.unwrap();
    assert_eq!(cost.servers, 18_000.0);
}

#[test]
fn the_examples_table_is_reproduced_column_by_column() {
    let plan = planned(|_| ());
    for (name, average, peak, ratio, servers) in [
        ("connections", 10.0, 10.0, 15.0, 15),
        ("messages in", 1.666_667, 3.333_333, 5.0, 5),
        ("messages out", 16.666_667, 33.333_333, 50.0, 50),
    ] {
        let found = dimension(&plan, name);
        for (is, wanted) in [(found.average, average), (found.peak, peak), (found.ratio, ratio)] {
            assert!((is - wanted).abs() < 1e-6, "{name}: {is} and not {wanted}");
        }
        assert_eq!(found.servers, servers, "{name}");
    }
    // Payload alone is the table's last row; framing and heartbeats come on top of it.
    let link = &dimension(&plan, "bandwidth out").terms[0];
    let payload = link.factors.iter().filter(|it| !it.name.starts_with("with framing"));
    let payload = payload.fold(1.0, |product, factor| factor.apply(product));
    assert!((payload - 4.0).abs() < 1e-9, "{payload}");
    assert!((plan.traffic.message_bytes_on_link - 316.0).abs() < 1e-9);
    assert!((plan.traffic.payload_bits_per_s / 1e9 - 1.333_333).abs() < 1e-6);
    assert_eq!(plan.traffic.rooms, 40_000.0);
    assert_eq!(plan.traffic.heartbeats_per_s, 40_000.0);
    assert!((plan.traffic.payload_bytes_month / 1e12 - 432.0).abs() < 1e-6);
}

#[test]
fn connections_become_the_limit_when_fan_out_is_cheap() {
    let plan = planned(|it| it.server.out_per_s = Some(500_000.0));
    assert_eq!((plan.servers, plan.limiting.as_str()), (15, "connections"));
    assert_eq!(dimension(&plan, "messages out").servers, 5);
}

/// A plan bills what a server that runs like it would say it sent.
#[test]
fn a_plan_and_a_live_server_bill_the_same_bytes() {
    let plan = planned(|_| ());
    let it = &plan.traffic;
    // 200 of payload, 4 of WebSocket, 22 of TLS; of a heartbeat 2 and 22.
    let (messages, beats) = (it.out_per_s, it.heartbeats_per_s);
    let live = billed_bytes(messages, messages * 226.0) + billed_bytes(beats, beats * 24.0);
    assert!((live * 2_592_000.0 / it.billed_bytes_month - 1.0).abs() < 1e-9);
    assert_eq!(billed_bytes(1.0, 226.0), 278.0);
    // Several segments, several sends, and what left without one.
    assert_eq!(billed_bytes(2.0, 2.0 * 1_449.0), 2.0 * (1_449.0 + 104.0));
    assert_eq!((billed_bytes(0.0, 100.0), billed_bytes(5.0, 0.0)), (152.0, 0.0));
}

#[test]
fn rates_that_are_given_replace_the_cpu_they_would_take_and_nothing_else() {
    let names = |change: &dyn Fn(&mut Server)| -> (Vec<String>, Vec<String>) {
        let plan = planned(|it| {
            it.server = Server::of_profile(&PROFILES[1]);
            it.server.admitted = Some(Admitted { plain: 7e5, tls: 5e5 });
            change(&mut it.server);
        });
        let terms = dimension(&plan, "CPU").terms.iter().map(|term| term.name.clone()).collect();
        (plan.dimensions.iter().map(|it| it.name.clone()).collect(), terms)
    };
    let (dimensions, terms) = names(&|_| ());
    let kept = ["connections", "CPU", "memory", "memory budget", "bandwidth out", "bandwidth in"];
    assert_eq!(dimensions, kept);
    assert_eq!(terms.len(), 4, "{terms:?}");
    let (dimensions, terms) = names(&|it| it.out_per_s = Some(1e6));
    assert!(kept.iter().all(|name| dimensions.iter().any(|it| it == name)), "{dimensions:?}");
    assert!(dimensions.iter().any(|name| name == "messages out"), "{dimensions:?}");
    assert_eq!(terms, ["taking messages of users", "connecting", "heartbeats"]);
    let (_, terms) = names(&|it| (it.in_per_s, it.out_per_s) = (Some(1e6), Some(1e6)));
    assert_eq!(terms, ["connecting", "heartbeats"]);
}

#[test]
fn no_server_is_planned_to_hold_more_than_its_budget_admits() {
    let with = |tls: bool| {
        planned(|it| {
            it.server = Server::of_profile(&PROFILES[1]);
            it.server.admitted = Some(Admitted { plain: 600_000.0, tls: 400_000.0 });
            it.wire.tls = tls;
            it.load.messages_per_user_min = 0.01;
            (it.reserve.peak, it.reserve.headroom_percent) = (1.0, 0.0);
        })
    };
    assert_eq!((with(false).servers, with(true).servers), (2, 3));
    let plan = with(true);
    assert_eq!(plan.limiting, "memory budget");
    assert!(plan.notes.iter().any(|note| note.contains("config --limits")), "{:?}", plan.notes);
    let without = plan.effects.iter().find(|it| it.name == "without TLS").unwrap();
    assert_eq!(without.servers, 2, "the other budget counts without TLS");
}

#[test]
fn what_the_costs_were_measured_with_is_said_where_messages_are_larger() {
    let notes = |bytes: f64, given: Option<f64>| {
        let plan = planned(|it| {
            it.server = Server::of_profile(&PROFILES[1]);
            (it.load.message_bytes, it.server.out_per_s) = (bytes, given);
        });
        plan.notes.iter().any(|note| note.contains("measured with messages of 128 bytes"))
    };
    assert!(notes(10_000.0, None));
    assert!(!notes(200.0, None) && !notes(10_000.0, Some(1e6)));
}

#[test]
fn a_pods_page_says_nothing_of_servers_that_nobody_asked_for() {
    let mut plan = planned(|it| it.pod_memory_bytes = Some(2e9));
    plan.pod.as_mut().unwrap().allowed = Some(2_232);
    assert!(pod_page(&plan).contains("<h1>2,232 connections</h1>"), "what serve takes there");
    plan.pod.as_mut().unwrap().allowed = None;
    let page = pod_page(&plan);
    let pod = plan.pod.as_ref().unwrap();
    assert!(page.contains(&format!(
        "<h1>{} connections</h1>",
        super::number::plain(pod.connections as f64)
    )));
    assert!(
        !page.contains("servers") && !page.contains("users") && !page.contains("<svg"),
        "{page}"
    );
    let json = serde_json::to_value(PodPlan::of(&plan)).unwrap();
    assert_eq!(json["pod"]["connections"], pod.connections);
    assert!(json.get("servers").is_none() && json.get("inputs").is_none(), "{json}");
}

#[test]
fn a_skipped_sender_is_one_receiver_less() {
    let plan = planned(|it| it.load.skip_sender = true);
    assert_eq!(plan.traffic.recipients, 49.0);
    assert_eq!(plan.servers, 49);
}

#[test]
fn an_idle_timeout_keeps_the_active_time_and_itself() {
    let plan = planned(|it| it.load.idle_timeout_min = Some(18.0));
    assert_eq!(plan.traffic.connections, 500_000.0);
    assert_eq!(plan.servers, 25);
    let long = planned(|it| it.load.idle_timeout_min = Some(600.0));
    assert_eq!(long.traffic.connections, 1_000_000.0);
}

#[test]
fn a_fleet_that_follows_the_peak_has_the_days_average() {
    let plan = planned(|it| it.reserve.peak_hours = Some(4.0));
    let elastic = plan.cost.unwrap().elastic.unwrap();
    assert_eq!(elastic.rest, 0.8);
    assert_eq!(elastic.servers_rest, 20);
    assert_eq!(elastic.servers, (50.0 * 4.0 + 20.0 * 20.0) * 30.0 * 0.5);
}

#[test]
fn batches_share_segments_and_records() {
    let one = planned(|_| ()).traffic;
    let batched = planned(|it| it.wire.batch_ms = 60_000.0).traffic;
    assert!(batched.batch > 50.0);
    assert!(batched.message_bytes_on_link < one.message_bytes_on_link - 90.0);
    assert_eq!(batched.message[0], one.message[0]);
}

#[test]
fn sse_has_its_own_framing_and_no_compression() {
    let plan = planned(|it| (it.wire.transport, it.wire.deflate) = (Transport::Sse, 0.4));
    assert_eq!(plan.traffic.message[1].bytes, 37.0);
    assert_eq!(plan.traffic.message[0].bytes, 200.0);
    assert!(plan.notes.iter().any(|note| note.contains("--deflate")), "{:?}", plan.notes);
}

#[test]
fn small_messages_are_not_compressed_and_that_is_said() {
    let plan = planned(|it| it.wire.deflate = 0.4);
    assert_eq!(plan.traffic.message[0].bytes, 200.0);
    assert!(plan.notes.iter().any(|note| note.contains("ws_deflate_bytes_min")));
    let large = planned(|it| (it.wire.deflate, it.load.message_bytes) = (0.4, 1_000.0));
    assert_eq!(large.traffic.message[0].bytes, 400.0);
}

#[test]
fn a_pod_is_filled_to_its_headroom() {
    let plan = planned(|it| {
        it.pod_memory_bytes = Some(2e9);
        it.server.bytes =
            Bytes { user: 400.0, kernel: 4_000.0, tls: 4_000.0, channel: 100.0, base: 1e8 };
    });
    // (2e9 - 1e8) / (400 + 100 for the second room + 4000 + 4000) / 1.5
    assert_eq!(plan.pod.unwrap().connections, 149_019);
}

#[test]
fn a_measured_server_is_planned_by_cpu_and_memory() {
    let found = Calibration::parse(include_str!("reference.json")).unwrap();
    let plan = planned(|it| it.server = Server::measured(&found));
    let names: Vec<&str> = plan.dimensions.iter().map(|it| it.name.as_str()).collect();
    assert_eq!(names, ["connections", "CPU", "memory"]);
    // Batches spare sends, and only those.
    let batched = planned(|it| {
        it.server = Server::measured(&found);
        it.wire.batch_ms = 10_000.0;
    });
    assert!(dimension(&batched, "CPU").ratio < dimension(&plan, "CPU").ratio);
    assert_eq!(dimension(&batched, "memory").terms, dimension(&plan, "memory").terms);
}

#[test]
fn managed_services_are_compared_at_the_prices_given() {
    let managed = Managed::parse("cloud, messages=2.5, connections=1, gb=0.1, base=29").unwrap();
    let plan = planned(|it| it.managed.push(managed));
    let [cloud] = &plan.managed[..] else { panic!("{:?}", plan.managed) };
    // 16,667 in and 833,333 out a second are 2.2032 * 10^12 in 30 days.
    assert!((cloud.messages - 2_203_200.0 * 2.5).abs() < 1.0, "{cloud:?}");
    assert_eq!(cloud.connections, 1_000.0);
    assert!((cloud.transfer - 43_200.0).abs() < 0.01, "{cloud:?}");
    let ours = plan.cost.unwrap().total;
    assert_eq!(cloud.times_ours, Some(cloud.total / ours));
    for text in ["", "cloud", "messages=1", "c,messages", "c,messages=x", "c,messages=nan", "c,y=1"]
    {
        assert!(Managed::parse(text).is_err(), "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_by_its_flag() {
    let check = |flag: &str, change: &dyn Fn(&mut Inputs)| {
        let mut inputs = chat();
        change(&mut inputs);
        let error = plan(&inputs).expect_err(flag);
        assert_eq!(error.flag, flag, "{error}");
        assert!(!error.message.is_empty());
    };
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
        check("--users", &|it| it.load.users = bad);
        check("--users-per-room", &|it| it.load.users_per_room = bad);
        check("--server-out", &|it| it.server.out_per_s = Some(bad));
        check("--server-memory", &|it| it.server.memory_bytes = Some(bad));
        check("--heartbeat-s", &|it| it.wire.heartbeat_s = bad);
        check("--peak", &|it| it.reserve.peak = bad);
        check("--pod-memory", &|it| it.pod_memory_bytes = Some(bad));
    }
    check("--messages-per-user-min", &|it| it.load.messages_per_user_min = f64::NAN);
    check("--headroom", &|it| it.reserve.headroom_percent = -1.0);
    check("--headroom", &|it| it.reserve.headroom_percent = 0.5);
    check("--peak-hours", &|it| it.reserve.peak_hours = Some(13.0));
    check("--active-min", &|it| it.load.active_min = 61.0);
    check("--users-per-room", &|it| it.load.users_per_room = 3e6);
    check("--users-per-room", &|it| (it.load.skip_sender, it.load.users_per_room) = (true, 1.0));
    check("--pod-memory", &|it| it.pod_memory_bytes = Some(1e6));
    check("--profile", &|it| it.server = Server::given());
    check("--managed", &|it| {
        it.managed.push(Managed::parse("x,base=-1").unwrap());
    });
}

#[test]
fn a_calibration_that_cannot_be_is_refused_with_what_to_do() {
    let good = include_str!("reference.json");
    let whole = Calibration::parse(good).unwrap();
    assert_eq!(Calibration::parse(&whole.to_json()).unwrap(), whole);
    let with = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut value: serde_json::Value = serde_json::from_str(good).unwrap();
        change(&mut value);
        value.to_string()
    };
    for (text, said) in [
        (String::new(), "not JSON"),
        (good[..good.len() / 2].to_owned(), "not JSON"),
        ("[1]".to_owned(), "not a calibration"),
        ("{\"servers\": 50}".to_owned(), "not a calibration"),
        (with(&|it| it["format"] = "shardcast calibration 9".into()), "calibration 9"),
        (with(&|it| it["costs"]["send_us"] = (-1.0).into()), "send_us"),
        (with(&|it| it["costs"]["ingest_us"] = 0.0.into()), "ingest_us"),
        (with(&|it| it["costs"]["accept_us"] = "much".into()), "invalid type"),
        (with(&|it| it["process_share"] = 7.0.into()), "process_share"),
        (with(&|it| it["cores"] = 0.into()), "cores"),
        (with(&|it| it["bytes"]["user"] = 1e300.into()), "bytes.user"),
        (with(&|it| it["extra"] = 1.into()), "unknown field"),
    ] {
        let error = Calibration::parse(&text).expect_err(said).to_string();
        assert!(error.contains(said) && error.contains("bench --calibrate"), "{error}");
    }
}

#[test]
fn the_page_holds_everything_and_asks_for_nothing() {
    let plan = planned(|it| {
        it.managed.push(Managed::parse("a<b>&\"c\",messages=1").unwrap());
        it.server.name = "<script>alert(1)</script>".to_owned();
        it.pod_memory_bytes = Some(2e9);
    });
    let page = page(&plan);
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "<script", "<link", "//"]
    {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("50 servers") && page.contains("messages out"));
    assert!(page.contains("a&lt;b&gt;&amp;&quot;c&quot;"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    assert_eq!(page.matches("class=\"wide\"").count(), page.matches("class=\"narrow\"").count());
    assert!(!page.contains("NaN") && !page.contains("inf"));
}

#[test]
fn json_has_the_whole_plan_and_gives_it_back() {
    let plan = planned(|it| {
        it.managed.push(Managed::parse("x,messages=0.1").unwrap());
        it.reserve.peak_hours = Some(3.0);
        it.pod_memory_bytes = Some(3e9);
    });
    let json = serde_json::to_string(&plan).unwrap();
    let back: Plan = serde_json::from_str(&json).unwrap();
    assert_eq!(back, plan);
    assert_eq!(super::plan(&back.inputs).unwrap(), plan);
}

/// The golden text; `SHARDCAST_ACCEPT=1` writes it.
#[test]
fn the_text_is_what_it_was() {
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/capacity/chat-1m.txt");
    let text = text(&planned(|_| ()));
    if std::env::var_os("SHARDCAST_ACCEPT").is_some() {
        std::fs::write(golden, &text).unwrap();
    }
    let wanted = std::fs::read_to_string(golden).unwrap_or_default();
    assert!(text == wanted, "{golden} differs; SHARDCAST_ACCEPT=1 accepts this:\n{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
}

fn anything() -> impl Strategy<Value = Inputs> {
    let load = (2.0..1e9_f64, 0.5..20.0_f64, 1.0..500.0_f64, 0.0..600.0_f64, 0.0..1e6_f64);
    let more = (1.0..1e6_f64, 1.0..500.0_f64, 0.1..1.0_f64, 0.05..1.0_f64, 0.0..1_000.0_f64);
    let policy = (1.0..20.0_f64, 1.0..300.0_f64, any::<[bool; 6]>(), 0.1..100.0_f64, 0..5_usize);
    (load, more, policy).prop_map(|(load, more, policy)| {
        let mut inputs = chat();
        let it = &mut inputs.load;
        (it.users, it.rooms_per_user, it.users_per_room) = (load.0.round(), load.1, load.2);
        it.users_per_room = it.users_per_room.min(it.users * it.rooms_per_user).max(1.0);
        (it.messages_per_user_min, it.events_per_s) = (load.3, load.4);
        (it.message_bytes, it.session_min) = (more.0, more.1);
        it.active_min = more.1 * more.2;
        let [sse, tls, idle, spare, profiled, skip] = policy.2;
        it.skip_sender = skip && it.users_per_room >= 2.0;
        it.idle_timeout_min = idle.then_some(policy.3);
        let it = &mut inputs.wire;
        it.transport = if sse { Transport::Sse } else { Transport::Ws };
        (it.tls, it.delta, it.batch_ms) = (tls, more.3, more.4);
        let it = &mut inputs.reserve;
        (it.peak, it.headroom_percent, it.n_minus_1) = (policy.0, policy.1, spare);
        if profiled {
            inputs.server = Server::of_profile(&PROFILES[policy.4]);
        }
        inputs
    })
}

/// One thing more of.
fn more(inputs: &Inputs, what: usize, times: f64) -> Inputs {
    let mut more = inputs.clone();
    match what {
        0 => more.load.users *= times,
        1 => more.load.messages_per_user_min *= times,
        2 => more.load.events_per_s *= times,
        3 => more.load.users_per_room *= times,
        4 => more.reserve.peak *= times,
        5 => more.reserve.headroom_percent *= times,
        6 => more.load.rooms_per_user *= times,
        _ => more.load.idle_timeout_min = more.load.idle_timeout_min.map(|it| it * times),
    }
    more
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn more_of_anything_never_needs_fewer_servers(
        inputs in anything(), what in 0..8_usize, times in 1.0..10.0_f64,
    ) {
        let more = more(&inputs, what, times);
        if let (Ok(fewer), Ok(more)) = (plan(&inputs), plan(&more)) {
            prop_assert!(more.servers >= fewer.servers, "{} < {}", more.servers, fewer.servers);
            for (one, other) in fewer.dimensions.iter().zip(&more.dimensions) {
                prop_assert_eq!(&one.name, &other.name);
                prop_assert!(other.servers >= one.servers, "{}: {:?} {:?}", one.name, one, other);
            }
        }
    }

    #[test]
    fn every_factor_multiplies_out_and_the_longest_sum_is_the_plan(inputs in anything()) {
        let plan = plan(&inputs).unwrap();
        let mut most = 1;
        for dimension in &plan.dimensions {
            let mut sum = 0.0;
            for term in &dimension.terms {
                let product = term.factors.iter().fold(1.0, |it, factor| match factor.op {
                    Op::Times => it * factor.value,
                    Op::Over => it / factor.value,
                });
                prop_assert_eq!(product, term.ratio);
                prop_assert!(term.factors.is_sorted_by_key(|factor| factor.stage));
                sum += product;
            }
            prop_assert_eq!(sum, dimension.ratio);
            prop_assert!(dimension.ratio <= dimension.servers as f64 * (1.0 + 1e-8));
            prop_assert!(dimension.servers as f64 <= dimension.ratio + 1.0);
            prop_assert!(dimension.average <= dimension.peak * (1.0 + 1e-12));
            most = most.max(dimension.servers);
        }
        prop_assert_eq!(plan.servers, most + plan.spare);
    }

    #[test]
    fn no_plan_says_nan_and_all_of_it_can_be_shown(inputs in anything()) {
        let plan = plan(&inputs).unwrap();
        for text in [text(&plan), page(&plan), serde_json::to_string(&plan).unwrap()] {
            prop_assert!(!text.contains("NaN") && !text.contains("null,null"));
            prop_assert!(!text.contains(" inf"));
        }
    }

    #[test]
    fn any_numbers_at_all_are_planned_or_refused(
        values in proptest::collection::vec(any::<f64>(), 12),
    ) {
        let mut inputs = chat();
        let places: [&mut f64; 11] = [
            &mut inputs.load.users, &mut inputs.load.rooms_per_user,
            &mut inputs.load.users_per_room, &mut inputs.load.messages_per_user_min,
            &mut inputs.load.message_bytes, &mut inputs.load.session_min,
            &mut inputs.wire.heartbeat_s, &mut inputs.reserve.peak,
            &mut inputs.reserve.headroom_percent, &mut inputs.wire.batch_ms,
            &mut inputs.wire.delta,
        ];
        // One at a time is refused at its place; the first is tried alone more often.
        let count = (values[11].to_bits() % 3) as usize + 1;
        for (place, value) in places.into_iter().zip(&values).take(count) {
            *place = *value;
        }
        if let Ok(plan) = plan(&inputs) {
            prop_assert!(plan.servers >= 1);
        }
    }

    #[test]
    fn no_text_breaks_a_parser(text in any::<String>()) {
        let _ = (parse_number(&text), parse_bytes(&text), parse_percent(&text));
        let _ = Managed::parse(&text);
        prop_assert!(Calibration::parse(&text).is_err());
    }
}
