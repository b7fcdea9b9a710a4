//! Ends the steps whose jobs have ended.

fn main() {}
