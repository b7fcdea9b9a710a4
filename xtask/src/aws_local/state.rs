//! What is remembered of a stack between two commands.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::Stack;
use crate::process::Process;

/// The content of a stack's `state.json`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct State {
    /// Its processes, in the order in which they were started.
    pub(super) processes: Vec<Process>,
    /// Where it answers, once it did.
    pub(super) stack: Option<Stack>,
}

impl State {
    pub(super) fn read(file: &Path) -> Result<Option<Self>> {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
        };
        let state = serde_json::from_str(&text).with_context(|| {
            format!(
                "{} is damaged; end the processes of the stack by hand, then remove its folder",
                file.display()
            )
        })?;
        Ok(Some(state))
    }

    /// Writes the state whole or not at all; the token in it is for its owner only.
    pub(super) fn write(&self, file: &Path) -> Result<()> {
        let scratch = tempfile::NamedTempFile::new_in(file.parent().context("a state lies in a folder")?)?;
        fs::write(scratch.path(), serde_json::to_vec_pretty(self)?)?;
        scratch
            .persist(file)
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(())
    }

    /// Remembers one more process at once, so that it can be ended even if nothing after it succeeds.
    pub(super) fn push(&mut self, process: Process, file: &Path) -> Result<()> {
        self.processes.push(process);
        self.write(file)
    }

    /// Where the stack answers, if all of it runs.
    pub(super) fn running(&self) -> Option<&Stack> {
        self.stack
            .as_ref()
            .filter(|_| self.processes.iter().all(Process::is_alive))
    }
}
