//! What is done to deployments, and how they stand.

use serde_json::{Value, json};
use slipway_app::{DeploymentDrift, DeploymentProgress, DeploymentView, Started};
use slipway_model::{Cluster, ClusterTarget, Deployment};

use super::{Session, clusters::RENDER_NOTE};
use crate::{
    arguments::{ActArguments, ChangeArguments, DeleteArguments, RollbackArguments, UpgradeArguments},
    client::{encode, read},
    document,
    failure::{Exit, Failure},
    output::{Table, or_dash, standing, time},
    watch::{self, Aim},
};

/// The path of a deployment.
pub(crate) fn path(deployment: &str) -> String {
    format!("/deployments/{}", encode(deployment))
}

pub(super) fn status(session: &Session, deployment: Option<&str>) -> Result<Exit, Failure> {
    let Some(deployment) = deployment else {
        let items = Value::Array(session.client.get_all("/deployments")?);
        session.show(&items, |items| {
            let deployments: Vec<Deployment> = read(items)?;
            let clusters: Vec<Cluster> = read(&Value::Array(session.client.get_all("/clusters")?))?;
            Ok(list(&deployments, &clusters))
        })?;
        return Ok(Exit::Done);
    };
    let answer = session.client.get(&path(deployment))?;
    session.show(&answer, |answer| {
        let view: DeploymentView = read(answer)?;
        let cluster = cluster_of(session, &view.deployment)?;
        let mut text = details(&view, cluster.as_ref());
        if view.deployment.status.is_in_flight() {
            text.push_str(&waits(session, deployment)?);
        }
        Ok(text)
    })?;
    Ok(Exit::Done)
}

/// What each component waits for, a line each.
fn waits(session: &Session, deployment: &str) -> Result<String, Failure> {
    let progress: DeploymentProgress = read(&session.client.get(&format!("{}/progress", path(deployment)))?)?;
    let lines = progress.components.iter().filter_map(|one| {
        let waits_for = one.waiting_for.as_ref()?;
        Some(format!(
            "\n{} waits for {waits_for}\n",
            one.component.component_name
        ))
    });
    Ok(lines.collect())
}

