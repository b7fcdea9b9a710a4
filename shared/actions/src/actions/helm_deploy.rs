//! `helm_deploy`: installs or upgrades any Helm chart.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, HelmOperation, JobType, OutputDefinition, ParameterDefinition,
};

use crate::{
    Action, Answer, Context,
    helm::{JOB_SECONDS, config_of, draft, parameter, unrendered_values},
};

pub(crate) struct Definition;

pub(crate) static OUTPUTS: [OutputDefinition; 6] = [
    OutputDefinition {
        name: "job_id",
        output_type: "string",
        description: "Job of the deployment",
    },
    OutputDefinition {
        name: "namespace",
        output_type: "string",
        description: "Kubernetes namespace of the release",
    },
    OutputDefinition {
        name: "release_name",
        output_type: "string",
        description: "Helm release",
    },
    OutputDefinition {
        name: "endpoint_url",
        output_type: "string",
        description: "Service endpoint URL if discoverable, else empty",
    },
    OutputDefinition {
        name: "services",
        output_type: "array",
        description: "Names of the Kubernetes Services that the chart made",
    },
    OutputDefinition {
        name: "status",
        output_type: "string",
        description: "`deploying`, then `running`",
    },
];

static PARAMS: [ParameterDefinition; 15] = [
    parameter(
        "cluster_id",
        "Cluster",
        "cluster_ref",
        "Target cluster for deployment.",
        true,
    ),
    parameter(
        "chart_ref",
        "Chart Reference",
        "string",
        "OCI URL (oci://…), HTTPS repository or archive (https://…), or bundled chart (charts/…).",
        true,
    ),
    parameter(
        "chart_version",
        "Chart Version",
        "string",
        "Version constraint, such as '1.2.0' or '>=1.0.0'.",
        false,
    ),
    parameter(
        "release_name",
        "Release Name",
        "string",
        "Helm release name; derived if omitted.",
        false,
    ),
    parameter(
        "namespace",
        "Namespace",
        "string",
        "Kubernetes namespace; derived if omitted.",
        false,
    ),
    parameter(
        "values",
        "Helm Values",
        "json",
        "Values over the chart's; expressions may stand anywhere.",
        false,
    ),
    parameter(
        "timeout",
        "Deploy Timeout",
        "duration",
        "Until everything is ready, such as '600s' or '10m'.",
        false,
    ),
    parameter(
        "wait",
        "Wait",
        "boolean",
        "Whether readiness is waited for; true if omitted.",
        false,
    ),
    parameter(
        "create_namespace",
        "Create Namespace",
        "boolean",
        "Whether a missing namespace is created.",
        false,
    ),
    parameter(
        "delete_on_failure",
        "Delete on Failure",
        "boolean",
        "Whether a failed first install is removed.",
        false,
    ),
    parameter("crds", "CRDs", "string", "`skip`, `create` or `apply`.", false),
    parameter(
        "immutable",
        "Immutable Fields",
        "string",
        "`stop` or `recreate`.",
        false,
    ),
    parameter(
        "adopt",
        "Adopt",
        "boolean",
        "Whether someone else's release may be taken over.",
        false,
    ),
    parameter(
        "outputs",
        "Outputs",
        "json",
        "Extractors of further outputs, by name.",
        false,
    ),
    parameter(
        "health_checks",
        "Health Checks",
        "json",
        "When custom resources without a Ready condition are ready: CEL expressions by kind.",
        false,
    ),
];

static METADATA: ActionMetadata = ActionMetadata {
    action_type: "helm_deploy",
    version: "1.0.0",
    name: "Deploy Helm Chart",
    category: "Deployment",
    icon: "box",
    color: "#6366F1",
    description: "Deploys any Helm chart to a Kubernetes cluster: from OCI registries, HTTPS repositories, and bundled \
                  charts. Event-driven: waits for the job to report the end of the deployment.",
    execution_mode: ExecutionMode::EventDriven,
    timeout_seconds: JOB_SECONDS,
    idempotent: false,
    // Making the job is a store write under an id derived from the attempt; the job has its own fences.
    effect: EffectClass::Pure,
    required_services: &["jobs"],
    required_permissions: &[],
    params: &PARAMS,
    outputs: &OUTPUTS,
};

#[async_trait]
impl Action for Definition {
    fn metadata(&self) -> &'static ActionMetadata {
        &METADATA
    }

    async fn run(&self, context: Context<'_>) -> Answer {
        let fields = [
            "chart_ref",
            "chart_version",
            "timeout",
            "wait",
            "create_namespace",
            "delete_on_failure",
            "crds",
            "immutable",
            "adopt",
            "outputs",
            "health_checks",
        ];
        let values = unrendered_values(&context);
        let config = config_of(&context, HelmOperation::Deploy, values, &fields);
        draft(&context, JobType::HelmDeploy, config).await
    }
}
