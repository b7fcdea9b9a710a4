//! Creating a deployment: checked as a whole, written, and not started.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use slipway_model::{
    ClusterId, Dag, Deployment, DeploymentId, DeploymentStatus, FieldError, JsonMap, Template,
    TemplateReference, TenantId,
};
use slipway_ports::{Guard, Item, Put, Session, Stored};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    DeploymentView, check_deployment_name, components, inputs::secret_names, records, uses::CREATION,
};
use crate::{App, AppError, Caller, Role, keys, names};

/// A deployment to create.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDeployment {
    /// `[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`, unique per tenant; made from the template's if absent.
    #[serde(default)]
    pub name: Option<String>,
    /// The template, `agent-rag` or `agent-rag@1.0.0`; the newest version if none is given.
    pub template: String,
    /// The template's version, where `template` does not say it.
    #[serde(default)]
    pub template_version: Option<String>,
    /// The cluster, by name or id.
    #[serde(alias = "cluster_id")]
    pub cluster: String,
    /// Slot → catalog component, where it is not the default.
    #[serde(default)]
    pub components: BTreeMap<String, String>,
    /// Values of the template's parameters. Those of secret ones go to the secrets store at once.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: JsonMap,
    /// Component → values, merged over the template's as Helm merges.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub values: BTreeMap<String, JsonMap>,
    /// Topics that get the execution's events beside `budusecasesEvents`.
    #[serde(default)]
    pub callback_topics: Vec<String>,
}

/// A deployment that was checked and is about to be written.
struct Draft {
    deployment: Deployment,
    template: Template,
    dag: Dag,
    secrets: BTreeMap<String, String>,
    clusters: BTreeSet<ClusterId>,
}

impl App {
    /// Creates a deployment.
    ///
    /// # Errors
    /// 403 below `deployer`, 409 for a name that is taken, 422 with everything that is wrong.
    pub async fn create_deployment(
        &self,
        caller: &Caller,
        new: NewDeployment,
    ) -> Result<DeploymentView, AppError> {
        self.create_deployment_as(caller, DeploymentId(self.ids.uuid()), new)
            .await
    }

    /// Creates a deployment under an id that was chosen before, or under one that follows from it; a repeat with the
    /// same id finds the first one, or takes away what was cut short of it and makes it anew.
    ///
    /// # Errors
    /// As [`create_deployment`](Self::create_deployment).
    pub async fn create_deployment_as(
        &self,
        caller: &Caller,
        id: DeploymentId,
        new: NewDeployment,
    ) -> Result<DeploymentView, AppError> {
        caller.require(Role::Deployer)?;
        let tenant = &caller.tenant;
        if let Some(made) = self.made_before(tenant, id).await? {
            return Ok(made);
        }
        if let Some(name) = &new.name {
            self.refuse_taken_name(tenant, name).await?;
        }
        let draft = self.check_deployment(caller, id, new).await?;
        let Draft {
            mut deployment,
            template,
            dag,
            secrets,
            clusters,
        } = draft;
        self.use_inputs(tenant, deployment.id, &template, &clusters)
            .await?;
        let place = format!("deployment/{}", deployment.id);
        deployment.secret_parameters = secret_names(&place, &secrets);
        let mut session = self.store.session();
        let key = keys::deployment(tenant, deployment.id);
        // Should this be cut short, the sweeper takes away what nobody was told of.
        let cut_short = deployment.created_at.plus(CREATION);
        let item = records::deployment_item(&deployment).due_at(Some(cut_short));
        session.put(&key, item, Guard::Absent).await?;
        if !secrets.is_empty() {
            // Whoever takes away what was cut short finds their names there.
            session.settle().await?;
            session = self.store.session();
            self.keep_secrets(tenant, &place, secrets).await?;
        }
        let now = deployment.created_at;
        let components = components::planned(&deployment, &template, &dag, now);
        for component in &components {
            let key = keys::component(tenant, deployment.id, &component.component_name);
            session.put(&key, Item::of(component), Guard::Absent).await?;
        }
        // The name comes last: whoever finds it finds the deployment.
        if let Err(taken) = self.take_name(session.as_mut(), &deployment).await {
            session.settle().await?;
            self.unmake(&deployment).await?;
            return Err(taken);
        }
        self.note_created(session.as_mut(), &deployment).await?;
        session.settle().await?;
        Ok(DeploymentView {
            deployment,
            components,
            drift: None,
        })
    }

