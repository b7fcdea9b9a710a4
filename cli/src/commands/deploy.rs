//! `slipway deploy`

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Value, json};
use slipway_app::{DeploymentView, Started, check_deployment_name};
use slipway_dag::{DeploymentInput, plan_deployment};
use slipway_model::{
    Catalog, Cluster, ClusterId, Dag, DeploymentId, DeploymentStatus, FieldError, JsonMap, Template,
};

use super::{Session, templates::split};
use crate::{
    arguments::DeployArguments,
    client::{encode, read},
    document,
    failure::{Exit, Failure},
    output::{self, Format, Table},
    watch::{self, Aim, patience},
};

pub(super) fn run(session: &Session, arguments: &DeployArguments) -> Result<Exit, Failure> {
    refuse_files(&arguments.template)?;
    let values = document::values(&arguments.change)?;
    let parameters = document::changed_parameters(&arguments.change)?;
    let selections: BTreeMap<String, String> = arguments.change.select.iter().cloned().collect();
    if arguments.dry_run {
        return dry_run(session, arguments, &parameters, &selections, &values);
    }
    let cluster = match &arguments.cluster {
        Some(cluster) => cluster.clone(),
        None => only_cluster(session)?.id.to_string(),
    };
    let mut body = json!({
        "template": arguments.template,
        "cluster": cluster,
        "components": selections,
        "parameters": parameters,
        "values": values,
    });
    if let Some(name) = &arguments.name {
        body["name"] = json!(name);
    }
    let created = session.client.create("/deployments", &body)?;
    let view: DeploymentView = read(&created)?;
    let deployment = view.deployment;
    let place = format!("/deployments/{}", deployment.id);
    let started = session.client.post(&format!("{place}/start"), &json!({}));
    let started = started.or_else(|failure| {
        let after_all = failure
            .may_be_done
            .then(|| was_started(session, &place))
            .flatten();
        after_all.ok_or_else(|| created_only(&deployment.name, deployment.id, failure))
    })?;
    if arguments.watch {
        if session.format == Format::Text {
            output::say(&format!("deployment {} ({})", deployment.name, deployment.id));
        }
        return watch::deployment(session, &deployment.id.to_string(), Aim::Running);
    }
    session.show(&started, |started| {
        let started: Started = read(started)?;
        Ok(format!(
            "deployment {} ({}) is {}; watch it with `slipway watch {}`",
            deployment.name,
            deployment.id,
            started.status.as_str(),
            deployment.name
        ))
    })?;
    Ok(Exit::Done)
}

/// That a deployment was started, as the answer that was lost would have said it; nothing if it was not, not yet, or
/// nobody says.
fn was_started(session: &Session, place: &str) -> Option<Value> {
    let view = patience::get(session, place, "").ok()?;
    let view: DeploymentView = read(&view).ok()?;
    let is_started = view.deployment.status != DeploymentStatus::Pending;
    is_started.then(|| json!(Started::from(&view.deployment)))
}

/// What was created stays, so that asking for the same again would create another one.
fn created_only(name: &str, id: DeploymentId, failure: Failure) -> Failure {
    if failure.may_be_done {
        return failure
            .about(&format!(
                "deployment {name} ({id}) was created, and whether it was started is not known"
            ))
            .next(format!("look how it stands with `slipway status {name}`"));
    }
    failure
        .about(&format!("deployment {name} ({id}) was created, and not started"))
        .next(format!(
            "start it with `slipway start {name}`, or delete it with `slipway delete {name}`"
        ))
}

/// A file is not a template's name; saying so here is more help than «does not exist».
fn refuse_files(template: &str) -> Result<(), Failure> {
    let extension = Path::new(template)
        .extension()
        .and_then(|extension| extension.to_str());
    let is_file = template.contains('/') || matches!(extension, Some("yaml" | "yml" | "json"));
    if !is_file {
        return Ok(());
    }
    Err(Failure::misuse(format!(
        "'{template}' is a file, and only published templates are deployed"
    ))
    .next(format!(
        "publish it with `slipway template publish {template}`, then deploy it by the name that it carries"
    )))
}

/// The cluster that is meant where none is named: the only one.
fn only_cluster(session: &Session) -> Result<Cluster, Failure> {
    let clusters: Vec<Cluster> = read(&Value::Array(session.client.get_all("/clusters")?))?;
    choose(clusters)
}

fn choose(mut clusters: Vec<Cluster>) -> Result<Cluster, Failure> {
    match clusters.len() {
        1 => Ok(clusters.remove(0)),
        0 => Err(Failure::misuse("no cluster is registered").next(
            "register one with `slipway cluster add NAME --kubeconfig FILE`, or `slipway cluster add local --render` \
             to see everything but the cluster",
        )),
        _ => {
            let names: Vec<String> = clusters.into_iter().map(|cluster| cluster.name).collect();
            Err(Failure::misuse("several clusters are registered")
                .next(format!("name one with --cluster: {}", names.join(", "))))
        }
    }
}