/// The cluster of a deployment; none when it was removed since.
pub(crate) fn cluster_of(session: &Session, deployment: &Deployment) -> Result<Option<Cluster>, Failure> {
    match session
        .client
        .get(&format!("/clusters/{}", deployment.cluster_id))
    {
        Ok(cluster) => read(&cluster).map(Some),
        Err(failure) if failure.exit == Exit::Misuse => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn list(deployments: &[Deployment], clusters: &[Cluster]) -> String {
    let mut table = Table::new([
        "NAME",
        "STATUS",
        "TEMPLATE",
        "CLUSTER",
        "NAMESPACE",
        "CREATED",
        "ID",
    ]);
    for deployment in deployments {
        let on = clusters
            .iter()
            .find(|cluster| cluster.id == deployment.cluster_id);
        table.row([
            deployment.name.clone(),
            deployment.status.as_str().to_owned(),
            format!("{}@{}", deployment.template.name, deployment.template.version),
            on.map_or_else(|| "-".to_owned(), whereabouts),
            deployment.namespace.clone(),
            time(deployment.created_at),
            deployment.id.to_string(),
        ]);
    }
    if table.is_empty() {
        return "no deployments; create one with `slipway deploy TEMPLATE`".to_owned();
    }
    table.to_string()
}

/// A cluster's name, and that nothing runs there where nothing does.
fn whereabouts(cluster: &Cluster) -> String {
    match cluster.target {
        ClusterTarget::Render => format!("{} (render)", cluster.name),
        ClusterTarget::Kubeconfig { .. } | ClusterTarget::Eks { .. } => cluster.name.clone(),
    }
}

/// What others changed in what runs, for people.
pub(super) fn drifted(drift: &DeploymentDrift) -> String {
    let at = time(drift.checked_at);
    let is_whole = drift.errors.is_empty() && drift.unseen.is_empty();
    let mut text = match (drift.objects.is_empty(), is_whole) {
        (true, true) => format!("drift: none, looked at {at}\n"),
        (true, false) => format!("drift: none where it was looked, at {at}; not everything was\n"),
        (false, _) => {
            format!("drift: what runs differs from what was applied, looked at {at}; nothing was corrected\n")
        }
    };
    for one in &drift.objects {
        text.push_str(&format!("  {}: {}\n", one.component, one.object));
    }
    for error in &drift.errors {
        text.push_str(&format!("  could not be looked at: {error}\n"));
    }
    for component in &drift.unseen {
        text.push_str(&format!("  not looked at yet: {component}\n"));
    }
    text
}

/// A deployment and its components, for people.
pub(crate) fn details(view: &DeploymentView, cluster: Option<&Cluster>) -> String {
    let deployment = &view.deployment;
    let on = cluster.map_or_else(
        || deployment.cluster_id.to_string(),
        |cluster| cluster.name.clone(),
    );
    let mut text = format!(
        "{}  {}\ntemplate:  {}@{}\ncluster:   {on}\nnamespace: {}\nid:        {}\n",
        deployment.name,
        deployment.status.as_str(),
        deployment.template.name,
        deployment.template.version,
        deployment.namespace,
        deployment.id,
    );
    if let Some(execution) = deployment.pipeline_execution_id {
        text.push_str(&format!("execution: {execution}\n"));
    }
    if let Some(message) = &deployment.error_message {
        text.push_str(&format!("error:     {message}\n"));
    }
    let mut table = Table::new(["COMPONENT", "STATUS", "FILLED BY", "ENDPOINT"]);
    for component in &view.components {
        table.row([
            component.component_name.clone(),
            standing(component),
            component
                .selected_component
                .clone()
                .unwrap_or_else(|| "chart".to_owned()),
            or_dash(component.endpoint_url.as_deref()),
        ]);
    }
    text.push_str(&format!("\n{table}"));
    for component in &view.components {
        if let Some(message) = &component.error_message {
            text.push_str(&format!("\n{}: {message}\n", component.component_name));
        }
    }
    if let Some(drift) = &view.drift {
        text.push_str(&format!("\n{}", drifted(drift)));
    }
    if cluster.is_some_and(|cluster| cluster.target == ClusterTarget::Render) {
        text.push_str(&format!("\n{RENDER_NOTE}\n"));
    }
    text
}

pub(super) fn act(
    session: &Session,
    arguments: &ActArguments,
    verb: &str,
    aim: Aim,
) -> Result<Exit, Failure> {
    let answer = session
        .client
        .post(&format!("{}/{verb}", path(&arguments.deployment)), &json!({}))?;
    began(
        session,
        &arguments.deployment,
        &answer,
        arguments.watch.then_some(aim),
    )
}

pub(super) fn delete(session: &Session, arguments: &DeleteArguments) -> Result<Exit, Failure> {
    let DeleteArguments {
        act: arguments,
        keep_releases,
    } = arguments;
    let extent = match keep_releases {
        true => "?keep_releases=true",
        false => "",
    };
    let path = path(&arguments.deployment);
    let answer = session.client.delete(&format!("{path}{extent}"))?;
    // The name is free again when it is deleted, so it is watched by its id.
    let started: Started = read(&answer)?;
    let id = started.deployment_id.to_string();
    if *keep_releases {
        session.show(&answer, |_| {
            Ok(format!(
                "deployment {} is {}; nothing was uninstalled, `slipway events {id}` names what stays",
                arguments.deployment,
                started.status.as_str()
            ))
        })?;
        return Ok(Exit::Done);
    }
    let which = if arguments.watch {
        &id
    } else {
        &arguments.deployment
    };
    began(session, which, &answer, arguments.watch.then_some(Aim::Deleted))
}

/// The body of an upgrade, or of a plan for one.
pub(super) fn upgrade_body(to: Option<&str>, change: &ChangeArguments) -> Result<Value, Failure> {
    let mut body = json!({
        "parameters": document::changed_parameters(change)?,
        "values": document::values(change)?,
        "components": change.select.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
    });
    if let Some(version) = to {
        body["template_version"] = json!(version);
    }
    Ok(body)
}

pub(super) fn upgrade(session: &Session, arguments: &UpgradeArguments) -> Result<Exit, Failure> {
    let body = upgrade_body(arguments.to.as_deref(), &arguments.change)?;
    let answer = session
        .client
        .post(&format!("{}/upgrade", path(&arguments.deployment)), &body)?;
    began(
        session,
        &arguments.deployment,
        &answer,
        arguments.watch.then_some(Aim::Running),
    )
}

pub(super) fn rollback(session: &Session, arguments: &RollbackArguments) -> Result<Exit, Failure> {
    let body = match &arguments.to {
        Some(execution) => json!({"execution_id": execution}),
        None => json!({}),
    };
    let answer = session
        .client
        .post(&format!("{}/rollback", path(&arguments.deployment)), &body)?;
    began(
        session,
        &arguments.deployment,
        &answer,
        arguments.watch.then_some(Aim::Running),
    )
}

fn began(session: &Session, deployment: &str, answer: &Value, stay: Option<Aim>) -> Result<Exit, Failure> {
    if let Some(aim) = stay {
        return watch::deployment(session, deployment, aim);
    }
    session.show(answer, |answer| {
        let started: Started = read(answer)?;
        let on = if started.status.is_in_flight() {
            format!("; watch it with `slipway watch {deployment}`")
        } else {
            String::new()
        };
        Ok(format!(
            "deployment {deployment} is {}{on}",
            started.status.as_str()
        ))
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drift(objects: bool, errors: &[&str], unseen: &[&str]) -> String {
        let object = json!({
            "component": "db", "kind": "ConfigMap", "api_version": "v1", "namespace": "n", "name": "settings",
            "drift": "missing", "message": "is gone",
        });
        let objects = if objects { vec![object] } else { Vec::new() };
        let drift = json!({
            "checked_at": "2026-01-01T00:00:00Z", "objects": objects, "errors": errors, "unseen": unseen,
        });
        drifted(&serde_json::from_value(drift).unwrap())
    }

    #[test]
    fn drift_is_claimed_where_it_was_seen_and_denied_where_all_was_looked_at() {
        let heads = |text: &str| (text.contains("drift: none, looked"), text.contains("differs"));
        assert_eq!(heads(&drift(false, &[], &[])), (true, false));
        for (errors, unseen) in [(&["llm: no route to host"][..], &[][..]), (&[], &["llm"])] {
            let text = drift(false, errors, unseen);
            assert_eq!(heads(&text), (false, false), "{text}");
            assert!(text.contains("llm"), "{text}");
            let text = drift(true, errors, unseen);
            assert_eq!(heads(&text), (false, true), "{text}");
            assert!(text.contains("llm") && text.contains("settings"), "{text}");
        }
    }
}
