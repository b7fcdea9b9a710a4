//! The preview: what starting a deployment would do, rendered and checked where Helm is, and nothing changed.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use slipway_dag::merge_values;
use slipway_expr::{Path, Reference, Scope, collect_references};
use slipway_model::{
    ClusterId, ComponentDeployment, Dag, DagStep, Deployment, DeploymentId, JobId, JsonMap, Message, Queue,
    TenantId, Timestamp,
};
use slipway_ports::{CheckedRelease, PulledChart, Release, ReleaseRequest, TargetError};
use utoipa::ToSchema;

use super::{inputs::facts, operation::wrong_state, start::Started};
use crate::{App, AppError, Caller, Role, clusters::ConnectError, keys, steps::RenderContext};

/// How long Helm may render one component.
const RENDERING: Duration = Duration::from_secs(60);

/// What starting a deployment would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentPlan {
    /// The DAG.
    pub dag: Dag,
    /// What each component would get, in the order of the DAG.
    pub components: Vec<ComponentPlan>,
    /// When this was found.
    pub generated_at: Timestamp,
}

/// What a component would get.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ComponentPlan {
    /// The component.
    pub component: String,
    /// Where it goes.
    pub cluster_id: ClusterId,
    /// Helm release.
    pub release_name: String,
    /// Kubernetes namespace.
    pub namespace: String,
    /// What would happen to the release.
    pub change: ComponentChange,
    /// Why it is deferred or refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The chart, `name-version`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chart: Option<String>,
    /// `sha256:<hex>` of the manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest_digest: Option<String>,
    /// The manifest, with the data of Secrets blanked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<String>,
}

/// What would happen to a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ComponentChange {
    /// It is installed.
    Create,
    /// It is upgraded to another manifest.
    Change,
    /// The manifest is the one that was checked when it was last deployed.
    Unchanged,
    /// It cannot be told before other steps have run, or without secrets.
    Deferred,
    /// It would fail.
    Refused,
}

/// What Helm is to render.
struct Rendering {
    chart_ref: String,
    chart_version: Option<String>,
    values: JsonMap,
}

/// What was found for a component.
struct Finding {
    change: ComponentChange,
    reason: Option<String>,
    chart: Option<String>,
    checked: Option<CheckedRelease>,
}

impl Finding {
    fn without_manifest(change: ComponentChange, reason: String) -> Self {
        Self {
            change,
            reason: Some(reason),
            chart: None,
            checked: None,
        }
    }
}

impl App {
    /// Has a preview made; [`plan`](Self::plan) answers it once it is there.
    ///
    /// # Errors
    /// 403 below `deployer`, 404, 409 when it is being deleted or is `DELETED`.
    pub async fn request_plan(&self, caller: &Caller, id_or_name: &str) -> Result<Started, AppError> {
        use slipway_model::DeploymentStatus::{Deleted, Deleting};

        caller.require(Role::Deployer)?;
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        if matches!(deployment.status, Deleted | Deleting) {
            return Err(wrong_state(&deployment, "cannot be planned"));
        }
        // Whoever asks now must not be answered with what was true before.
        self.blobs
            .delete(&keys::preview_blob(&caller.tenant, deployment.id))
            .await?;
        let message = Message::Plan {
            tenant: caller.tenant.clone(),
            deployment: deployment.id,
            generation: deployment.generation,
            preview: true,
        };
        let mut session = self.store.session();
        // It is rendered where Helm is, which is not where DAGs are planned.
        session.send(Queue::DeployHelm, message, Duration::ZERO);
        session.settle().await?;
        Ok(Started::from(&deployment))
    }

    /// The preview that was asked for last.
    ///
    /// # Errors
    /// 404 for a deployment that is not there, and until there is a preview.
    pub async fn plan(&self, caller: &Caller, id_or_name: &str) -> Result<DeploymentPlan, AppError> {
        let deployment = self.find_deployment(&caller.tenant, id_or_name).await?;
        let missing = || {
            AppError::not_found(format_args!(
                "a plan of deployment '{}' that was asked for and is ready",
                deployment.name
            ))
        };
        let blob = self
            .blobs
            .get(&keys::preview_blob(&caller.tenant, deployment.id))
            .await?;
        // One of another version counts as none.
        serde_json::from_slice(&blob.ok_or_else(missing)?).map_err(|_| missing())
    }

