//! What a deployment is made from: checked before it is written, and planned.

use std::collections::{BTreeMap, BTreeSet};

use crate::{App, AppError, names};
use slipway_dag::{DeploymentInput, plan_deployment};
use slipway_model::{
    BUDUSECASES_EVENTS, ClusterId, ComponentDeployment, Dag, Deployment, FieldError, JsonMap, Template,
    TenantId,
};

/// What a caller chose, checked against the template.
pub(crate) struct Choices {
    pub(crate) parameters: JsonMap,
    /// The values of secret parameters: for the secrets store, and for nothing else.
    pub(crate) secrets: BTreeMap<String, String>,
    pub(crate) selections: BTreeMap<String, String>,
}

impl App {
    /// Checks parameters and selections; what is wrong is added to `errors`.
    pub(crate) fn check_choices(
        &self,
        template: &Template,
        parameters: &JsonMap,
        selections: &BTreeMap<String, String>,
        errors: &mut Vec<FieldError>,
    ) -> Option<Choices> {
        let checked = slipway_dag::parameters::check(template, parameters);
        let selected = slipway_dag::selections::check(template, &self.catalog, selections);
        match (checked, selected) {
            (Ok(checked), Ok(selections)) => Some(Choices {
                parameters: checked.parameters,
                secrets: checked.secrets,
                selections,
            }),
            (checked, selected) => {
                errors.extend(checked.err().unwrap_or_default());
                errors.extend(selected.err().unwrap_or_default());
                None
            }
        }
    }

    /// The topics that get the events, `budusecasesEvents` first; what is wrong is added to `errors`.
    pub(crate) fn check_topics(&self, wanted: &[String], errors: &mut Vec<FieldError>) -> Vec<String> {
        let mut topics = vec![BUDUSECASES_EVENTS.to_owned()];
        for (index, topic) in wanted.iter().enumerate() {
            if topic == BUDUSECASES_EVENTS || self.settings.topics.contains(topic) {
                if !topics.contains(topic) {
                    topics.push(topic.clone());
                }
                continue;
            }
            let known: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
            errors.push(FieldError::new(
                format!("callback_topics[{index}]"),
                format!(
                    "topic '{}' is not configured; there are {}",
                    names::shown(topic),
                    known.join(", ")
                ),
            ));
        }
        topics
    }

    /// Where the components go that do not go to the deployment's cluster: `Err` holds those that name a cluster
    /// that is not registered. A component that was deployed before stays where it is.
    pub(crate) async fn component_clusters(
        &self,
        tenant: &TenantId,
        template: &Template,
        deployed: &[ComponentDeployment],
    ) -> Result<Result<BTreeMap<String, ClusterId>, Vec<FieldError>>, AppError> {
        let mut clusters: BTreeMap<String, ClusterId> = deployed
            .iter()
            .map(|component| (component.component_name.clone(), component.cluster_id))
            .collect();
        let mut errors = Vec::new();
        for (index, component) in template.components.iter().enumerate() {
            let Some(wanted) = &component.cluster else {
                continue;
            };
            if clusters.contains_key(&component.name) {
                continue;
            }
            match self.find_cluster(tenant, wanted).await? {
                Some(cluster) => {
                    clusters.insert(component.name.clone(), cluster.id);
                }
                None => errors.push(FieldError::new(
                    format!("components[{index}].cluster"),
                    format!(
                        "the template's component '{}' goes to cluster '{}', which is not registered",
                        component.name,
                        names::shown(wanted)
                    ),
                )),
            }
        }
        Ok(if errors.is_empty() {
            Ok(clusters)
        } else {
            Err(errors)
        })
    }

    /// The DAG that brings up what a deployment is made from now.
    ///
    /// # Errors
    /// Everything in it that does not fit the template.
    pub(crate) fn plan_of(
        &self,
        deployment: &Deployment,
        template: &Template,
        component_clusters: &BTreeMap<String, ClusterId>,
    ) -> Result<Dag, Vec<FieldError>> {
        let secret_parameters: BTreeSet<String> = deployment.secret_parameters.keys().cloned().collect();
        plan_deployment(&DeploymentInput {
            template,
            catalog: &self.catalog,
            deployment_id: deployment.id,
            name: &deployment.name,
            namespace: &deployment.namespace,
            cluster_id: deployment.cluster_id,
            component_clusters,
            user_id: &deployment.user_id,
            selections: &deployment.selections,
            parameters: &deployment.parameters,
            secret_parameters: &secret_parameters,
            values: &deployment.values,
            callback_topics: &deployment.callback_topics,
        })
    }

    /// Stores the values of secret parameters; returns their names in the secrets store. Whoever stores them has written
    /// down before how they are found again, should this be cut short.
    pub(crate) async fn keep_secrets(
        &self,
        tenant: &TenantId,
        place: &str,
        secrets: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, AppError> {
        let references = secret_names(place, &secrets);
        for (name, value) in secrets {
            if let Some(reference) = references.get(&name) {
                self.secrets.put(tenant, reference, value.into()).await?;
            }
        }
        Ok(references)
    }
}

/// The facts of a deployment that expressions read.
pub(crate) fn facts(deployment: &Deployment) -> JsonMap {
    [
        ("id", deployment.id.to_string()),
        ("name", deployment.name.clone()),
        ("namespace", deployment.namespace.clone()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.into()))
    .collect()
}

/// Secret parameter → the name of its value in the secrets store. `place` differs for each generation, so that a rollback
/// finds the values of then.
pub(crate) fn secret_names(place: &str, secrets: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    secrets
        .keys()
        .map(|name| (name.clone(), format!("{place}/{name}")))
        .collect()
}
