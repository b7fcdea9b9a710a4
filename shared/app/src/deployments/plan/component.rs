//! What one component would get.

use std::{collections::BTreeMap, time::Duration};

use serde_json::Value;
use slipway_model::{ComponentDeployment, DagStep, Deployment, Job, JsonMap};
use slipway_ports::{
    ChartError, FailureClass, PreviewRequest, PulledChart, Release, ReleasePreview, ReleaseRequest,
    TargetError,
};

use super::{
    ComponentChange, ComponentPlan,
    rendering::{OutputSources, Rendering, secret_pointers},
};
use crate::{App, AppError, clusters::ConnectError, jobs::foreign};

/// How long Helm may render one component.
const RENDERING: Duration = Duration::from_secs(60);

/// How often a place for Helm is waited for, each time for as long as the target does.
const TURNS: u32 = 6;

/// How a component is deployed now.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// The deployment as it is.
    pub(super) deployment: &'a Deployment,
    /// The job that deployed the component's release last.
    pub(super) job: Option<&'a Job>,
}

impl App {
    /// Plans one component of `deployment` as it would be; with where its outputs would be read, as far as that is known.
    pub(super) async fn plan_component(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        before: Before<'_>,
        step: &DagStep,
        outputs: &BTreeMap<String, Option<JsonMap>>,
    ) -> Result<(ComponentPlan, Option<OutputSources>), AppError> {
        let mut plan = ComponentPlan {
            component: component.component_name.clone(),
            cluster_id: component.cluster_id,
            release_name: component.release_name.clone(),
            namespace: deployment.namespace.clone(),
            change: ComponentChange::Refused,
            reason: None,
            revision: None,
            chart: None,
            objects: Vec::new(),
            dangers: Vec::new(),
            notes: Vec::new(),
            manifest_digest: None,
            manifest: None,
        };
        let rendering = match self.rendering(deployment, step, outputs).await? {
            Ok(rendering) => rendering,
            Err((change, reason)) => {
                plan.change = change;
                plan.reason = Some(reason);
                return Ok((plan, None));
            }
        };
        let pulled = self
            .charts
            .pull(
                &deployment.tenant,
                &rendering.chart_ref,
                rendering.chart_version.as_deref(),
            )
            .await;
        let chart = match pulled {
            Ok(chart) => chart,
            Err(error @ (ChartError::Unavailable { .. } | ChartError::Queued { .. })) => {
                plan.reason = Some(format!("{error}; this may pass"));
                return Ok((plan, None));
            }
            Err(error) => {
                plan.reason = Some(error.to_string());
                return Ok((plan, None));
            }
        };
        plan.chart = Some(format!("{}-{}", chart.name, chart.version));
        match self
            .try_out(deployment, component, before, chart, &rendering)
            .await
        {
            Ok(preview) => take_over(&mut plan, preview),
            Err(ConnectError::App(error)) => return Err(error),
            // Charts may put a value into an error.
            Err(ConnectError::Target(error)) => {
                plan.reason = Some(rendering.resolved.hide_in_error(&error.to_string()));
            }
        }
        Ok((plan, rendering.outputs))
    }

    /// Has the target say what applying would do.
    async fn try_out(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        before: Before<'_>,
        chart: PulledChart,
        rendering: &Rendering,
    ) -> Result<ReleasePreview, ConnectError> {
        let values = &rendering.values;
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
        let policies = &rendering.policies;
        let owner = deployment.id.to_string();
        if let Some(record) = target.record(&release).await?
            && let Some(error) = foreign(&record, &release, &owner, policies.adopt)
        {
            return Err(error.into());
        }
        let request = ReleaseRequest {
            release,
            chart: chart.archive,
            values: values.clone(),
            secrets: rendering.resolved.texts().to_vec(),
            labels: BTreeMap::new(),
            deployment: Some(deployment.id),
            create_namespace: policies.create_namespace,
            crds: policies.crds,
            immutable: policies.immutable,
            adopt: policies.adopt,
            leftovers: Vec::new(),
            time_limit: RENDERING,
        };
        let secret_values = secret_values_of(before, rendering);
        let request = PreviewRequest {
            release: &request,
            secret_values: &secret_values,
        };
        let mut turns = TURNS;
        loop {
            match target.preview(&request).await {
                Err(error) if error.class() == FailureClass::Queued && turns > 1 => turns -= 1,
                answer => return Ok(answer?),
            }
        }
    }
}

/// Where in the values that a component was deployed with, and in those that it would get, texts stand that come from
/// secrets. The new ones are secret at their places in the old values, too: the job of a component that does not run
/// may have expired.
fn secret_values_of(before: Before<'_>, rendering: &Rendering) -> Vec<String> {
    let mut found = rendering.secret_values.clone();
    if let Some(values) = before.job.and_then(|job| job.config.get("values")) {
        found.extend(secret_pointers(values, &before.deployment.secret_parameters));
    }
    found
}

fn take_over(plan: &mut ComponentPlan, preview: ReleasePreview) {
    plan.change = if preview.refused.is_empty() {
        ComponentChange::of(&preview.objects, preview.exists)
    } else {
        ComponentChange::Refused
    };
    plan.reason = (!preview.refused.is_empty()).then(|| preview.refused.join("; "));
    plan.revision = preview.revision;
    plan.objects = preview.objects;
    plan.notes = preview.notes;
    plan.manifest_digest = Some(preview.manifest_digest);
    plan.manifest = Some(preview.manifest);
}
