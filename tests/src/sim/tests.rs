use super::{recorded, run};

/// Short runs, so that the whole stays under a minute in a debug build.
const TICKS: u64 = 3_000;

fn check(seed: u64) -> super::Outcome {
    match run(seed, TICKS, false) {
        Ok(outcome) => outcome,
        Err(failure) => panic!(
            "seed {seed}: {}\n{}\ncargo run -p tests --bin sim -- --seed {seed} --ticks {TICKS}",
            failure.what,
            failure.tail.join("\n")
        ),
    }
}

#[test]
fn recorded_seeds_keep_every_promise() {
    for (seed, _) in recorded() {
        check(seed);
    }
}

#[test]
fn a_seed_is_a_whole_world() {
    let outcomes: Vec<_> = (1..=8).map(check).collect();
    // Each world draws its own faults; together they must have done real work.
    assert!(outcomes.iter().map(|outcome| outcome.delivered).sum::<u64>() > 1_000, "{outcomes:?}");
    assert!(outcomes.iter().map(|outcome| outcome.durable).sum::<usize>() > 100, "{outcomes:?}");
    assert!(outcomes.iter().any(|outcome| outcome.boots > 3), "{outcomes:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    assert_eq!(check(3), check(3));
    assert_ne!(check(3).hash, check(4).hash);
}