    /// Makes a preview.
    pub(crate) async fn write_preview(&self, tenant: &TenantId, id: DeploymentId) -> Result<(), AppError> {
        let Some(deployment) = self.load_deployment(tenant, id).await? else {
            return Ok(());
        };
        let reference = &deployment.template;
        let Some(template) = self
            .load_template(tenant, &reference.name, &reference.version)
            .await?
        else {
            return Ok(());
        };
        let components = self.components_of(&deployment).await?;
        let planned = match self.component_clusters(tenant, &template, &components).await? {
            Ok(clusters) => self.plan_of(&deployment, &template, &clusters),
            Err(errors) => Err(errors),
        };
        let dag = match planned {
            Ok(dag) => dag,
            Err(errors) => {
                tracing::warn!(deployment = %id, ?errors, "a deployment cannot be planned");
                return Ok(());
            }
        };
        let known: BTreeMap<&str, &ComponentDeployment> = components
            .iter()
            .map(|component| (component.component_name.as_str(), component))
            .collect();
        let mut found = Vec::new();
        for step in &dag.steps {
            if let Some(component) = known.get(step.id.as_str()) {
                found.push(self.preview(&deployment, component, step).await?);
            }
        }
        let plan = DeploymentPlan {
            dag,
            components: found,
            generated_at: self.clock.now(),
        };
        let body = serde_json::to_vec(&plan).unwrap_or_default();
        Ok(self.blobs.put(&keys::preview_blob(tenant, id), body).await?)
    }

    async fn preview(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        step: &DagStep,
    ) -> Result<ComponentPlan, AppError> {
        let finding = match self.rendering(deployment, step) {
            Ok(rendering) => self.look(deployment, component, rendering).await?,
            Err(finding) => *finding,
        };
        let (manifest_digest, manifest) = match finding.checked {
            Some(checked) => (Some(checked.manifest_digest), Some(checked.manifest)),
            None => (None, None),
        };
        Ok(ComponentPlan {
            component: component.component_name.clone(),
            cluster_id: component.cluster_id,
            release_name: component.release_name.clone(),
            namespace: deployment.namespace.clone(),
            change: finding.change,
            reason: finding.reason,
            chart: finding.chart,
            manifest_digest,
            manifest,
        })
    }

    /// What Helm is to render, as far as that can be known now.
    fn rendering(&self, deployment: &Deployment, step: &DagStep) -> Result<Rendering, Box<Finding>> {
        let refused =
            |message: String| Box::new(Finding::without_manifest(ComponentChange::Refused, message));
        let text = |name: &str| step.params.get(name).and_then(Value::as_str).map(str::to_owned);
        let over = step
            .params
            .get("values")
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default();
        let (chart_ref, chart_version, values) = match text("selected_component") {
            None => (text("chart_ref").unwrap_or_default(), text("chart_version"), over),
            Some(selected) => {
                let entry = self.catalog.entry(&selected);
                let entry =
                    entry.ok_or_else(|| refused(format!("the catalog has no component '{selected}'")))?;
                let chart = &entry.chart;
                let values = merge_values(&chart.values, &over);
                (chart.reference.clone(), chart.version.clone(), values)
            }
        };
        let params = JsonMap::from_iter([
            ("chart_ref".to_owned(), chart_ref.into()),
            ("chart_version".to_owned(), chart_version.into()),
            ("values".to_owned(), Value::Object(values)),
        ]);
        let read = collect_references(&Value::Object(params.clone()), &Path::root(), Scope::VALUES);
        for (path, read) in read.references {
            let why = match read.reference {
                Reference::Output { step, .. } => {
                    format!("{path} reads what step '{step}' will have found")
                }
                Reference::Secret { name } => format!("{path} reads secret '{name}'"),
                Reference::Parameter { name } if deployment.secret_parameters.contains_key(&name) => {
                    format!("{path} reads secret parameter '{name}'")
                }
                _ => continue,
            };
            return Err(Box::new(Finding::without_manifest(
                ComponentChange::Deferred,
                why,
            )));
        }
        let context = RenderContext {
            parameters: deployment.parameters.clone(),
            secret_parameters: deployment.secret_parameters.clone(),
            steps: BTreeMap::new(),
            deployment: facts(deployment),
        };
        let mut rendered = context
            .render_without_secrets(&params, &Path::root())
            .map_err(refused)?;
        let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
        Ok(Rendering {
            chart_ref: text(rendered.get("chart_ref")).unwrap_or_default(),
            chart_version: text(rendered.get("chart_version")),
            values: match rendered.remove("values") {
                Some(Value::Object(values)) => values,
                _ => JsonMap::new(),
            },
        })
    }

