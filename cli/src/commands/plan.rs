//! `slipway plan`

use slipway_app::{ComponentChange, ComponentPlan, DeploymentPlan, PlanRequested};
use slipway_model::{ObjectChange, ObjectPlan, ObjectRole};

use super::{
    Session,
    deployments::{drifted, path, upgrade_body},
};
use crate::{
    arguments::PlanArguments,
    client::read,
    failure::{Exit, Failure},
    output::{time, word},
    watch::{LONGEST_WAIT, Wait, patience},
};

/// Asks for a plan and waits for it; it is made where Helm is.
pub(super) fn run(session: &Session, arguments: &PlanArguments) -> Result<Exit, Failure> {
    let path = format!("{}/plan", path(&arguments.deployment));
    let body = upgrade_body(arguments.to.as_deref(), &arguments.change)?;
    let asked: PlanRequested = read(&session.client.post(&path, &body)?)?;
    let go_on = format!("ask again with `slipway plan {}`", arguments.deployment);
    let wait = Wait::begin();
    loop {
        match patience::get(session, &path, &go_on) {
            Ok(answer) => {
                let plan: DeploymentPlan = read(&answer)?;
                if plan.request_id != Some(asked.request_id) {
                    return Err(Failure::failed(
                        "another plan of this deployment was asked for meanwhile, and took the place of this one",
                    )
                    .next(go_on));
                }
                session.show(&answer, |_| Ok(text(&plan)))?;
                let is_refused = plan.summary.refused > 0 || !plan.errors.is_empty();
                return Ok(if is_refused { Exit::Failed } else { Exit::Done });
            }
            // Not there yet. A plan that is asked for replaces the one before, also where somebody else asks.
            Err(failure) if failure.is_absent => {}
            Err(failure) => return Err(failure),
        }
        if !wait.goes_on() {
            return Err(Failure::failed(format!(
                "the plan was asked for and has not come after {} minutes",
                LONGEST_WAIT.as_secs() / 60
            ))
            .next(format!(
                "`GET /api/v1{path}` has it if it comes later; asking again would begin anew. If it does not come, \
                 look at the log of the control plane"
            )));
        }
    }
}

fn text(plan: &DeploymentPlan) -> String {
    let mut text = format!(
        "{}@{}, compared with generation {} at {}\n",
        plan.template.name,
        plan.template.version,
        plan.generation,
        time(plan.generated_at)
    );
    if let Some(outdated) = &plan.outdated {
        text.push_str(&format!("outdated: {outdated}\n"));
    }
    if !plan.errors.is_empty() {
        text.push_str("\nNothing can be planned:\n");
        for error in &plan.errors {
            text.push_str(&format!("  x {error}\n"));
        }
        return text;
    }
    for component in &plan.components {
        text.push('\n');
        show_component(&mut text, component);
    }
    if let Some(drift) = plan
        .drift
        .as_ref()
        .filter(|drift| !drift.objects.is_empty() || !drift.errors.is_empty())
    {
        text.push_str(&format!("\n{}", drifted(drift)));
    }
    text.push_str(&format!("\n{}\n", summary(plan)));
    text
}

/// The sign before a component.
fn sign(change: ComponentChange) -> &'static str {
    match change {
        ComponentChange::Create => "+",
        ComponentChange::Change => "~",
        ComponentChange::Replace => "-/+",
        ComponentChange::Delete => "-",
        ComponentChange::Unchanged => "=",
        ComponentChange::Deferred => "?",
        ComponentChange::Refused => "x",
    }
}

fn show_component(text: &mut String, component: &ComponentPlan) {
    let chart = component
        .chart
        .as_ref()
        .map_or_else(String::new, |chart| format!(", chart {chart}"));
    let revision = component
        .revision
        .map_or_else(String::new, |revision| format!(", at revision {revision}"));
    text.push_str(&format!(
        "{} {}: {} release {}/{}{chart}{revision}\n",
        sign(component.change),
        component.component,
        word(&component.change).to_lowercase(),
        component.namespace,
        component.release_name,
    ));
    if let Some(reason) = &component.reason {
        text.push_str(&format!("    {reason}\n"));
    }
    for note in &component.notes {
        text.push_str(&format!("    note: {note}\n"));
    }
    for danger in &component.dangers {
        text.push_str(&format!("  ! {}\n", danger.message));
    }
    let mut unchanged = 0;
    for object in &component.objects {
        if object.change == ObjectChange::Unchanged && object.reason.is_none() {
            unchanged += 1;
        } else {
            show_object(text, object);
        }
    }
    if unchanged > 0 && component.change != ComponentChange::Unchanged {
        text.push_str(&format!("  = {unchanged} unchanged\n"));
    }
}

