//! What commands print.

use std::io::{self, IsTerminal as _, Write as _};

use clap::ValueEnum;
use serde_json::Value;
use slipway_model::{ComponentDeployment, Timestamp};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// The API's own JSON.
    Json,
}

/// How the shell names the end of a program by SIGPIPE.
const READER_GONE: i32 = 141;

/// Prints to standard output. Where that is not possible the program ends, and not with success: what it would say
/// later is not heard. A reader that has gone away (`| head`) ends it quietly.
pub(crate) fn say(text: &str) {
    let mut out = io::stdout().lock();
    let written = out
        .write_all(text.as_bytes())
        .and_then(|()| {
            if text.ends_with('\n') {
                Ok(())
            } else {
                out.write_all(b"\n")
            }
        })
        .and_then(|()| out.flush());
    match written {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(READER_GONE),
        Err(error) => {
            remark(&format!("error: standard output cannot be written: {error}"));
            std::process::exit(1);
        }
    }
}

/// Prints a remark that is not the result.
pub(crate) fn remark(text: &str) {
    // Nobody is left to tell when this fails.
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints JSON.
pub(crate) fn say_json(value: &Value) {
    say(&format!("{value:#}"));
}

/// Whether a person looks at a terminal.
pub(crate) fn on_a_terminal() -> bool {
    io::stdout().is_terminal() && io::stderr().is_terminal()
}

/// Columns of text under headings, as wide as they must be.
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self {
            rows: vec![headings.map(str::to_owned).to_vec()],
        }
    }

    /// With one more row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows
            .push(cells.map(|cell| cell.replace(['\n', '\r', '\t'], " ")).to_vec());
    }

    /// Whether there is nothing under the headings.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let columns = self.rows[0].len();
        let width = |column: usize| {
            let cells = self.rows.iter().map(|row| row[column].chars().count());
            cells.max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(&format!("{cell:<width$}  "));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Seconds as people read them: `42s`, `3m07s`, `1h02m`.
pub(crate) fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
    }
}

/// A point in time without its milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    let text = at.to_string();
    match text.split_once('.') {
        Some((seconds, _)) => format!("{seconds}Z"),
        None => text,
    }
}

/// A text that may be absent.
pub(crate) fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// The word that an enum has on the command line.
pub(crate) fn word_of(value: &impl ValueEnum) -> String {
    value
        .to_possible_value()
        .map(|value| value.get_name().to_owned())
        .unwrap_or_default()
}

/// The word that an enum has in JSON.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

/// How a component stands, and whether its release was kept as it was.
pub(crate) fn standing(component: &ComponentDeployment) -> String {
    let status = word(&component.status);
    match component.kept {
        true => format!("{status}, kept"),
        false => status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_aligns_its_columns_and_keeps_rows_on_one_line() {
        let mut table = Table::new(["NAME", "STATUS"]);
        table.row(["a-long-name".to_owned(), "RUNNING".to_owned()]);
        table.row(["ü".to_owned(), "two\nlines".to_owned()]);
        assert_eq!(
            table.to_string(),
            "NAME         STATUS\na-long-name  RUNNING\nü            two lines\n"
        );
    }

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(0), "0s");
        assert_eq!(duration(187), "3m07s");
        assert_eq!(duration(3_725), "1h02m");
    }

    #[test]
    fn times_lose_their_milliseconds() {
        assert_eq!(
            time(Timestamp::from_millis(1_700_000_000_123)),
            "2023-11-14T22:13:20Z"
        );
    }
}
