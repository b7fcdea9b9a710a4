//! Progress on a terminal: a bar for the whole, a line per component.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use slipway_app::{ComponentProgress, DeploymentProgress};
use slipway_model::{ComponentStatus, ExecutionProgress, StepProgress};

use super::{Display, share};
use crate::output::{duration, standing, word};

/// How often the spinners turn.
const TURN: Duration = Duration::from_millis(120);

/// How a component looks that has not ended.
const AT_WORK: &str = "{spinner:.cyan} {wide_msg}";

/// A bar for the deployment and a line for each component.
pub(super) struct DeploymentBars {
    all: MultiProgress,
    whole: ProgressBar,
    components: BTreeMap<String, Line>,
}

struct Line {
    bar: ProgressBar,
    deploying_since: Option<Instant>,
}

impl DeploymentBars {
    pub(super) fn new() -> Self {
        let all = MultiProgress::new();
        let whole = all.add(ProgressBar::new(100).with_style(style("{bar:30.cyan/dim} {msg}")));
        Self {
            all,
            whole,
            components: BTreeMap::new(),
        }
    }
}

impl Display<DeploymentProgress> for DeploymentBars {
    fn update(&mut self, progress: &DeploymentProgress) {
        let names = progress
            .components
            .iter()
            .map(|line| line.component.component_name.chars().count());
        let width = names.max().unwrap_or(0);
        for line in &progress.components {
            let name = &line.component.component_name;
            let all = &self.all;
            let shown = self.components.entry(name.clone()).or_insert_with(|| {
                let bar = all.add(ProgressBar::new_spinner().with_style(style(AT_WORK)));
                bar.enable_steady_tick(TURN);
                Line {
                    bar,
                    deploying_since: None,
                }
            });
            let steps = progress
                .execution
                .iter()
                .filter_map(|execution| execution.steps.as_ref())
                .flatten();
            let step = steps.into_iter().find(|step| &step.step_id == name);
            shown.update(line, step, width);
        }
        self.whole.set_position(whole_percent(progress.percent));
        let share = share(progress.percent, progress.eta_seconds);
        self.whole
            .set_message(format!("{}  {share}", progress.status.as_str()));
    }

    fn end(&mut self) {
        for line in self.components.values() {
            line.bar.finish();
        }
        self.whole.finish();
    }

    fn remark(&mut self, text: &str) {
        self.whole.println(text);
    }
}

impl Line {
    fn update(&mut self, line: &ComponentProgress, step: Option<&StepProgress>, width: usize) {
        let component = &line.component;
        let status = component.status;
        let elapsed = self
            .elapsed(status, step)
            .map(|seconds| format!("  {}", duration(seconds)))
            .unwrap_or_default();
        let detail = match (
            &line.waiting_for,
            &component.error_message,
            &component.endpoint_url,
        ) {
            (Some(wait), ..) => format!("  waits for {wait}"),
            (None, Some(message), _) => format!("  {message}"),
            (None, None, Some(url)) => format!("  {url}"),
            (None, None, None) => String::new(),
        };
        let name = &component.component_name;
        let text = format!("{name:<width$}  {:<9}{elapsed}{detail}", standing(component)).replace('\n', " ");
        if status.is_terminal() {
            let mark = if status == ComponentStatus::Running {
                "✓"
            } else {
                "✗"
            };
            self.bar.set_style(style("{prefix} {wide_msg}"));
            self.bar.set_prefix(mark);
        } else {
            // It may have ended before, as one does that is upgraded or tried again.
            self.bar.set_style(style(AT_WORK));
        }
        self.bar.set_message(text);
    }

    /// Seconds that the component's step took, or takes since this program saw it begin.
    fn elapsed(&mut self, status: ComponentStatus, step: Option<&StepProgress>) -> Option<u64> {
        if let Some(StepProgress {
            started_at: Some(started),
            ended_at: Some(ended),
            ..
        }) = step
        {
            return Some(ended.since(*started).as_secs());
        }
        if status != ComponentStatus::Deploying {
            return None;
        }
        let since = self.deploying_since.get_or_insert_with(Instant::now);
        Some(since.elapsed().as_secs())
    }
}

/// A bar for an execution.
pub(super) struct ExecutionBar {
    bar: ProgressBar,
}

impl ExecutionBar {
    pub(super) fn new(name: &str) -> Self {
        let bar =
            ProgressBar::new(0).with_style(style("{prefix} {bar:30.cyan/dim} {pos}/{len} steps  {msg}"));
        bar.set_prefix(name.to_owned());
        Self { bar }
    }
}

impl Display<ExecutionProgress> for ExecutionBar {
    fn update(&mut self, progress: &ExecutionProgress) {
        self.bar.set_length(progress.total_steps.into());
        self.bar.set_position(progress.finished_steps.into());
        let share = share(progress.percent, progress.eta_seconds);
        self.bar
            .set_message(format!("{}  {share}", word(&progress.status)));
    }

    fn end(&mut self) {
        self.bar.finish();
    }

    fn remark(&mut self, text: &str) {
        self.bar.println(text);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates in this file are valid")
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0 to 100 before"
)]
fn whole_percent(percent: f64) -> u64 {
    percent.clamp(0.0, 100.0) as u64
}
