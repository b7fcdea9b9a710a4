//! The real parts that tests, the cluster and the demo use, each set up once per machine.
//!
//! A part is a row of a table: what it is, its version, what it takes to set it up, and how. [`set_up`] reports every
//! missing prerequisite of every part at once, then installs what is not in the cache yet.

mod debian;
mod go;
mod maven;
mod npm;
mod parts;
mod python;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};

use crate::cache;
use crate::run::{on_path, output, say};

pub use parts::*;

/// A program that must be there before a part can be set up. This crate does not install it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prerequisite {
    /// `cargo`, which also runs this program.
    Rust,
    /// `npm`, which comes with Node.js.
    Node,
    /// `go`, 1.26 or later.
    Go,
    /// `java` and `javac`, from a JDK of version 17 or later.
    Java,
    /// `mvn`, 3.6 or later.
    Maven,
    /// `python3` with `pip`.
    Python,
    /// `apt-get` and `dpkg-deb`.
    Debian,
}

impl Prerequisite {
    fn commands(self) -> &'static [&'static str] {
        match self {
            Self::Rust => &["cargo"],
            Self::Node => &["npm"],
            Self::Go => &["go"],
            Self::Java => &["java", "javac"],
            Self::Maven => &["mvn"],
            Self::Python => &["python3"],
            Self::Debian => &["apt-get", "dpkg-deb"],
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Node => "Node.js",
            Self::Go => "Go 1.26",
            Self::Java => "a JDK 17",
            Self::Maven => "Maven 3",
            Self::Python => "Python 3",
            Self::Debian => "Debian's package tools",
        }
    }
}

/// One real part: a row of the table of parts.
#[derive(Debug)]
pub struct Part {
    /// Its name, which is also its folder's.
    pub name: &'static str,
    /// Its version; a new one is set up beside the old one.
    pub version: &'static str,
    /// What setting it up needs.
    pub needs: &'static [Prerequisite],
    /// How long setting it up takes on two cores, for whoever waits.
    pub takes: &'static str,
    /// Fills an empty folder with it.
    pub install: fn(&Path) -> Result<()>,
}

impl Part {
    /// Where its files are, or will be.
    ///
    /// # Errors
    /// When there is no cache folder.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(cache::root()?.join("tools").join(self.name).join(self.version))
    }

    /// One of its files, after setting it up when it is not there yet.
    ///
    /// # Errors
    /// As [`set_up`].
    pub fn file(&self, name: &str) -> Result<PathBuf> {
        set_up(&[self])?;
        Ok(self.folder()?.join(name))
    }
}

/// Sets up those of the parts that are not in the cache.
///
/// # Errors
/// One error that names every missing prerequisite and the parts that need it; or the failure of an installation.
pub fn set_up(parts: &[&Part]) -> Result<()> {
    let mut absent = Vec::new();
    for part in parts {
        if !part.folder()?.is_dir() {
            absent.push(*part);
        }
    }
    if let Some(message) = missing(&absent, |command| on_path(command).is_some()) {
        bail!(message);
    }
    for part in absent {
        let label = format!("{} {}", part.name, part.version);
        say(&format!(
            "setting up {label} (the first time takes {})",
            part.takes
        ));
        let start = Instant::now();
        cache::install(&part.folder()?, part.install).with_context(|| format!("cannot set up {label}"))?;
        say(&format!(
            "{label} is set up ({:.1} s)",
            start.elapsed().as_secs_f32()
        ));
    }
    Ok(())
}

/// What to say about prerequisites that are not there, or nothing when all are.
fn missing(parts: &[&Part], has: impl Fn(&str) -> bool) -> Option<String> {
    let mut needed_by: BTreeMap<Prerequisite, Vec<String>> = BTreeMap::new();
    for part in parts {
        for need in part.needs {
            needed_by
                .entry(*need)
                .or_default()
                .push(format!("{} {}", part.name, part.version));
        }
    }
    let lines: Vec<_> = needed_by
        .into_iter()
        .filter(|(need, _)| !need.commands().iter().all(|command| has(command)))
        .map(|(need, users)| {
            let commands: Vec<_> = need
                .commands()
                .iter()
                .map(|command| format!("`{command}`"))
                .collect();
            format!(
                "  {} ({} on PATH), needed by {}",
                need.label(),
                commands.join(" and "),
                users.join(", ")
            )
        })
        .collect();
    (!lines.is_empty()).then(|| format!("please install what is missing:\n{}", lines.join("\n")))
}

/// A Helm 4 binary: the one on `PATH` if it is a Helm 4, else the one in the cache, which is set up when needed.
///
/// # Errors
/// As [`set_up`].
pub fn helm() -> Result<PathBuf> {
    if let Some(found) = on_path("helm") {
        let version = output(Command::new(&found).args(["version", "--template", "{{.Version}}"]));
        if version.is_ok_and(|version| version.trim().starts_with("v4.")) {
            return Ok(found);
        }
    }
    HELM.file("helm")
}

