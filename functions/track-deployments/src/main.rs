//! Turns progress into the status of deployments.

fn main() {}
