//! Every deliberate bug is found, and by the checks that are there for it.

use slipway_simulator::{Mutant, Options, play_choices, play_seed, shrink};

/// Seeds within which each has to be found.
const SEEDS: u64 = 4000;

/// Where the search begins, near a seed that finds the bug, because most seeds know nothing of rare ones.
fn first(mutant: Mutant) -> u64 {
    match mutant {
        Mutant::MarkFirstInstallFailed => 470,
        Mutant::HelmOutlivesParent => 1285,
        Mutant::HookAgain => 550,
        Mutant::NeverGiveUp => 1495,
        Mutant::SleepersAreForgotten => 160,
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
        let found = (first(mutant)..first(mutant) + SEEDS).find_map(|seed| {
            let broken = play_seed(seed, &options).violation?.invariant;
            mutant.breaks().contains(&broken).then_some((seed, broken))
        });
        match found {
            Some((seed, broken)) => println!("{mutant:?}: seed {seed}, {broken:?}"),
            None => missed.push(mutant),
        }
    }
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}

#[test]
fn a_failing_run_is_made_small_and_fails_the_same_way_when_it_is_played_again() {
    for mutant in [Mutant::DeleteClaims, Mutant::ChartsPanic] {
        let options = Options {
            mutant: Some(mutant),
            ..Options::default()
        };
        let (choices, violation) = (1..SEEDS)
            .map(|seed| play_seed(seed, &options))
            .find_map(|outcome| Some((outcome.choices, outcome.violation?)))
            .unwrap();
        let small = shrink(&choices, violation.invariant, &options, 300);
        assert!(
            small.len() * 2 < choices.len(),
            "{mutant:?}: {} of {} decisions are left",
            small.len(),
            choices.len()
        );
        let again = play_choices(&small, &options).violation.unwrap();
        assert_eq!(again.invariant, violation.invariant);
        assert!(mutant.breaks().contains(&again.invariant), "{again}");
    }
}
