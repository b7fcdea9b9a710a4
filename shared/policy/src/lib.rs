//! What may be deployed, decided before anything touches a cluster: where charts come from ([`ChartRef`],
//! [`HostPolicy`]), which values they get ([`check_values`]), and how a Helm job is configured
//! ([`validate_helm_config`]). Nothing here does I/O.

mod chart_ref;
mod constraint;
mod helm_config;
mod hosts;
mod kubeconfig;
mod names;
mod timeout;
mod values;

pub use chart_ref::{ChartRef, ChartRefError, Digest};
pub use constraint::{ConstraintError, check_constraint};
pub use helm_config::{ConfigCheck, FieldError, validate_helm_config};
pub use hosts::{HostEntryError, HostPolicy, HostRefused};
pub use kubeconfig::check_kubeconfig;
pub use names::{NameError, Namespace, ReleaseName, kubernetes_name};
pub use timeout::{TimeoutError, parse_timeout};
pub use values::{BLOCKED_KEYS, BlockedValue, check_values};
