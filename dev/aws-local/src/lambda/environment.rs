//! The environment of a function's process: what Lambda gives, and what the template says.

use std::collections::BTreeMap;

use super::Machine;
use crate::clock;
use crate::template::{FunctionDefinition, REGION};

/// Where Lambda puts layers.
const LAYERS: &str = "/opt";

/// All variables of a process; it inherits none. `runtime` is the address of its runtime API, `endpoint` where its
/// calls to AWS go.
pub(super) fn of(
    definition: &FunctionDefinition,
    machine: &Machine,
    runtime: &str,
    endpoint: &str,
) -> BTreeMap<String, String> {
    let stream = format!(
        "{}/[$LATEST]{}",
        clock::now().strftime("%Y/%m/%d"),
        clock::random_hex(32)
    );
    let memory = definition.memory.to_string();
    let programs = machine.programs.display().to_string();
    let mut variables: BTreeMap<String, String> = [
        ("AWS_ACCESS_KEY_ID", "local"),
        ("AWS_SECRET_ACCESS_KEY", "local"),
        ("AWS_SESSION_TOKEN", "local"),
        ("AWS_REGION", REGION),
        ("AWS_DEFAULT_REGION", REGION),
        ("AWS_ENDPOINT_URL", endpoint),
        ("AWS_LAMBDA_RUNTIME_API", runtime),
        ("AWS_LAMBDA_FUNCTION_NAME", &definition.name),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST"),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", &memory),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand"),
        ("AWS_LAMBDA_LOG_GROUP_NAME", &definition.log_group),
        ("AWS_LAMBDA_LOG_STREAM_NAME", &stream),
        ("AWS_LAMBDA_LOG_FORMAT", "JSON"),
        ("AWS_EXECUTION_ENV", "AWS_Lambda_provided.al2023"),
        ("_HANDLER", "bootstrap"),
        ("LAMBDA_TASK_ROOT", &programs),
        ("LAMBDA_RUNTIME_DIR", "/var/runtime"),
        ("LANG", "en_US.UTF-8"),
        ("TZ", ":UTC"),
        ("PATH", "/usr/local/bin:/usr/bin:/bin"),
        // Whoever is called from here is on this machine, too.
        ("SLIPWAY_REACH_LOOPBACK", "true"),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    for (name, value) in &definition.environment {
        variables.insert(name.clone(), local(value, machine));
    }
    variables.extend(machine.environment.iter().cloned());
    variables
}

/// Layers lie elsewhere on this machine.
fn local(value: &str, machine: &Machine) -> String {
    match value.strip_prefix(LAYERS) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            format!("{}{rest}", machine.layers.display())
        }
        _ => value.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn paths_of_layers_lead_to_the_folder_that_stands_for_them() {
        let machine = Machine {
            programs: PathBuf::new(),
            layers: PathBuf::from("/cache/layers"),
            logs: PathBuf::new(),
            sandboxes: 1,
            environment: Vec::new(),
        };
        assert_eq!(local("/opt/helm/helm", &machine), "/cache/layers/helm/helm");
        assert_eq!(local("/optional", &machine), "/optional");
    }
}
