//! Outputs of steps: short ones stand in the step's record, large ones in a blob of their own.

use serde_json::Value;
use sha2::{Digest, Sha256};
use slipway_model::{Execution, JsonMap, StepRecord, json_size};
use slipway_ports::Item;

use crate::{App, AppError};

/// Largest outputs that stand in the record, as JSON.
pub(crate) const INLINE_OUTPUTS: usize = 4 * 1024;

/// Whether outputs are larger than `limit` bytes of JSON.
pub(crate) fn larger_than(outputs: &JsonMap, limit: usize) -> bool {
    // Most outputs are a handful of short texts: only what may be large is measured.
    let may_be_large = outputs.len() > 16
        || outputs.iter().any(|(name, value)| match value {
            Value::String(text) => name.len() + text.len() > 128,
            Value::Array(_) | Value::Object(_) => true,
            _ => name.len() > 128,
        });
    may_be_large && json_size(outputs) > limit
}

/// A name for what is in `parts`, one after the other: 32 hexadecimal digits.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> String {
    let mut digest = Sha256::new();
    parts.into_iter().for_each(|part| digest.update(part));
    let digest = digest.finalize();
    digest[..16].iter().map(|byte| format!("{byte:02x}")).collect()
}

impl App {
    /// The item of a step's record: due when its claim expires, its wait ends or its deadline passes. Large outputs of
    /// a step that ended are written to a blob, which is named by what is in it: whoever repeats it, and whoever
    /// crashes before the record is written, does no harm.
    pub(crate) async fn step_item(
        &self,
        header: &Execution,
        ordinal: u32,
        record: &StepRecord,
    ) -> Result<Item, AppError> {
        let mut item = if record.status.is_terminal() && larger_than(&record.outputs, INLINE_OUTPUTS) {
            let data = Item::of(&record.outputs).body.into_bytes();
            let blob = format!(
                "{}/executions/{}/outputs-{ordinal}-{}.json",
                header.tenant,
                header.id,
                digest([&*data])
            );
            self.blobs.put(&blob, data).await?;
            let mut record = record.clone();
            record.outputs.clear();
            record.outputs_blob = Some(blob);
            Item::of(&record)
        } else {
            Item::of(record)
        };
        let due = match record.lease_until {
            // Nobody does anything about a claim before it expires.
            Some(until) => Some(until),
            None => [record.wake_at, record.deadline].into_iter().flatten().min(),
        };
        item = item.due_at(due.filter(|_| !record.status.is_terminal()));
        item.expires_at = self.parts_kept_until(header);
        Ok(item)
    }

    /// The outputs of a step.
    pub(crate) async fn outputs_of(&self, record: StepRecord) -> Result<JsonMap, AppError> {
        let Some(blob) = record.outputs_blob else {
            return Ok(record.outputs);
        };
        let Some(data) = self.blobs.get(&blob).await? else {
            tracing::warn!(blob, "the outputs of a step are gone");
            return Ok(JsonMap::new());
        };
        let stored = slipway_ports::Stored {
            key: slipway_ports::Key::new(blob, ""),
            body: String::from_utf8_lossy(&data).into_owned(),
            version: 0,
        };
        Ok(stored.read()?)
    }
}
