//! A new template version, other parameters, selections or values.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use slipway_model::{
    ComponentType, Deployment, DeploymentOperation, DeploymentStatus, ExecutionId, FieldError, JsonMap,
    Template, TemplateReference,
};
use slipway_ports::{ExposeSecret, Guard, Item};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    inputs::secret_names,
    operation::{begin, changed_meanwhile, send_plan, wrong_state},
    start::Started,
};
use crate::{App, AppError, Caller, Role, keys};

/// What is to be different. What is absent stays as it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UpgradeRequest {
    /// The template's version.
    #[serde(default)]
    pub template_version: Option<String>,
    /// Parameters, over those that the deployment has.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub parameters: JsonMap,
    /// Slot → catalog component, over those that the deployment has.
    #[serde(default)]
    pub components: BTreeMap<String, String>,
    /// Component → its values, instead of those that the deployment has for that component.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub values: BTreeMap<String, JsonMap>,
}

impl App {
    /// Brings a deployment to other inputs with a new execution.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is not `RUNNING`, `FAILED` or `STOPPED`, 422 with everything that is
    /// wrong.
    pub async fn upgrade_deployment(
        &self,
        caller: &Caller,
        id_or_name: &str,
        request: UpgradeRequest,
    ) -> Result<Started, AppError> {
        caller.require(Role::Deployer)?;
        let tenant = &caller.tenant;
        let found = self.find_deployment(tenant, id_or_name).await?;
        refuse_unless_upgradable(&found, "cannot be upgraded")?;
        let execution = ExecutionId(self.ids.uuid());
        let mut wanted = found.clone();
        let (template, secrets) = self.check_upgrade(&mut wanted, request).await?;
        let components = self.components_of(&found).await?;
        let clusters = match self.component_clusters(tenant, &template, &components).await? {
            Ok(clusters) => clusters,
            Err(errors) => return Err(refused(errors)),
        };
        self.plan_of(&wanted, &template, &clusters).map_err(refused)?;
        let used = clusters.into_values().chain([wanted.cluster_id]).collect();
        self.use_inputs(tenant, found.id, &template, &used).await?;
        let brought = self.bring_secrets(&found, execution.0, secrets).await?;
        wanted.secret_parameters.extend(brought.clone());

        let message = format!(
            "upgrade to version {} requested by {}",
            template.version, caller.user_id
        );
        let request = (
            DeploymentOperation::Upgrade,
            execution,
            "upgrade_requested",
            message,
        );
        let turned = self.turn_to(&found, &wanted, request).await;
        if let Err(AppError::Problem(_)) = &turned
            && let Err(error) = self.take_secrets_back(&found, execution, &brought).await
        {
            tracing::warn!(deployment = %found.id, %error, "secrets of an upgrade that was refused stay until the deployment is deleted");
        }
        turned
    }