fn show_object(text: &mut String, object: &ObjectPlan) {
    let sign = match object.change {
        ObjectChange::Create => "+",
        ObjectChange::Change => "~",
        ObjectChange::Replace => "-/+",
        ObjectChange::Delete => "-",
        ObjectChange::Unchanged => "=",
        ObjectChange::Run => ">",
    };
    let role = match object.role {
        ObjectRole::Object => "",
        ObjectRole::Hook => " (hook)",
        ObjectRole::Definition => " (definition)",
        ObjectRole::Namespace => " (namespace of the release)",
    };
    text.push_str(&format!("  {sign} {}/{}{role}", object.kind, object.name));
    if let Some(reason) = &object.reason {
        text.push_str(&format!(": {reason}"));
    }
    text.push('\n');
    for danger in &object.dangers {
        text.push_str(&format!("    ! {}\n", danger.message));
    }
    for line in object.diff.iter().flat_map(|diff| diff.lines()) {
        text.push_str(&format!("      {line}\n"));
    }
}

/// The line that people read first.
fn summary(plan: &DeploymentPlan) -> String {
    let counts = &plan.summary;
    let mut text = format!(
        "Plan: {} to create, {} to change, {} to replace, {} to delete, {} unchanged",
        counts.create, counts.change, counts.replace, counts.delete, counts.unchanged
    );
    for (count, one, many) in [
        (counts.hooks, "hook runs", "hooks run"),
        (
            counts.deferred,
            "component is not known yet",
            "components are not known yet",
        ),
        (counts.refused, "component would fail", "components would fail"),
        (counts.dangers, "danger", "dangers"),
    ] {
        match count {
            0 => {}
            1 => text.push_str(&format!("; 1 {one}")),
            more => text.push_str(&format!("; {more} {many}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plan_reads_as_people_know_it() {
        let object = |kind: &str, change: &str| json!({"api_version": "v1", "kind": kind, "name": "x", "change": change});
        let mut service = object("Service", "change");
        service["diff"] = json!("@@ -1 +1 @@\n-type: ClusterIP\n+type: NodePort\n");
        service["dangers"] = json!([{"kind": "exposure", "message": "Service/x becomes reachable"}]);
        let mut hook = object("Job", "run");
        hook["role"] = json!("hook");
        hook["reason"] = json!("hook: pre-upgrade");
        let component = |name: &str, change: &str, objects: serde_json::Value| {
            json!({
                "component": name, "change": change, "objects": objects, "release_name": name, "namespace": "ns",
                "cluster_id": "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b", "revision": 3, "chart": "c-1.0.0",
            })
        };
        let plan: DeploymentPlan = serde_json::from_value(json!({
            "dag": {"name": "d", "steps": []},
            "components": [
                component("web", "change", json!([service, object("ConfigMap", "unchanged"), hook])),
                component("db", "deferred", json!([])),
            ],
            "summary": {"create": 0, "change": 1, "replace": 0, "delete": 0, "unchanged": 1, "hooks": 1, "deferred": 1, "refused": 0, "dangers": 1},
            "generation": 2, "template": {"name": "t", "version": "1.0.0"}, "generated_at": "2026-01-01T00:00:00Z",
        }))
        .unwrap();
        let text = text(&plan);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[2..],
            [
                "~ web: change release ns/web, chart c-1.0.0, at revision 3",
                "  ~ Service/x",
                "    ! Service/x becomes reachable",
                "      @@ -1 +1 @@",
                "      -type: ClusterIP",
                "      +type: NodePort",
                "  > Job/x (hook): hook: pre-upgrade",
                "  = 1 unchanged",
                "",
                "? db: deferred release ns/db, chart c-1.0.0, at revision 3",
                "",
                "Plan: 0 to create, 1 to change, 0 to replace, 0 to delete, 1 unchanged; 1 hook runs; 1 component is not known yet; 1 danger",
            ]
        );
    }
}
