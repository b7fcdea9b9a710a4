//! Where a component's own outputs are read from once its release is ready.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The type that an output must have; what is read is converted to it or refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputType {
    /// Text; the default.
    #[default]
    String,
    /// A whole number.
    Integer,
    /// Any number.
    Number,
    /// `true` or `false`.
    Boolean,
    /// Any JSON value.
    Json,
}

/// An extractor. Names may hold expressions over `deployment` and `parameters`; `{release}` is not special.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "from", rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputSource {
    /// `http://<service>.<namespace>.svc:<port>` of a Service of the release.
    Service {
        /// Service name; without it the first by name labelled with the release.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Port name or number; without it the first port.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port: Option<String>,
        /// Type of the output.
        #[serde(default, rename = "type")]
        output_type: OutputType,
    },
    /// The first rule's URL of an Ingress of the release.
    Ingress {
        /// Ingress name; without it the first by name labelled with the release.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
        /// Type of the output.
        #[serde(default, rename = "type")]
        output_type: OutputType,
    },
    /// A field of an object's `status`.
    Status {
        /// Such as `apps/v1`.
        api_version: String,
        /// Such as `Deployment`.
        kind: String,
        /// Object name.
        name: String,
        /// Dotted path below `status`, such as `readyReplicas`.
        field: String,
        /// Type of the output.
        #[serde(default, rename = "type")]
        output_type: OutputType,
    },
    /// A key of a ConfigMap's `data`.
    ConfigMap {
        /// ConfigMap name.
        name: String,
        /// Key in `data`.
        key: String,
        /// Type of the output.
        #[serde(default, rename = "type")]
        output_type: OutputType,
    },
}

impl OutputSource {
    /// The type that the output is converted to.
    pub fn output_type(&self) -> OutputType {
        match self {
            Self::Service { output_type, .. }
            | Self::Ingress { output_type, .. }
            | Self::Status { output_type, .. }
            | Self::ConfigMap { output_type, .. } => *output_type,
        }
    }
}
