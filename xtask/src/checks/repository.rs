//! What no tracked file may hold: the address of a package registry. Packages come through the registries' ordinary
//! clients, which each user points where they like.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::run::{output, workspace};

/// The hosts, each put together here so that this file does not hold them either.
const HOSTS: &[&str] = &[
    concat!("crates", ".io"),
    concat!("npm", "js.org"),
    concat!("npm", "js.com"),
    concat!("yarn", "pkg.com"),
    concat!("proxy.", "golang.org"),
    concat!("sum.", "golang.org"),
    concat!("py", "pi.org"),
    concat!("python", "hosted.org"),
    concat!("repo.maven", ".apache.org"),
    concat!("repo1.", "maven.org"),
    concat!("deb.", "debian.org"),
];

/// How cargo writes where a crate comes from; its lock file cannot do without it, and it is a name, not an address
/// that anything is fetched from.
const CARGO_SOURCE: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

const NPM_LOCKS: &[&str] = &[
    "package-lock.json",
    "npm-shrinkwrap.json",
    ".package-lock.json",
    "yarn.lock",
    "pnpm-lock.yaml",
];

/// Every breach of the rule in the tracked files, as `file:line: what`.
///
/// # Errors
/// When git cannot list the files.
pub fn violations() -> Result<Vec<String>> {
    let listed = output(
        Command::new("git")
            .current_dir(workspace())
            .args(["ls-files", "-z"]),
    )
    .context("cannot list the tracked files")?;
    let mut found = Vec::new();
    for name in listed.split('\0').filter(|name| !name.is_empty()) {
        // A tracked file may be deleted in the working tree, or be a link to a folder.
        let Ok(bytes) = fs::read(workspace().join(name)) else {
            continue;
        };
        found.extend(violations_in(name, &String::from_utf8_lossy(&bytes)));
    }
    Ok(found)
}

fn violations_in(name: &str, text: &str) -> Vec<String> {
    let base = Path::new(name).file_name().unwrap_or_default().to_string_lossy();
    let is_cargo_lock = base == "Cargo.lock";
    let is_npm_lock = NPM_LOCKS.contains(&base.as_ref());
    let mut found = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = if is_cargo_lock {
            line.replace(CARGO_SOURCE, "")
        } else {
            line.to_owned()
        };
        let place = format!("{name}:{}", number + 1);
        if let Some(host) = HOSTS.iter().find(|host| line.contains(*host)) {
            found.push(format!("{place}: names the package registry {host}"));
        } else if is_npm_lock && line.contains("resolved") && line.contains("://") {
            found.push(format!(
                "{place}: holds a download address; write the file with omit-lockfile-registry-resolved"
            ));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_repository_keeps_the_rule() {
        assert_eq!(violations().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn a_host_is_found_with_its_line() {
        let text = format!("first\nsee https://registry.{}/x\n", HOSTS[1]);
        assert_eq!(
            violations_in("docs/a.md", &text),
            [format!("docs/a.md:2: names the package registry {}", HOSTS[1])]
        );
    }

    #[test]
    fn cargos_own_source_names_pass_in_its_lock_file_only() {
        let line = format!("source = \"{CARGO_SOURCE}\"");
        assert_eq!(violations_in("Cargo.lock", &line), Vec::<String>::new());
        assert_eq!(violations_in("README.md", &line).len(), 1);
    }

    #[test]
    fn a_lock_file_with_download_addresses_is_found() {
        let line = "\"resolved\": \"https://example.org/a.tgz\",";
        assert_eq!(violations_in("web/package-lock.json", line).len(), 1);
        assert_eq!(violations_in("web/other.json", line), Vec::<String>::new());
    }
}