    async fn look(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        rendering: Rendering,
    ) -> Result<Finding, AppError> {
        let tenant = &deployment.tenant;
        let refused = |message: String| Ok(Finding::without_manifest(ComponentChange::Refused, message));
        let pulled = self
            .charts
            .pull(tenant, &rendering.chart_ref, rendering.chart_version.as_deref())
            .await;
        let chart = match pulled {
            Ok(chart) => chart,
            Err(error) => return refused(error.to_string()),
        };
        let named = format!("{}-{}", chart.name, chart.version);
        let (exists, checked) = match self
            .check_on(deployment, component, chart, rendering.values)
            .await
        {
            Ok(checked) => checked,
            Err(ConnectError::App(error)) => return Err(error),
            Err(ConnectError::Target(error)) => return refused(error.to_string()),
        };
        let deployed = match component.job_id {
            Some(job) => self.deployed_digest(tenant, job).await?,
            None => None,
        };
        let change = match exists {
            false => ComponentChange::Create,
            true if deployed.as_ref() == Some(&checked.manifest_digest) => ComponentChange::Unchanged,
            true => ComponentChange::Change,
        };
        Ok(Finding {
            change,
            reason: None,
            chart: Some(named),
            checked: Some(checked),
        })
    }

    /// Whether the release exists, and what would be applied.
    async fn check_on(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        chart: PulledChart,
        values: JsonMap,
    ) -> Result<(bool, CheckedRelease), ConnectError> {
        let blocked = slipway_policy::check_values(&Value::Object(values.clone()));
        if !blocked.is_empty() {
            let list: Vec<String> = blocked.iter().map(ToString::to_string).collect();
            return Err(TargetError::permanent(format!("Invalid Helm config: {}", list.join("; "))).into());
        }
        let target = self.connect(&deployment.tenant, component.cluster_id).await?;
        let release = Release {
            namespace: deployment.namespace.clone(),
            name: component.release_name.clone(),
        };
        let record = target.record(&release).await?;
        let request = ReleaseRequest {
            release,
            chart: chart.archive,
            values,
            labels: BTreeMap::new(),
            deployment: Some(deployment.id),
            create_namespace: true,
            crds: slipway_model::CrdPolicy::default(),
            immutable: slipway_model::ImmutablePolicy::default(),
            adopt: false,
            leftovers: Vec::new(),
            time_limit: RENDERING,
        };
        let exists = record.is_some_and(|record| record.ever_deployed);
        Ok((exists, target.check(&request).await?))
    }

    /// The digest of the manifest that a job checked before it applied it.
    async fn deployed_digest(&self, tenant: &TenantId, job: JobId) -> Result<Option<String>, AppError> {
        let job = self.load_job(tenant, job).await?;
        let digest = job.and_then(|job| job.metadata_.get("manifest_digest").cloned());
        Ok(digest.and_then(|digest| digest.as_str().map(str::to_owned)))
    }
}
