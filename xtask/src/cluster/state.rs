//! What is remembered of a cluster between two commands.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::process::Process;

/// The content of a cluster's `state.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Its processes, in the order in which they were started.
    pub(super) processes: Vec<Process>,
    /// Whether it once was ready as a whole.
    pub(super) complete: bool,
}

impl State {
    /// The state of a cluster, or nothing when there is none.
    pub(super) fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let state = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged; end the processes of the cluster by hand, then remove its folder",
                file.display()
            )
        })?;
        Ok(Some(state))
    }

    /// Writes the state whole or not at all.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let scratch = file.with_extension("new");
        fs::write(&scratch, serde_json::to_vec_pretty(self)?)
            .and_then(|()| fs::rename(&scratch, file))
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// Remembers one more process at once, so that it can be ended even if nothing after it succeeds.
    pub(super) fn push(&mut self, process: Process, file: &Path) -> Result<()> {
        self.processes.push(process);
        self.write(file)
    }
}