    /// What an earlier try under the id made, if one came to its name. What is left of those that did not is taken away.
    async fn made_before(
        &self,
        tenant: &TenantId,
        first: DeploymentId,
    ) -> Result<Option<DeploymentView>, AppError> {
        for id in ids_of(first) {
            let Some(holder) = self.store.get(&keys::short_id(tenant, &id.short())).await? else {
                break;
            };
            if holder.read::<DeploymentId>()? != id {
                continue;
            }
            let Some(found) = self.load_deployment(tenant, id).await? else {
                continue;
            };
            if self.unmake_nameless(&found).await? {
                continue;
            }
            if found.status == DeploymentStatus::Pending {
                // Whoever made it may have died before this.
                let mut session = self.store.session();
                self.note_created(session.as_mut(), &found).await?;
                session.settle().await?;
            }
            return Ok(Some(self.view(found).await?));
        }
        Ok(None)
    }

    async fn note_created(&self, session: &mut dyn Session, deployment: &Deployment) -> Result<(), AppError> {
        let TemplateReference { name, version } = &deployment.template;
        let message = format!("created from template {name} {version}");
        self.note(session, deployment, "created", message).await
    }

    async fn check_deployment(
        &self,
        caller: &Caller,
        first: DeploymentId,
        new: NewDeployment,
    ) -> Result<Draft, AppError> {
        let tenant = &caller.tenant;
        let mut errors = Vec::new();
        if let Some(name) = &new.name
            && let Err(message) = check_deployment_name(name)
        {
            errors.push(FieldError::new("name", message));
        }
        let wanted = (new.template.as_str(), new.template_version.as_deref());
        let template = match self.find_template(tenant, wanted.0, wanted.1).await? {
            Ok(template) => Some(template),
            Err(message) => {
                errors.push(FieldError::new("template", message));
                None
            }
        };
        let cluster = self.find_cluster(tenant, &new.cluster).await?;
        if cluster.is_none() {
            let message = format!(
                "there is no cluster '{}'; register it first",
                names::shown(&new.cluster)
            );
            errors.push(FieldError::new("cluster", message));
        }
        let callback_topics = self.check_topics(&new.callback_topics, &mut errors);
        let refused = |errors| Err(AppError::invalid("the deployment is invalid", errors));
        let Some(template) = template else {
            return refused(errors);
        };
        let choices = self.check_choices(&template, &new.parameters, &new.components, &mut errors);
        let clusters = match self.component_clusters(tenant, &template, &[]).await? {
            Ok(clusters) => clusters,
            Err(found) => {
                errors.extend(found);
                BTreeMap::new()
            }
        };
        let (Some(choices), Some(cluster), true) = (choices, cluster, errors.is_empty()) else {
            return refused(errors);
        };
        let id = self.draw_id(tenant, first).await?;
        let name = new.name.unwrap_or_else(|| default_name(&template.name, id));
        let now = self.clock.now();
        let deployment = Deployment {
            id,
            tenant: tenant.clone(),
            name,
            template: TemplateReference {
                name: template.name.clone(),
                version: template.version.clone(),
            },
            cluster_id: cluster.id,
            namespace: format!("uc-{}", id.short()),
            status: DeploymentStatus::Pending,
            parameters: choices.parameters,
            // Their places are known once they are stored; planning needs the names only.
            secret_parameters: choices
                .secrets
                .keys()
                .map(|name| (name.clone(), String::new()))
                .collect(),
            selections: choices.selections,
            values: new.values,
            callback_topics,
            user_id: caller.user_id.clone(),
            generation: 0,
            pipeline_execution_id: None,
            earlier_execution_ids: Vec::new(),
            operation: None,
            stop_requested: false,
            delete_requested: false,
            error_message: None,
            created_at: now,
            updated_at: now,
        };
        match self.plan_of(&deployment, &template, &clusters) {
            Ok(dag) => Ok(Draft {
                deployment,
                template,
                dag,
                secrets: choices.secrets,
                clusters: clusters.into_values().chain([cluster.id]).collect(),
            }),
            Err(errors) => refused(errors),
        }
    }

