//! Runs Helm jobs, phase by phase.

fn main() {}
