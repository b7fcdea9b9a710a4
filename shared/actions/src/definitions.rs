//! Parameters that several actions take.

use slipway_model::ParameterDefinition;

pub(crate) const fn parameter(
    name: &'static str,
    label: &'static str,
    parameter_type: &'static str,
    description: &'static str,
    required: bool,
) -> ParameterDefinition {
    ParameterDefinition {
        name,
        label,
        parameter_type,
        description,
        required,
    }
}

pub(crate) const TARGET_CLUSTER: ParameterDefinition = parameter(
    "cluster_id",
    "Cluster",
    "cluster_ref",
    "Target cluster for deployment.",
    true,
);
pub(crate) const DEPLOYMENT: ParameterDefinition = parameter(
    "deployment_id",
    "Deployment",
    "string",
    "The deployment that it belongs to.",
    false,
);
pub(crate) const DERIVED_RELEASE_NAME: ParameterDefinition = parameter(
    "release_name",
    "Release Name",
    "string",
    "Helm release name; derived if omitted.",
    false,
);
pub(crate) const DERIVED_NAMESPACE: ParameterDefinition = parameter(
    "namespace",
    "Namespace",
    "string",
    "Kubernetes namespace; derived if omitted.",
    false,
);
pub(crate) const READINESS_TIMEOUT: ParameterDefinition = parameter(
    "timeout",
    "Deploy Timeout",
    "duration",
    "Until everything is ready, such as '600s' or '10m'.",
    false,
);
pub(crate) const WAIT: ParameterDefinition = parameter(
    "wait",
    "Wait",
    "boolean",
    "Whether readiness is waited for; true if omitted.",
    false,
);
pub(crate) const CREATE_NAMESPACE: ParameterDefinition = parameter(
    "create_namespace",
    "Create Namespace",
    "boolean",
    "Whether a missing namespace is created.",
    false,
);
pub(crate) const DELETE_ON_FAILURE: ParameterDefinition = parameter(
    "delete_on_failure",
    "Delete on Failure",
    "boolean",
    "Whether a failed first install is removed.",
    false,
);
pub(crate) const CRDS: ParameterDefinition =
    parameter("crds", "CRDs", "string", "`skip`, `create` or `apply`.", false);
pub(crate) const IMMUTABLE: ParameterDefinition = parameter(
    "immutable",
    "Immutable Fields",
    "string",
    "`stop` or `recreate`.",
    false,
);
pub(crate) const ADOPT: ParameterDefinition = parameter(
    "adopt",
    "Adopt",
    "boolean",
    "Whether someone else's release may be taken over.",
    false,
);
pub(crate) const HEALTH_CHECKS: ParameterDefinition = parameter(
    "health_checks",
    "Health Checks",
    "json",
    "When custom resources without a Ready condition are ready: CEL expressions by kind.",
    false,
);
pub(crate) const CLUSTER: ParameterDefinition = parameter(
    "cluster_id",
    "Cluster",
    "cluster_ref",
    "Cluster of the release.",
    true,
);
pub(crate) const RELEASE_NAME: ParameterDefinition =
    parameter("release_name", "Release Name", "string", "Helm release.", true);
pub(crate) const NAMESPACE: ParameterDefinition =
    parameter("namespace", "Namespace", "string", "Kubernetes namespace.", true);
pub(crate) const TIMEOUT: ParameterDefinition = parameter(
    "timeout",
    "Timeout",
    "duration",
    "How long it may take, such as '600s' or '10m'.",
    false,
);
