//! Progress in a pipe: one line per change.

use std::{collections::BTreeMap, time::Instant};

use slipway_app::DeploymentProgress;
use slipway_model::{DeploymentStatus, ExecutionProgress, ExecutionStatus};

use super::{Display, share};
use crate::output::{self, duration, standing, word};

/// A line whenever a component, or the deployment, changes.
pub(super) struct DeploymentLines {
    begun: Instant,
    status: Option<DeploymentStatus>,
    components: BTreeMap<String, String>,
}

impl DeploymentLines {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            status: None,
            components: BTreeMap::new(),
        }
    }

    fn changes(&mut self, progress: &DeploymentProgress) -> Vec<String> {
        let mut changes = Vec::new();
        for line in &progress.components {
            let name = &line.component.component_name;
            let mut text = standing(&line.component);
            if let Some(wait) = &line.waiting_for {
                text.push_str(&format!(", waits for {wait}"));
            }
            if let Some(message) = &line.component.error_message {
                text.push_str(&format!(": {message}"));
            }
            if self.components.get(name) != Some(&text) {
                changes.push(format!("{name}: {text}"));
                self.components.insert(name.clone(), text);
            }
        }
        if self.status != Some(progress.status) {
            let share = share(progress.percent, progress.eta_seconds);
            let why = progress
                .error_message
                .iter()
                .map(|message| format!(": {message}"));
            changes.push(format!(
                "{} ({share}){}",
                progress.status.as_str(),
                why.collect::<String>()
            ));
            self.status = Some(progress.status);
        }
        changes
    }
}

impl Display<DeploymentProgress> for DeploymentLines {
    fn update(&mut self, progress: &DeploymentProgress) {
        let elapsed = duration(self.begun.elapsed().as_secs());
        for change in self.changes(progress) {
            output::say(&format!("{elapsed:>6}  {}", change.replace('\n', " | ")));
        }
    }

    fn end(&mut self) {}
}

/// A line whenever a whole percent is done, or the status changes.
#[derive(Default)]
pub(super) struct ExecutionLines {
    last: Option<(ExecutionStatus, u32)>,
}

impl Display<ExecutionProgress> for ExecutionLines {
    fn update(&mut self, progress: &ExecutionProgress) {
        let hundredth = (progress.total_steps / 100).max(1);
        let now = (progress.status, progress.finished_steps / hundredth);
        if self.last != Some(now) {
            self.last = Some(now);
            output::say(&format!(
                "{} {} of {} steps ({})",
                word(&progress.status),
                progress.finished_steps,
                progress.total_steps,
                share(progress.percent, progress.eta_seconds)
            ));
        }
    }

    fn end(&mut self) {}
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn progress(status: &str, component: &str, wait: Option<&str>) -> DeploymentProgress {
        serde_json::from_value(json!({
            "deployment_id": "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b",
            "status": status,
            "percent": 50.0,
            "components": [{
                "component_name": "llm",
                "component_type": "model",
                "release_name": "x-llm",
                "cluster_id": "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b",
                "status": component,
                "updated_at": "2026-01-01T00:00:00Z",
                "waiting_for": wait,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn only_changes_make_lines() {
        let mut lines = DeploymentLines::new();
        let deploying = progress("DEPLOYING", "DEPLOYING", Some("Deployment/x: image pull"));
        assert_eq!(
            lines.changes(&deploying),
            [
                "llm: DEPLOYING, waits for Deployment/x: image pull",
                "DEPLOYING (50%)"
            ]
        );
        assert!(lines.changes(&deploying).is_empty());
        let running = progress("RUNNING", "RUNNING", None);
        assert_eq!(lines.changes(&running), ["llm: RUNNING", "RUNNING (50%)"]);
    }
}