    /// Stores the secrets of an upgrade, which `bringer`'s execution or plan reads. Where they stand is written down
    /// before: an upgrade that comes second, is cut short, or is stopped before it is planned leaves no revision that
    /// would name them.
    pub(super) async fn bring_secrets(
        &self,
        deployment: &Deployment,
        bringer: Uuid,
        secrets: BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, AppError> {
        if secrets.is_empty() {
            return Ok(BTreeMap::new());
        }
        let tenant = &deployment.tenant;
        let place = format!("deployment/{}/{bringer}", deployment.id);
        let names: Vec<String> = secret_names(&place, &secrets).into_values().collect();
        let mut session = self.store.session();
        let key = keys::secrets_of(tenant, deployment.id, bringer);
        session.put(&key, Item::of(&names), Guard::Absent).await?;
        session.settle().await?;
        self.keep_secrets(tenant, &place, secrets).await
    }

    /// Deletes the secrets of an upgrade that did not come to be.
    async fn take_secrets_back(
        &self,
        found: &Deployment,
        execution: ExecutionId,
        brought: &BTreeMap<String, String>,
    ) -> Result<(), AppError> {
        let now = self.load_deployment(&found.tenant, found.id).await?;
        let came_to_be = |now: Deployment| {
            now.pipeline_execution_id == Some(execution) || now.earlier_execution_ids.contains(&execution)
        };
        // A write whose answer was lost looks like somebody else's.
        if brought.is_empty() || now.is_none_or(came_to_be) {
            return Ok(());
        }
        for reference in brought.values() {
            self.secrets.delete(&found.tenant, reference).await?;
        }
        let mut session = self.store.session();
        let key = keys::secrets_of(&found.tenant, found.id, execution.0);
        session.delete(&key, Guard::Any).await?;
        Ok(session.settle().await?)
    }

    /// Gives a deployment the inputs of `wanted`, unless it changed since `found` was read, and starts an execution.
    pub(super) async fn turn_to(
        &self,
        found: &Deployment,
        wanted: &Deployment,
        (operation, execution, entry_type, message): (DeploymentOperation, ExecutionId, &str, String),
    ) -> Result<Started, AppError> {
        self.make_intent_key(&found.tenant).await?;
        let mut session = self.store.session();
        let deployment = self
            .update_deployment(session.as_mut(), &found.tenant, found.id, |deployment| {
                refuse_unless_upgradable(deployment, "cannot be changed")?;
                if deployment.generation != found.generation {
                    return Err(changed_meanwhile(deployment));
                }
                deployment.template.clone_from(&wanted.template);
                deployment.parameters.clone_from(&wanted.parameters);
                deployment.secret_parameters.clone_from(&wanted.secret_parameters);
                deployment.selections.clone_from(&wanted.selections);
                deployment.values.clone_from(&wanted.values);
                begin(deployment, operation, execution);
                Ok(true)
            })
            .await?
            .map_or_else(|| wanted.clone(), |(deployment, _)| deployment);
        send_plan(session.as_mut(), &deployment);
        self.note(session.as_mut(), &deployment, entry_type, message)
            .await?;
        session.settle().await?;
        Ok(Started::from(&deployment))
    }

    /// Checks the new inputs and puts them into `wanted`; returns the template and the new secret values.
    pub(super) async fn check_upgrade(
        &self,
        wanted: &mut Deployment,
        request: UpgradeRequest,
    ) -> Result<(Template, BTreeMap<String, String>), AppError> {
        let tenant = wanted.tenant.clone();
        let (name, present) = (wanted.template.name.clone(), wanted.template.version.clone());
        let version = request.template_version.unwrap_or_else(|| present.to_string());
        let template = match self.find_template(&tenant, &name, Some(&version)).await? {
            Ok(template) => template,
            Err(message) => return Err(refused(vec![FieldError::new("template_version", message)])),
        };
        let before = self.load_template(&tenant, &name, &present).await?;
        let mut parameters = set_parameters(wanted, before.as_ref(), &template);
        let mut kept = BTreeMap::new();
        for (name, reference) in &wanted.secret_parameters {
            let is_secret = template
                .parameters
                .get(name)
                .is_some_and(|definition| definition.secret);
            if is_secret && !request.parameters.contains_key(name) {
                let secret = self.secrets.get(&tenant, reference).await?;
                if let Some(secret) = secret {
                    parameters.insert(name.clone(), secret.expose_secret().into());
                    kept.insert(name.clone(), reference.clone());
                }
            }
        }
        parameters.extend(request.parameters);
        let fills = |name: &str| {
            let component = template.component(name);
            component.is_some_and(|component| component.component_type != ComponentType::Helm)
        };
        let mut selections = wanted.selections.clone();
        selections.retain(|slot, _| fills(slot));
        selections.extend(request.components);
        let mut errors = Vec::new();
        let Some(choices) = self.check_choices(&template, &parameters, &selections, &mut errors) else {
            return Err(refused(errors));
        };
        let mut secrets = choices.secrets;
        secrets.retain(|name, _| !kept.contains_key(name));
        wanted.template = TemplateReference {
            name,
            version: template.version.clone(),
        };
        wanted.parameters = choices.parameters;
        wanted.selections = choices.selections;
        wanted
            .values
            .retain(|component, _| template.component(component).is_some());
        wanted.values.extend(request.values);
        kept.extend(secrets.keys().map(|name| (name.clone(), String::new())));
        wanted.secret_parameters = kept;
        Ok((template, secrets))
    }
}

/// The parameters that the deployment set itself and that the new version still has: defaults of the version before
/// give way to those of the new one.
fn set_parameters(deployment: &Deployment, before: Option<&Template>, template: &Template) -> JsonMap {
    let was_default = |name: &String, value: &serde_json::Value| {
        before
            .and_then(|before| before.parameters.get(name))
            .and_then(|definition| definition.default.as_ref())
            .is_some_and(|default| default == value)
    };
    deployment
        .parameters
        .iter()
        .filter(|(name, value)| template.parameters.contains_key(*name) && !was_default(name, value))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

/// # Errors
/// 409 that names the state.
pub(super) fn refuse_unless_upgradable(deployment: &Deployment, what: &str) -> Result<(), AppError> {
    match deployment.status {
        DeploymentStatus::Running | DeploymentStatus::Failed | DeploymentStatus::Stopped => Ok(()),
        _ => Err(wrong_state(deployment, what)),
    }
}

fn refused(errors: Vec<FieldError>) -> AppError {
    AppError::invalid("the upgrade is invalid", errors)
}
