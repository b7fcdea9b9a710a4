//! Clusters over HTTP.

fn main() {}
