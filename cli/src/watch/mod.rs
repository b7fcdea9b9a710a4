//! Watching deployments and executions come up.

mod bars;
mod lines;
pub(crate) mod patience;

use std::time::{Duration, Instant};

use serde_json::Value;
use slipway_app::{DeploymentProgress, DeploymentView};
use slipway_model::{
    ClusterTarget, ComponentStatus, DeploymentStatus, Execution, ExecutionProgress, ExecutionStatus,
};

use crate::{
    client::read,
    commands::{RENDER_NOTE, Session, cluster_of, deployment_details, deployment_path},
    failure::{Exit, Failure},
    output::{self, Format, duration, word},
};

/// How often the control plane is asked.
const PACE: Duration = Duration::from_millis(300);

/// Waits a moment before the control plane is asked again.
pub(crate) fn pause() {
    std::thread::park_timeout(PACE);
}

/// How long is waited for what the control plane makes in an invocation of its own, such as a plan: as long as such an
/// invocation may take, and as long again for those before it.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(600);

/// A wait for what the control plane makes in an invocation of its own.
pub(crate) struct Wait {
    began: Instant,
}

impl Wait {
    /// One that begins now.
    pub(crate) fn begin() -> Self {
        Self {
            began: Instant::now(),
        }
    }

    /// Waits a moment; false if it has been long enough.
    pub(crate) fn goes_on(&self) -> bool {
        pause();
        self.began.elapsed() < LONGEST_WAIT
    }
}

/// What a deployment is meant to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Aim {
    /// To run.
    Running,
    /// To run; or to be gone, where that is what happens to it.
    Settled,
    /// To be stopped.
    Stopped,
    /// To be gone.
    Deleted,
}

impl Aim {
    fn exit(self, status: DeploymentStatus) -> Exit {
        let reached = match self {
            Self::Running => status == DeploymentStatus::Running,
            Self::Settled => matches!(status, DeploymentStatus::Running | DeploymentStatus::Deleted),
            Self::Stopped => status == DeploymentStatus::Stopped,
            Self::Deleted => status == DeploymentStatus::Deleted,
        };
        if reached { Exit::Done } else { Exit::Failed }
    }
}

/// Shows how something stands, whenever it was looked at.
trait Display<T> {
    fn update(&mut self, progress: &T);
    fn end(&mut self);

    /// Says something that is not progress.
    fn remark(&mut self, text: &str) {
        output::remark(text);
    }
}

struct Silence;

impl<T> Display<T> for Silence {
    fn update(&mut self, _: &T) {}
    fn end(&mut self) {}
}

/// Watches a deployment until it is no longer in flight, then shows it.
pub(crate) fn deployment(session: &Session, which: &str, aim: Aim) -> Result<Exit, Failure> {
    let path = deployment_path(which);
    let go_on = format!("it may go on: look with `slipway watch {which}`");
    let begun: DeploymentView = read(&patience::get(session, &path, &go_on)?)?;
    // By its id from here on: the name of a deleted one is free for others.
    let path = deployment_path(&begun.deployment.id.to_string());
    if begun.deployment.status == DeploymentStatus::Pending {
        return Err(
            Failure::failed(format!("deployment {which} has not been started"))
                .next(format!("start it with `slipway start {which} --watch`")),
        );
    }
    let cluster = patience::ask(session, &go_on, output::remark, || {
        cluster_of(session, &begun.deployment)
    })?;
    let on_nothing = cluster
        .as_ref()
        .is_some_and(|cluster| cluster.target == ClusterTarget::Render);
    if session.format == Format::Text && on_nothing {
        output::say(RENDER_NOTE);
    }
    let mut display: Box<dyn Display<DeploymentProgress>> = match session.format {
        Format::Json => Box::new(Silence),
        Format::Text if output::on_a_terminal() => Box::new(bars::DeploymentBars::new()),
        Format::Text => Box::new(lines::DeploymentLines::new()),
    };
    let progress_path = format!("{path}/progress");
    let (answer, progress) = follow(session, &progress_path, &go_on, display.as_mut(), |progress| {
        Ok(!progress.status.is_in_flight() && !is_stopping(session, &path, &go_on, progress)?)
    })?;
    match session.format {
        Format::Json => output::say_json(&answer),
        Format::Text => {
            let view: DeploymentView = read(&patience::get(session, &path, &go_on)?)?;
            output::say(&format!("\n{}", deployment_details(&view, cluster.as_ref())));
        }
    }
    Ok(aim.exit(progress.status))
}

