//! `cargo xtask infra check`: the templates of `infra/` are right, safe, and say the same.

mod alarms;
mod canonical;
mod compare;
mod memory;
mod permissions;
mod queues;
mod routes;
mod template;
mod tools;

use std::time::Instant;

use anyhow::Result;

use crate::run::say;

pub use permissions::{Call, Grants, Judgement, World, judge};
pub use template::Template;

/// A check: its name, and what it finds wrong, as sentences.
type Check = (&'static str, fn() -> Result<Vec<String>>);

/// Runs every check, and says how long each took. Returns what is wrong, as sentences.
///
/// # Errors
/// When a part cannot be set up or does not run.
pub fn check() -> Result<Vec<String>> {
    let checks: [Check; 10] = [
        ("sam validate --lint", tools::sam),
        ("cfn-lint", tools::cfn_lint),
        ("checkov", tools::checkov),
        ("tsc, eslint, prettier", tools::typescript),
        ("cdk synth with cdk-nag", tools::synthesise),
        ("SAM and CDK say the same", tools::compare),
        (
            "alarms have their section in docs/operations.md",
            alarms::violations,
        ),
        ("functions and queues agree", queues::violations),
        ("Helm has the memory that it may take", memory::violations),
        ("permissions name actions and resources", permissions::violations),
    ];
    let mut found = Vec::new();
    for (name, run) in checks {
        let start = Instant::now();
        let wrong = run()?;
        let verdict = if wrong.is_empty() { "ok" } else { "WRONG" };
        say(&format!(
            "{name}: {verdict} ({:.1} s)",
            start.elapsed().as_secs_f32()
        ));
        found.extend(wrong.into_iter().map(|sentence| format!("{name}: {sentence}")));
    }
    Ok(found)
}
