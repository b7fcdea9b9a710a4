//! The same seed is the same run, to the letter, whoever plays it.

use std::process::Command;

use slipway_simulator::{Options, play_choices, play_seed};

fn traced() -> Options {
    Options {
        traced: true,
        ..Options::default()
    }
}

#[test]
fn the_same_seed_leaves_the_same_trace() {
    for seed in 1..40 {
        let (first, again) = (play_seed(seed, &traced()), play_seed(seed, &traced()));
        assert_eq!(first.trace, again.trace, "seed {seed}");
        assert_eq!(first.digest, again.digest);
        let replayed = play_choices(&first.choices, &traced());
        assert_eq!(
            first.trace, replayed.trace,
            "seed {seed}, from the decisions that it made"
        );
        let untraced = play_seed(seed, &Options::default());
        assert_eq!(first.digest, untraced.digest, "seed {seed}, without a trace");
    }
    assert_ne!(
        play_seed(1, &Options::default()).digest,
        play_seed(2, &Options::default()).digest
    );
}

#[test]
fn two_processes_leave_the_same_trace() {
    let program = env!("CARGO_BIN_EXE_slipway-simulate");
    let play = |seed: &str| Command::new(program).args(["--seed", seed]).output().unwrap();
    for seed in ["3", "17", "23"] {
        let (first, again) = (play(seed), play(seed));
        assert!(first.stdout.len() > 1000, "seed {seed} shows what happens");
        assert_eq!(first.stdout, again.stdout, "seed {seed}");
    }
}