/// A stop that was asked for may still be carried out by components although the deployment is not in flight.
fn is_stopping(
    session: &Session,
    path: &str,
    go_on: &str,
    progress: &DeploymentProgress,
) -> Result<bool, Failure> {
    let under_way = |status: ComponentStatus| status == ComponentStatus::Deploying;
    if !progress
        .components
        .iter()
        .any(|line| under_way(line.component.status))
    {
        return Ok(false);
    }
    let view: DeploymentView = read(&patience::get(session, path, go_on)?)?;
    Ok(view.deployment.stop_requested)
}

/// Watches an execution until it ends.
pub(crate) fn execution(session: &Session, execution: &Execution) -> Result<Exit, Failure> {
    let mut display: Box<dyn Display<ExecutionProgress>> = match session.format {
        Format::Json => Box::new(Silence),
        Format::Text if output::on_a_terminal() => Box::new(bars::ExecutionBar::new(&execution.name)),
        Format::Text => Box::new(lines::ExecutionLines::default()),
    };
    let path = format!("/executions/{}/progress", execution.id);
    let go_on = format!("it may go on: GET /api/v1{path} says how it stands");
    let (answer, progress) = follow(
        session,
        &path,
        &go_on,
        display.as_mut(),
        |progress: &ExecutionProgress| Ok(progress.status.is_terminal()),
    )?;
    match session.format {
        Format::Json => output::say_json(&answer),
        Format::Text => {
            let why = progress
                .error_message
                .map(|message| format!(": {message}"))
                .unwrap_or_default();
            output::say(&format!(
                "execution {} {}{why}",
                execution.id,
                word(&progress.status)
            ));
        }
    }
    Ok(if progress.status == ExecutionStatus::Completed {
        Exit::Done
    } else {
        Exit::Failed
    })
}

/// Looks again and again until it is over. A control plane that restarts meanwhile is waited for.
fn follow<T: serde::de::DeserializeOwned>(
    session: &Session,
    path: &str,
    go_on: &str,
    display: &mut dyn Display<T>,
    is_over: impl Fn(&T) -> Result<bool, Failure>,
) -> Result<(Value, T), Failure> {
    let mut look = || -> Result<(Value, T), Failure> {
        loop {
            let tell = |text: &str| display.remark(text);
            let answer = patience::ask(session, go_on, tell, || session.client.get(path))?;
            let progress: T = read(&answer)?;
            display.update(&progress);
            if is_over(&progress)? {
                return Ok((answer, progress));
            }
            pause();
        }
    };
    let result = look();
    display.end();
    result
}

/// `45%, 3m07s left`
fn share(percent: f64, eta: Option<u64>) -> String {
    let left = eta
        .map(|seconds| format!(", {} left", duration(seconds)))
        .unwrap_or_default();
    format!("{percent:.0}%{left}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_waited_for_longer_than_it_may_take_wherever_it_is_made() {
        let template = include_str!("../../../infra/template.yaml");
        let (_, function) = template.split_once("${AWS::StackName}-deploy-helm\"}\n").unwrap();
        let (_, limit) = function.split_once("      Timeout: ").unwrap();
        let on_aws: u64 = limit.lines().next().unwrap().parse().unwrap();
        for invocation in [
            slipway_app::Settings::new("").invocation,
            Duration::from_secs(on_aws),
        ] {
            assert!(LONGEST_WAIT >= 2 * invocation, "{invocation:?}");
        }
    }

    #[test]
    fn the_exit_status_says_whether_the_aim_was_reached() {
        assert_eq!(Aim::Running.exit(DeploymentStatus::Running), Exit::Done);
        assert_eq!(Aim::Running.exit(DeploymentStatus::Deleted), Exit::Failed);
        assert_eq!(Aim::Settled.exit(DeploymentStatus::Running), Exit::Done);
        assert_eq!(Aim::Settled.exit(DeploymentStatus::Deleted), Exit::Done);
        assert_eq!(Aim::Settled.exit(DeploymentStatus::Failed), Exit::Failed);
        assert_eq!(Aim::Settled.exit(DeploymentStatus::Stopped), Exit::Failed);
        assert_eq!(Aim::Stopped.exit(DeploymentStatus::Stopped), Exit::Done);
        assert_eq!(Aim::Deleted.exit(DeploymentStatus::Running), Exit::Failed);
    }

    #[test]
    fn the_share_says_what_is_left_where_that_is_known() {
        assert_eq!(share(45.2, Some(187)), "45%, 3m07s left");
        assert_eq!(share(0.0, None), "0%");
    }
}
