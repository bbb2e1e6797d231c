use super::*;
use crate::config::Config;

/// A server of 10,000 connections that delivers 10,000 messages a second, for a price.
fn calibration() -> Calibration {
    let text = include_str!("../../../../tuning/src/capacity/reference.json");
    let mut found = Calibration::parse(text).unwrap();
    found.process_share = 1.0;
    found.ledger_bytes = 300.0;
    found.costs = tuning::capacity::Costs {
        send_us: 8.0,
        message_us: 2.0,
        ingest_us: 5.0,
        accept_us: 50.0,
        heartbeat_us: 10.0,
    };
    found
}

fn watch(calibration: Option<Calibration>) -> CostWatch {
    let mut cost = Config::default().cost;
    cost.server_hour = 0.36.try_into().unwrap();
    cost.per_gb = 0.1.try_into().unwrap();
    CostWatch::new(cost, calibration, 25, false)
}

/// The state at a moment, if everything goes on as it began.
fn sample(at_s: f64, cpu_share: f64, bytes_each: u64) -> Sample {
    Sample {
        at_s,
        cpu_s: at_s * cpu_share,
        connections: 10_000,
        connection_bytes: 10_000 * bytes_each,
        messages: (at_s * 10_000.0) as u64,
        sends: (at_s * 10_000.0) as u64,
        bytes_sent: (at_s * 2_000_000.0) as u64,
        ..Sample::default()
    }
}

/// 10,000 deliveries of 10 us a second, and 400 heartbeats of 10 us.
const PREDICTED: f64 = 0.104;

#[test]
fn money_is_shared_among_connections_and_messages() {
    let mut watch = watch(None);
    watch.observe(sample(100.0, 0.1, 300));
    assert_eq!(watch.live().per_message, 0.0, "one sample is no stretch of time");
    watch.observe(sample(110.0, 0.1, 300));
    let live = watch.live();
    // 0.0001 a second for the server, 0.0002 for 2 MB and 0.000052 for TCP's and IP's own bytes.
    assert!((live.per_message - 3.52e-8).abs() < 1e-15, "{live:?}");
    assert!((live.per_connection - 3.52e-4 * 2_592_000.0 / 10_000.0).abs() < 1e-9, "{live:?}");
    assert!((live.message_cpu_seconds - 1e-5).abs() < 1e-12, "{live:?}");
    assert_eq!(live.connection_bytes, 300.0);
    assert_eq!((live.drift_memory, live.drift_cpu), (0.0, 0.0), "nothing to compare with");
}

#[test]
fn nobody_connected_and_nothing_sent_is_no_division() {
    let mut watch = watch(Some(calibration()));
    for at_s in [0.0, 10.0, 10.0, 50.0] {
        let idle = Sample { at_s, cpu_s: at_s, ..Sample::default() };
        assert_eq!(watch.observe(idle), []);
        assert_eq!(watch.live(), LiveCost::default());
    }
}

#[test]
fn a_server_like_the_model_is_not_warned_about() {
    let mut watch = watch(Some(calibration()));
    for step in 0..100 {
        assert_eq!(watch.observe(sample(f64::from(step) * 10.0, PREDICTED * 1.2, 300)), []);
    }
    assert!((watch.live().drift_cpu - 0.2).abs() < 1e-6, "{:?}", watch.live());
    assert_eq!(watch.live().drift_memory, 0.0);
}

#[test]
fn drift_is_said_at_once_and_then_ever_more_rarely() {
    let mut watch = watch(Some(calibration()));
    let mut told = Vec::new();
    for step in 0..800_u32 {
        let at_s = f64::from(step) * 10.0;
        for warning in watch.observe(sample(at_s, PREDICTED * 1.5, 450)) {
            assert!((warning.drift - 0.5).abs() < 1e-6, "{warning:?}");
            told.push((warning.figure, step * 10));
        }
    }
    let times = |figure| -> Vec<u32> {
        told.iter().filter(|(known, _)| *known == figure).map(|(_, at)| *at).collect()
    };
    assert_eq!(times(MEMORY), [0, 600, 1_800, 4_200]);
    // CPU needs half a window first.
    assert_eq!(times(CPU), [30, 630, 1_830, 4_230]);
}

#[test]
fn what_calmed_down_is_said_at_once_when_it_comes_back() {
    let mut watch = watch(Some(calibration()));
    let mut told = Vec::new();
    for step in 0..40_u32 {
        let bytes = if (10..20).contains(&step) { 300 } else { 100 };
        let at_s = f64::from(step) * 10.0;
        told.extend(watch.observe(sample(at_s, PREDICTED, bytes)).iter().map(|_| step));
    }
    assert_eq!(told, [0, 20]);
}

#[test]
fn too_little_to_judge_is_not_judged() {
    let mut watch = watch(Some(calibration()));
    for step in 0..20 {
        let quiet = Sample {
            at_s: f64::from(step) * 10.0,
            cpu_s: f64::from(step),
            connections: 999,
            connection_bytes: 999 * 5_000,
            messages: step as u64,
            ..Sample::default()
        };
        assert_eq!(watch.observe(quiet), []);
    }
}

#[test]
fn a_clock_that_stands_still_fills_no_memory() {
    let mut watch = watch(None);
    for _ in 0..10_000 {
        watch.observe(sample(1.0, 0.1, 300));
    }
    assert!(watch.samples.len() <= SAMPLES_MAX + 1);
}