/// Plans here with what the control plane has published, so that nothing is left behind.
fn dry_run(
    session: &Session,
    arguments: &DeployArguments,
    parameters: &JsonMap,
    selections: &BTreeMap<String, String>,
    values: &BTreeMap<String, JsonMap>,
) -> Result<Exit, Failure> {
    let invalid = |errors| Failure::misuse("the deployment would be invalid").at(errors);
    if let Some(name) = &arguments.name {
        check_deployment_name(name).map_err(|message| invalid(vec![FieldError::new("name", message)]))?;
    }
    let (name, version) = split(&arguments.template);
    let path = format!("/templates/{}", encode(name));
    let template: Template = match version {
        Some(version) => read(
            &session
                .client
                .get(&format!("{path}/versions/{}", encode(version)))?,
        )?,
        None => read(&session.client.get(&path)?["newest"])?,
    };
    let catalog: Catalog = read(&session.client.get("/catalog")?)?;
    let cluster = |name: &str| -> Result<ClusterId, Failure> {
        let cluster: Cluster = read(&session.client.get(&format!("/clusters/{}", encode(name)))?)?;
        Ok(cluster.id)
    };
    let cluster_id = match &arguments.cluster {
        Some(name) => cluster(name)?,
        None => only_cluster(session)?.id,
    };
    let mut component_clusters = BTreeMap::new();
    for component in &template.components {
        if let Some(name) = &component.cluster {
            component_clusters.insert(component.name.clone(), cluster(name)?);
        }
    }
    let checked = slipway_dag::parameters::check(&template, parameters).map_err(invalid)?;
    let secret_parameters: BTreeSet<String> = checked.secrets.keys().cloned().collect();
    let dag = plan_deployment(&DeploymentInput {
        template: &template,
        catalog: &catalog,
        // Stands for the id that a deployment would get, whose first eight digits are in its namespace.
        deployment_id: NO_DEPLOYMENT,
        name: arguments.name.as_deref().unwrap_or(&template.name),
        namespace: &format!("uc-{}", NO_DEPLOYMENT.short()),
        cluster_id,
        component_clusters: &component_clusters,
        user_id: "local",
        selections,
        parameters: &checked.parameters,
        secret_parameters: &secret_parameters,
        values,
        callback_topics: &[],
    })
    .map_err(invalid)?;
    if session.format == Format::Json {
        output::say(&serde_json::to_string_pretty(&dag).expect("a DAG has text keys only"));
    } else {
        output::say(&plan_table(&dag).to_string());
        output::remark("a dry run: nothing was created; `--output json` prints the whole DAG");
    }
    Ok(Exit::Done)
}

/// The steps of a DAG: what each does, and what it comes after.
fn plan_table(dag: &Dag) -> Table {
    let mut table = Table::new(["STEP", "ACTION", "DEPLOYS", "AFTER"]);
    for step in &dag.steps {
        let text = |name: &str| step.params.get(name).and_then(|value| value.as_str());
        let deploys = text("chart_ref").or_else(|| text("selected_component"));
        let after = (!step.depends_on.is_empty()).then(|| step.depends_on.join(", "));
        table.row([
            step.id.clone(),
            step.action.clone(),
            output::or_dash(deploys),
            output::or_dash(after.as_deref()),
        ]);
    }
    table
}

const NO_DEPLOYMENT: DeploymentId = DeploymentId(uuid::Uuid::nil());

#[cfg(test)]
mod tests {
    use slipway_model::{ClusterTarget, Timestamp};

    use super::*;

    fn cluster(name: &str) -> Cluster {
        Cluster {
            id: ClusterId(uuid::Uuid::nil()),
            name: name.to_owned(),
            target: ClusterTarget::Render,
            ingress_url: None,
            created_at: Timestamp::from_millis(0),
        }
    }

    #[test]
    fn the_only_cluster_needs_no_name() {
        assert_eq!(choose(vec![cluster("a")]).unwrap().name, "a");
        assert!(choose(vec![]).unwrap_err().to_string().contains("cluster add"));
        let several = choose(vec![cluster("a"), cluster("b")]).unwrap_err();
        assert_eq!(several.exit, Exit::Misuse);
        assert!(several.to_string().contains("--cluster: a, b"));
    }

    #[test]
    fn a_template_file_is_answered_with_how_to_publish_it() {
        for file in ["templates/agent-rag.yaml", "./x", "agent.yml"] {
            assert!(
                refuse_files(file).unwrap_err().to_string().contains("publish"),
                "{file}"
            );
        }
        assert!(refuse_files("agent-rag@1.0.0").is_ok());
    }

    #[test]
    fn what_was_created_and_not_started_is_named() {
        let told = created_only("agent", NO_DEPLOYMENT, Failure::failed("no answer")).to_string();
        assert!(
            told.contains("was created")
                && told.contains("no answer")
                && told.contains("`slipway start agent`"),
            "{told}"
        );
        // Nobody may start it again, or delete it, because of an answer that did not come.
        let lost = Failure::failed("no answer").undecided();
        let told = created_only("agent", NO_DEPLOYMENT, lost).to_string();
        assert!(
            told.contains("was created")
                && !told.contains("not started")
                && told.contains("`slipway status agent`"),
            "{told}"
        );
    }
}
