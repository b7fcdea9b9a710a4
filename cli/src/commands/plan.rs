//! `slipway plan`

use serde_json::json;
use slipway_app::{ComponentChange, DeploymentPlan};

use super::{Session, deployments::path};
use crate::{
    client::read,
    failure::{Exit, Failure},
    output::{Table, or_dash, time, word},
    watch,
};

/// Looks at the control plane before it counts as lost, at three a second.
const LOOKS: u32 = 600;

/// Asks for a plan and waits for it; it is made where Helm is.
pub(super) fn run(session: &Session, deployment: &str) -> Result<Exit, Failure> {
    let path = format!("{}/plan", path(deployment));
    session.client.post(&path, &json!({}))?;
    for _ in 0..LOOKS {
        match session.client.get(&path) {
            Ok(answer) => {
                let plan: DeploymentPlan = read(&answer)?;
                session.show(&answer, |_| Ok(text(&plan)))?;
                let refused = plan
                    .components
                    .iter()
                    .any(|line| line.change == ComponentChange::Refused);
                return Ok(if refused { Exit::Failed } else { Exit::Done });
            }
            // Not there yet: a plan that is asked for replaces the one before.
            Err(failure) if failure.exit == Exit::Misuse => watch::pause(),
            Err(failure) => return Err(failure),
        }
    }
    Err(Failure::failed("the plan was asked for and has not come")
        .next("look at the log of `slipway serve`, and at `slipway events`"))
}

fn text(plan: &DeploymentPlan) -> String {
    let mut text = format!(
        "plan of {} steps, made at {}\n\n",
        plan.dag.steps.len(),
        time(plan.generated_at)
    );
    let mut table = Table::new(["COMPONENT", "CHANGE", "CHART", "RELEASE", "NAMESPACE"]);
    for line in &plan.components {
        table.row([
            line.component.clone(),
            word(&line.change),
            or_dash(line.chart.as_deref()),
            line.release_name.clone(),
            line.namespace.clone(),
        ]);
    }
    text.push_str(&table.to_string());
    for line in &plan.components {
        if let Some(reason) = &line.reason {
            text.push_str(&format!("\n{}: {reason}\n", line.component));
        }
    }
    let has_manifests = plan.components.iter().any(|line| line.manifest.is_some());
    if has_manifests {
        text.push_str("\nthe manifests are in `--output json`, under components[].manifest\n");
    }
    text
}
