//! Executions and the list of actions over HTTP.

fn main() {}
