//! What one call may cost.

use serde_json::Value;

use crate::error::RenderError;

/// What one call to a render function may take, all strings of a JSON value together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Steps: one for each operation, and one for each 256 bytes that an operation looks at.
    pub fuel: u64,
    /// Bytes of everything that is computed or copied, results included.
    pub memory: usize,
    /// Bytes of one rendered text.
    pub output: usize,
}

impl Default for Limits {
    /// 1,000,000 steps, 8 MiB, and 256 KiB for one text.
    fn default() -> Self {
        Limits {
            fuel: 1_000_000,
            memory: 8 << 20,
            output: 256 << 10,
        }
    }
}

/// What is left of the [`Limits`].
#[derive(Debug)]
pub(crate) struct Meter {
    limits: Limits,
    fuel: u64,
    memory: usize,
}

impl Meter {
    pub(crate) fn new(limits: Limits) -> Meter {
        Meter {
            limits,
            fuel: limits.fuel,
            memory: limits.memory,
        }
    }

    pub(crate) fn output_limit(&self) -> usize {
        self.limits.output
    }

    /// Pays for one operation.
    pub(crate) fn step(&mut self) -> Result<(), RenderError> {
        self.burn(1)
    }

    /// Pays for looking at `bytes`.
    pub(crate) fn look(&mut self, bytes: usize) -> Result<(), RenderError> {
        self.burn(bytes as u64 / 256)
    }

    /// Pays for `bytes` before they are taken.
    pub(crate) fn take(&mut self, bytes: usize) -> Result<(), RenderError> {
        self.memory = self.memory.checked_sub(bytes).ok_or(RenderError::OutOfMemory {
            limit: self.limits.memory,
        })?;
        self.look(bytes)
    }

    /// Pays for a copy of `value`, then makes it.
    pub(crate) fn copy(&mut self, value: &Value) -> Result<Value, RenderError> {
        self.take(size(value))?;
        Ok(value.clone())
    }

    /// Pays for a copy of `text`, then makes it.
    pub(crate) fn copy_text(&mut self, text: &str) -> Result<String, RenderError> {
        self.take(text.len())?;
        Ok(text.to_owned())
    }

    fn burn(&mut self, fuel: u64) -> Result<(), RenderError> {
        self.fuel = self.fuel.checked_sub(fuel).ok_or(RenderError::OutOfFuel {
            limit: self.limits.fuel,
        })?;
        Ok(())
    }
}

/// About how many bytes `value` holds in memory.
pub(crate) fn size(value: &Value) -> usize {
    const CELL: usize = size_of::<Value>();
    CELL + match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(size).sum(),
        Value::Object(members) => members
            .iter()
            .map(|(key, member)| CELL + key.len() + size(member))
            .sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}
