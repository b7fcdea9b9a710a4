//! Parts that are built from Go modules. Each folder in `dev/` with a `go.mod` pins what one of them is built from.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use super::Part;
use crate::run::{output, workspace};

/// What a build is told besides the packages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flags {
    ldflags: &'static str,
    tags: &'static str,
}

/// A build that needs nothing special.
pub(super) const PLAIN: Flags = Flags {
    ldflags: "-s -w",
    tags: "",
};

/// A Kubernetes binary reports 0.0.0 unless it is told its version, and then refuses its peers.
pub(super) const KUBERNETES: Flags = Flags {
    ldflags: "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3 \
              -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36",
    tags: "",
};

/// containerd without the snapshotters that need libraries of the system.
pub(super) const CONTAINERD: Flags = Flags {
    ldflags: "-s -w",
    tags: "no_btrfs no_devmapper no_zfs no_aufs",
};

/// The folder of a pinned Go module.
pub(super) fn module(folder: &str) -> PathBuf {
    workspace().join("dev").join(folder)
}

/// Builds programs of the module in `dev/<folder>`, each under its package's own name.
pub(super) fn build(folder: &str, packages: &[&str], flags: Flags, into: &Path) -> Result<()> {
    for package in packages {
        let mut go = go();
        go.current_dir(module(folder)).args([
            "build",
            "-mod=readonly",
            "-trimpath",
            "-ldflags",
            flags.ldflags,
        ]);
        if !flags.tags.is_empty() {
            go.args(["-tags", flags.tags]);
        }
        output(go.arg("-o").arg(into.join(program(package))).arg(package))?;
    }
    Ok(())
}

/// Builds one program from a module of its own, at the version of `part`.
pub(super) fn install(package: &str, part: &Part, version_variable: &str, into: &Path) -> Result<()> {
    let ldflags = format!("-s -w -X {version_variable}=v{}", part.version);
    let versioned = format!("{package}@v{}", part.version);
    output(
        go().env("GOBIN", into)
            .args(["install", "-trimpath", "-ldflags", &ldflags, &versioned]),
    )?;
    Ok(())
}

fn go() -> Command {
    let mut go = Command::new("go");
    // A workspace file above the checkout would replace the pinned versions.
    go.env("CGO_ENABLED", "0").env("GOWORK", "off");
    go
}

/// The name of a package's program, where the package's own says too little.
fn program(package: &str) -> &str {
    match package {
        "slipway.dev/dev/image" => "program",
        _ if package.starts_with("go.etcd.io/etcd/server/") => "etcd",
        _ => package.rsplit('/').next().unwrap_or(package),
    }
}
