//! Claims and runs steps.

fn main() {}
