//! Rules about the repository as a whole, which no compiler checks.

pub mod dependencies;
pub mod repository;
