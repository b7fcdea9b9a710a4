//! Deployments over HTTP.

fn main() {}