    /// The first of the ids whose first eight characters no other deployment of the tenant has: namespaces are named
    /// after them. An earlier try's is not used again, because the sweeper may still be taking that one away.
    async fn draw_id(&self, tenant: &TenantId, first: DeploymentId) -> Result<DeploymentId, AppError> {
        let mut ids = ids_of(first);
        loop {
            let id = ids.next().unwrap_or_else(|| DeploymentId(self.ids.uuid()));
            let mut session = self.store.session();
            let key = keys::short_id(tenant, &id.short());
            let put = session.put(&key, Item::of(&id), Guard::Absent).await?;
            session.settle().await?;
            if let Put::Won(_) = put {
                return Ok(id);
            }
        }
    }

    async fn refuse_taken_name(&self, tenant: &TenantId, name: &str) -> Result<(), AppError> {
        if names::check_label(name, records::LONGEST_NAME).is_err() {
            // Said with everything else that is wrong.
            return Ok(());
        }
        match self.store.get(&keys::name(tenant, "deployment", name)).await? {
            Some(taken) => self.refuse_holder(tenant, name, &taken).await,
            None => Ok(()),
        }
    }

    /// Refuses a name whose holder still lives. A name outlives its holder only when the holder's deletion was
    /// interrupted.
    async fn refuse_holder(&self, tenant: &TenantId, name: &str, taken: &Stored) -> Result<(), AppError> {
        let holder: DeploymentId = taken.read()?;
        match self.load_deployment(tenant, holder).await? {
            Some(other) if other.status != DeploymentStatus::Deleted => Err(AppError::conflict(format!(
                "there is a deployment named '{name}' already: {holder}, which is {}",
                other.status.as_str()
            ))),
            _ => Ok(()),
        }
    }

    /// Takes a deployment away that was written and never got its name.
    async fn unmake(&self, deployment: &Deployment) -> Result<(), AppError> {
        self.forget(deployment).await?;
        let tenant = &deployment.tenant;
        let mut session = self.store.session();
        for component in self.components_of(deployment).await? {
            let key = keys::component(tenant, deployment.id, &component.component_name);
            session.delete(&key, Guard::Any).await?;
        }
        session
            .delete(&keys::deployment(tenant, deployment.id), Guard::Any)
            .await?;
        Ok(session.settle().await?)
    }

    /// Takes a deployment away whose creation was cut short before it had its name. Whether it was.
    pub(crate) async fn unmake_nameless(&self, deployment: &Deployment) -> Result<bool, AppError> {
        let key = keys::name(&deployment.tenant, "deployment", &deployment.name);
        let holder = match self.store.get(&key).await? {
            Some(holder) => Some(holder.read::<DeploymentId>()?),
            None => None,
        };
        let is_cut_short = deployment.status == DeploymentStatus::Pending && holder != Some(deployment.id);
        if is_cut_short {
            self.unmake(deployment).await?;
        }
        Ok(is_cut_short)
    }

    async fn take_name(&self, session: &mut dyn Session, deployment: &Deployment) -> Result<(), AppError> {
        let key = keys::name(&deployment.tenant, "deployment", &deployment.name);
        let mut guard = Guard::Absent;
        loop {
            match session.put(&key, Item::of(&deployment.id), guard).await? {
                Put::Won(_) => return Ok(()),
                Put::Lost(None) => guard = Guard::Absent,
                Put::Lost(Some(taken)) => {
                    self.refuse_holder(&deployment.tenant, &deployment.name, &taken)
                        .await?;
                    guard = Guard::Version(taken.version);
                }
            }
        }
    }
}

/// `first`, and the ids that are tried after it, always the same ones: whoever repeats a creation finds its id again.
fn ids_of(first: DeploymentId) -> impl Iterator<Item = DeploymentId> + Send {
    let more = (1_u64..).map(move |number| DeploymentId(Uuid::new_v5(&first.0, &number.to_be_bytes())));
    std::iter::once(first).chain(more)
}

/// `<template>-<first 8 of the id>`, cut to what a name may have.
fn default_name(template: &str, id: DeploymentId) -> String {
    let short = id.short();
    let stem: String = template
        .chars()
        .take(records::LONGEST_NAME - short.len() - 1)
        .collect();
    format!("{}-{short}", stem.trim_end_matches('-'))
}