/// The kubectl in the cache, of the cluster's own version.
///
/// # Errors
/// As [`set_up`].
pub fn kubectl() -> Result<PathBuf> {
    KUBECTL.file("kubectl")
}

/// An OCI registry's binary: `docker-registry` on `PATH`, else the one in the cache.
///
/// # Errors
/// As [`set_up`].
pub fn docker_registry() -> Result<PathBuf> {
    match on_path("docker-registry") {
        Some(found) => Ok(found),
        None => REGISTRY.file("usr/bin/docker-registry"),
    }
}

/// `cargo-lambda`, which builds the functions for AWS.
///
/// # Errors
/// As [`set_up`].
pub fn cargo_lambda() -> Result<PathBuf> {
    CARGO_LAMBDA.file("bin/cargo-lambda")
}

/// The SAM command line.
///
/// # Errors
/// As [`set_up`].
pub fn sam() -> Result<PathBuf> {
    SAM.file("bin/sam")
}

/// The linter for CloudFormation templates.
///
/// # Errors
/// As [`set_up`].
pub fn cfn_lint() -> Result<PathBuf> {
    CFN_LINT.file("bin/cfn-lint")
}

/// The policy scanner for infrastructure.
///
/// # Errors
/// As [`set_up`].
pub fn checkov() -> Result<PathBuf> {
    CHECKOV.file("bin/checkov")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(name: &'static str, needs: &'static [Prerequisite]) -> Part {
        Part {
            name,
            version: "1",
            needs,
            takes: "",
            install: |_| Ok(()),
        }
    }

    #[test]
    fn one_message_names_all_that_is_missing_and_what_needs_it() {
        let parts = [
            part("etcd", &[Prerequisite::Go]),
            part("kwok", &[Prerequisite::Go]),
            part("dynamodb", &[Prerequisite::Java]),
        ];
        let parts: Vec<_> = parts.iter().collect();
        assert_eq!(
            missing(&parts, |command| command == "npm").unwrap(),
            "please install what is missing:\n  Go 1.26 (`go` on PATH), needed by etcd 1, kwok 1\n  a JDK 17 (`java` and `javac` on PATH), needed by dynamodb 1"
        );
        assert_eq!(missing(&parts, |_| true), None);
    }

    #[test]
    fn half_of_a_prerequisite_is_a_missing_one() {
        let registry = part("registry", &[Prerequisite::Debian]);
        assert!(missing(&[&registry], |command| command == "apt-get").is_some());
    }

    #[test]
    fn the_table_and_the_go_modules_agree_on_versions() {
        for (part, module) in [
            (&CONTROL_PLANE, "k8s.io/kubernetes"),
            (&KUBELET, "k8s.io/kubernetes"),
            (&KUBECTL, "k8s.io/kubernetes"),
            (&ETCD, "go.etcd.io/etcd/server/v3"),
            (&KWOK, "sigs.k8s.io/kwok"),
            (&CONTAINERD, "github.com/containerd/containerd/v2"),
        ] {
            let folder = if module.starts_with("k8s.io") {
                "kubernetes"
            } else {
                part.name
            };
            let file = go::module(folder).join("go.mod");
            let text = std::fs::read_to_string(&file).unwrap();
            let required = text
                .lines()
                .filter_map(|line| line.trim().strip_prefix("require ").or(Some(line.trim())))
                .find_map(|line| line.strip_prefix(&format!("{module} v")))
                .map(|rest| rest.split_whitespace().next().unwrap());
            assert_eq!(required, Some(part.version), "{module} in {}", file.display());
        }
    }

    #[test]
    fn the_table_and_the_maven_projects_agree_on_versions() {
        for (part, artifact) in [(&DYNAMODB, "DynamoDBLocal"), (&ELASTICMQ, "elasticmq-server_3")] {
            let file = maven::project(part.name);
            let text = std::fs::read_to_string(&file).unwrap();
            let text: String = text.split_whitespace().collect();
            let pin = format!(
                "<artifactId>{artifact}</artifactId><version>{}</version>",
                part.version
            );
            assert!(text.contains(&pin), "{} has no {pin}", file.display());
        }
    }

    #[test]
    fn the_table_and_the_python_environments_agree_on_versions() {
        for part in [&MOTO, &CARGO_LAMBDA, &SAM, &CFN_LINT, &CHECKOV] {
            let file = python::requirements(part.name);
            let text = std::fs::read_to_string(&file).unwrap();
            let pin = format!("{}=={}", part.name, part.version);
            assert!(
                text.lines().any(|line| line == pin),
                "{} has no {pin}",
                file.display()
            );
        }
    }
}
