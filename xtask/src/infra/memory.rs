//! The function that runs Helm has the memory for as many as it runs at a time.

use std::fs;

use anyhow::{Context, Result};

use super::template::{Template, number};
use crate::run::workspace;

/// The function, and where its limits stand.
const FUNCTION: &str = "deploy-helm";
const LIMITS: &str = "shared/lambda-shell/src/helm.rs";
/// MiB of the address space that a Helm reserves and never uses: Helm 4.2 does not even start with 832 MiB in all.
const UNUSED: u64 = 768;
/// MiB for the function's own process, and for what the system takes.
const REST: u64 = 512;
/// MiB that AWS lets a function have in any account: more is refused where it has not raised that, and the stack with it.
const LARGEST: u64 = 3008;

pub(super) fn violations() -> Result<Vec<String>> {
    let text =
        fs::read_to_string(workspace().join(LIMITS)).with_context(|| format!("cannot read {LIMITS}"))?;
    let constant = |name: &str| {
        constant(&text, name).with_context(|| format!("{LIMITS} has no constant {name} that is a number"))
    };
    let limits = Limits {
        processes: constant("PROCESSES")?,
        memory: constant("MEMORY_MIB")?,
    };
    in_template(&Template::read()?, &limits)
}

/// The number in `const NAME: u64 = 4;`.
fn constant(source: &str, name: &str) -> Option<u64> {
    let (_, rest) = source.split_once(&format!("const {name}: "))?;
    let (_, value) = rest.split_once(';')?.0.split_once(" = ")?;
    value.replace('_', "").parse().ok()
}

/// Helms at a time, and MiB of address space that each may take.
struct Limits {
    processes: u64,
    memory: u64,
}

fn in_template(template: &Template, limits: &Limits) -> Result<Vec<String>> {
    let properties = template
        .function(FUNCTION)
        .with_context(|| format!("the template has no function {FUNCTION}"))?;
    let has = number(&properties["MemorySize"]).context("it has no memory size")?;
    let mut found = Vec::new();
    let needs = limits.processes * limits.memory.saturating_sub(UNUSED) + REST;
    if has < needs {
        found.push(format!(
            "{FUNCTION} has {has} MiB, but its Helms and itself may take {needs}"
        ));
    }
    if has > LARGEST {
        found.push(format!(
            "{FUNCTION} has {has} MiB, but AWS may refuse a function more than {LARGEST}"
        ));
    }
    let events = properties["Events"].as_object().into_iter().flatten();
    for (_, event) in events {
        let batch = number(&event["Properties"]["BatchSize"]);
        if batch != Some(limits.processes) {
            found.push(format!(
                "{FUNCTION} is given {batch:?} messages at a time, and runs {} Helms",
                limits.processes
            ));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_with_too_little_memory_for_its_helms_is_found() {
        let template = Template::read().unwrap();
        let limits = |processes, memory| Limits { processes, memory };
        let found = |limits| in_template(&template, &limits).unwrap();
        assert_eq!(violations().unwrap(), [""; 0]);
        assert_eq!(found(limits(2, 4096)).len(), 1);
        assert_eq!(found(limits(2, 2048)).len(), 1);
        assert_eq!(found(limits(4, 2016)).len(), 2);
        assert_eq!(found(limits(1, 2016)).len(), 1);
    }

    #[test]
    fn more_memory_than_every_account_has_is_found() {
        let text = fs::read_to_string(Template::path()).unwrap();
        let larger = text.replace("MemorySize: 3008", "MemorySize: 3072");
        let limits = Limits {
            processes: 2,
            memory: 2016,
        };
        let found = in_template(&Template::parse(&larger).unwrap(), &limits).unwrap();
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("3072"), "{found:?}");
    }

    #[test]
    fn constants_are_read_from_the_source() {
        assert_eq!(constant("const A: u64 = 1_024;\n", "A"), Some(1024));
        assert_eq!(constant("const A: u64 = B;\n", "A"), None);
    }
}
