//! Plans what a deployment wants.

fn main() {}
