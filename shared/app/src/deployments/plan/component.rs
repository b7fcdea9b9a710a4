//! What one component would get.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use slipway_model::{
    ComponentDeployment, DagStep, Deployment, HealthCheck, Job, JsonMap, ObjectChange, ObjectPlan,
    ObjectRole, Timestamp,
};
use slipway_policy::ConfigCheck;
use slipway_ports::{
    ChartError, FailureClass, ObjectReference, PreviewRequest, PulledChart, Release, ReleasePreview,
    ReleaseRecord, ReleaseRequest, TargetError,
};

use super::{
    ComponentChange, ComponentPlan,
    make::NOT_LOOKED_AT,
    rendering::{OutputSources, Rendering, secret_pointers},
};
use crate::{App, AppError, clusters::ConnectError, jobs::foreign};

/// How long Helm may render one component.
const RENDERING: Duration = Duration::from_secs(60);

/// How often a place for Helm is waited for, each time for as long as the target does.
const TURNS: u32 = 6;

/// What is said of a component whose release stays, whatever has become of its objects.
const KEPT: &str = "it is kept as it is: what others changed in it is drift, which is not corrected";

/// What is said of a component that completed in an execution that is tried again.
const COMPLETED: &str =
    "it has completed, and a retry keeps it as it is: what others changed in it is not corrected";

/// How a component is deployed now.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// The deployment as it is.
    pub(super) deployment: &'a Deployment,
    /// The job that deployed the component's release last.
    pub(super) job: Option<&'a Job>,
    /// What tells whether its release is ready.
    pub(super) health_checks: &'a [HealthCheck],
    /// Until when something is begun.
    pub(super) until: Timestamp,
}

/// What is known of a release that is to be deployed.
enum Tried {
    /// A job keeps it as it is: the newest record, and the digest of its manifest where that is known.
    Kept(ReleaseRecord, Option<String>),
    /// What applying it would do.
    Previewed(ReleasePreview),
}

impl ComponentPlan {
    /// The plan of a component of which nothing has been found out yet: to be refused.
    fn of(deployment: &Deployment, component: &ComponentDeployment) -> Self {
        Self {
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
        }
    }

    /// Of a component that there was no time to look at.
    pub(super) fn not_looked_at(deployment: &Deployment, component: &ComponentDeployment) -> Self {
        Self {
            change: ComponentChange::Deferred,
            reason: Some(NOT_LOOKED_AT.to_owned()),
            ..Self::of(deployment, component)
        }
    }

    /// Of a component whose step a retry keeps.
    pub(super) fn completed(deployment: &Deployment, component: &ComponentDeployment) -> Self {
        Self {
            change: ComponentChange::Unchanged,
            notes: vec![COMPLETED.to_owned()],
            ..Self::of(deployment, component)
        }
    }
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
        let mut plan = ComponentPlan::of(deployment, component);
        let rendering = match self.rendering(deployment, step, outputs).await? {
            Ok(rendering) => rendering,
            Err((change, reason)) => {
                plan.change = change;
                plan.reason = Some(reason);
                return Ok((plan, None));
            }
        };
        let version = rendering.chart_version.as_deref().unwrap_or_default();
        let config = json!({
            "chart_ref": rendering.chart_ref,
            "chart_version": version,
            "release_name": component.release_name,
            "namespace": deployment.namespace,
        });
        // As the job would: a reference that was an expression is known only now.
        if let Some(message) = self.config_errors(&config, ConfigCheck::Rendered) {
            plan.reason = Some(message);
            return Ok((plan, None));
        }
        let pulled = self
            .charts
            .pull(
                &deployment.tenant,
                &rendering.chart_ref,
                Some(version).filter(|version| !version.is_empty()),
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
            Ok(Tried::Previewed(preview)) => take_over(&mut plan, preview),
            Ok(Tried::Kept(record, manifest_digest)) => {
                plan.change = ComponentChange::Unchanged;
                plan.revision = Some(record.revision);
                plan.objects = record.objects.iter().map(stays).collect();
                plan.notes.push(KEPT.to_owned());
                plan.manifest_digest = manifest_digest;
            }
            Err(ConnectError::App(error)) => return Err(error),
            // Charts may put a value into an error.
            Err(ConnectError::Target(error)) => {
                plan.reason = Some(rendering.resolved.hide_in_error(&error.to_string()));
            }
        }
        Ok((plan, rendering.outputs))
    }

    /// Has the target say what applying would do, unless a job would keep the release.
    async fn try_out(
        &self,
        deployment: &Deployment,
        component: &ComponentDeployment,
        before: Before<'_>,
        chart: PulledChart,
        rendering: &Rendering,
    ) -> Result<Tried, ConnectError> {
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
        let record = target.record(&release).await?;
        if let Some(record) = &record
            && let Some(error) = foreign(record, &release, &owner, policies.adopt)
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
        if let Some(record) = record
            && let Some(intent) = self.intent(&deployment.tenant, &chart.digest, &request).await?
            && let Some(maker) = self
                .maker_of(&deployment.tenant, deployment.id, &record, &intent)
                .await?
            && target
                .observe(
                    &request.release,
                    &record.objects,
                    before.health_checks,
                    Duration::ZERO,
                )
                .await?
                .ready
        {
            let digest = maker.metadata_.get("manifest_digest");
            let digest = digest.and_then(Value::as_str).map(str::to_owned);
            return Ok(Tried::Kept(record, digest));
        }
        let secret_values = secret_values_of(before, rendering);
        let request = PreviewRequest {
            release: &request,
            secret_values: &secret_values,
        };
        let mut turns = TURNS;
        loop {
            match target.preview(&request).await {
                Err(error)
                    if error.class() == FailureClass::Queued
                        && turns > 1
                        && self.clock.now() < before.until =>
                {
                    turns -= 1;
                }
                answer => return Ok(Tried::Previewed(answer?)),
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

/// An object of a release that is kept.
fn stays(object: &ObjectReference) -> ObjectPlan {
    ObjectPlan {
        api_version: object.api_version.clone(),
        kind: object.kind.clone(),
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        change: ObjectChange::Unchanged,
        role: ObjectRole::Object,
        reason: None,
        diff: None,
        dangers: Vec::new(),
    }
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
