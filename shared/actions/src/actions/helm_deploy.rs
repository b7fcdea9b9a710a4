//! `helm_deploy`: installs or upgrades any Helm chart.

use async_trait::async_trait;
use slipway_model::{
    ActionMetadata, EffectClass, ExecutionMode, HelmOperation, JobType, OutputDefinition, ParameterDefinition,
};

use crate::{
    Action, Answer, Context,
    definitions::{
        ADOPT, CRDS, CREATE_NAMESPACE, DELETE_ON_FAILURE, DERIVED_NAMESPACE, DERIVED_RELEASE_NAME,
        HEALTH_CHECKS, IMMUTABLE, READINESS_TIMEOUT, TARGET_CLUSTER, WAIT, parameter,
    },
    helm::{JOB_SECONDS, config_of, draft, unrendered_values},
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
    TARGET_CLUSTER,
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
    DERIVED_RELEASE_NAME,
    DERIVED_NAMESPACE,
    parameter(
        "values",
        "Helm Values",
        "json",
        "Values over the chart's; expressions may stand anywhere.",
        false,
    ),
    READINESS_TIMEOUT,
    WAIT,
    CREATE_NAMESPACE,
    DELETE_ON_FAILURE,
    CRDS,
    IMMUTABLE,
    ADOPT,
    parameter(
        "outputs",
        "Outputs",
        "json",
        "Extractors of further outputs, by name.",
        false,
    ),
    HEALTH_CHECKS,
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
