//! Jobs over HTTP.

fn main() {}
