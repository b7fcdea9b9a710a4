//! The functions as they are deployed: their size, how fast they start, the memory that takes.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::{Marks, machine, write_figures};
use crate::aws_local::{self, FUNCTIONS, Options, Profile, Stack};
use crate::net;
use crate::package::{self, LARGEST};
use crate::run::say;

pub(super) const MARKS: Marks = Marks {
    begin: "<!-- functions: from `cargo xtask bench functions --write` -->",
    end: "<!-- /functions -->",
};

/// The slowest median of the cold starts, in milliseconds.
const SLOWEST: f64 = 20.0;

/// Cold starts of each function.
const STARTS: usize = 15;

/// The stack that is measured.
const STACK: &str = "bench";

#[derive(Debug, Deserialize)]
struct Inits {
    inits_ms: Vec<f64>,
    peak_memory_kib: u64,
}

#[derive(Debug, PartialEq)]
struct Row {
    function: &'static str,
    megabytes: f64,
    init: f64,
    memory: f64,
}

/// Packages the functions and measures their cold starts on `aws-local`; with `write` the document is brought up to
/// date.
///
/// # Errors
/// When a function is over a target, after all are measured; when something does not build or start.
pub fn functions(write: bool, out: &mut dyn Write) -> Result<()> {
    let archives = package::run(&package::Options::default(), &mut std::io::sink())?;
    say("measuring cold starts");
    let stack = aws_local::up(&Options {
        name: STACK.to_owned(),
        profile: Profile::Function,
        arguments: vec!["--no-schedule".to_owned()],
        ..Options::default()
    })?;
    let measured = FUNCTIONS
        .into_iter()
        .map(|function| {
            let archive = archives.iter().find(|archive| archive.name == function);
            let archive = archive.with_context(|| format!("{function} has no archive"))?;
            row(function, archive.megabytes(), &stack)
        })
        .collect::<Result<Vec<_>>>();
    aws_local::down(STACK)?;
    let rows = measured?;
    let figures = format!("{}\n\n{}", machine(), table(&rows));
    writeln!(out, "{figures}")?;
    if write {
        write_figures(MARKS, &figures)?;
    }
    let over: Vec<_> = rows.iter().filter_map(over_target).collect();
    if !over.is_empty() {
        bail!("over target: {}", over.join("; "));
    }
    Ok(())
}

fn row(function: &'static str, megabytes: f64, stack: &Stack) -> Result<Row> {
    let order = serde_json::json!({"function": function, "times": STARTS}).to_string();
    let address = stack.control.strip_prefix("http://").unwrap_or(&stack.control);
    let (address, path) = address.split_once('/').context("the controls have a path")?;
    let answer = net::post(address, &format!("/{path}/init"), &order)
        .with_context(|| format!("cannot measure the cold starts of {function}"))?;
    let mut measured: Inits =
        serde_json::from_str(&answer).with_context(|| format!("the cold starts of {function}: {answer}"))?;
    measured.inits_ms.sort_by(f64::total_cmp);
    let init = measured.inits_ms.get(measured.inits_ms.len() / 2);
    Ok(Row {
        function,
        megabytes,
        init: *init.with_context(|| format!("{function} was not started"))?,
        memory: f64::from(u32::try_from(measured.peak_memory_kib)?) / 1024.0,
    })
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "| function | archive, at most {LARGEST} MB | init, median of {STARTS}, at most {SLOWEST} ms | memory after init |\n\
         | --- | --- | --- | --- |"
    );
    for row in rows {
        let _ = write!(
            text,
            "\n| {} | {:.2} MB | {:.1} ms | {:.1} MiB |",
            row.function, row.megabytes, row.init, row.memory
        );
    }
    text
}

fn over_target(row: &Row) -> Option<String> {
    let mut over = Vec::new();
    if row.megabytes > LARGEST {
        over.push(format!(
            "its archive has {:.2} MB of at most {LARGEST}",
            row.megabytes
        ));
    }
    if row.init > SLOWEST {
        over.push(format!("its init takes {:.1} ms of at most {SLOWEST}", row.init));
    }
    (!over.is_empty()).then(|| format!("{}: {}", row.function, over.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(megabytes: f64, init: f64) -> Row {
        Row {
            function: "plan-dag",
            megabytes,
            init,
            memory: 10.0,
        }
    }

    #[test]
    fn each_target_that_is_missed_is_named() {
        assert_eq!(over_target(&sample(5.0, 20.0)), None);
        assert_eq!(
            over_target(&sample(5.5, 31.0)).unwrap(),
            "plan-dag: its archive has 5.50 MB of at most 5, its init takes 31.0 ms of at most 20"
        );
    }

    #[test]
    fn the_table_has_a_line_for_each_function() {
        let table = table(&[sample(4.0, 12.34)]);
        assert!(
            table.ends_with("\n| plan-dag | 4.00 MB | 12.3 ms | 10.0 MiB |"),
            "{table}"
        );
    }
}
