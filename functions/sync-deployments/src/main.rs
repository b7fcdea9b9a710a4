//! The schedule: what is due, lost or dead.

fn main() {}
