//! Templates and the catalog over HTTP.

fn main() {}
