//! The control group that holds everything of a real node.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::run::say;

/// The places where a control group of this name has to be made: one for each hierarchy of version 1, else the one of
/// version 2.
fn folders_to_make(mounts: &str, name: &str) -> Vec<PathBuf> {
    let version_1 = folders_in(mounts, name, |kind| kind == "cgroup");
    if version_1.is_empty() {
        folders_in(mounts, name, |kind| kind == "cgroup2")
    } else {
        version_1
    }
}

/// Where groups of this name may be, in mounted hierarchies of the wanted kinds.
fn folders_in(mounts: &str, name: &str, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let wanted = fields.filter(|fields| fields.get(2).is_some_and(|kind| wanted(kind)));
    wanted.map(|fields| Path::new(fields[1]).join(name)).collect()
}

/// Creates it.
pub(super) fn create(name: &str) -> Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot list what is mounted")?;
    for folder in folders_to_make(&mounts, name) {
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot create the control group {}", folder.display()))?;
        let switch = folder.with_file_name("cgroup.subtree_control");
        if switch.exists() {
            fs::write(&switch, "+cpu +cpuset +memory +pids")
                .with_context(|| format!("cannot hand controllers down in {}", switch.display()))?;
        }
    }
    Ok(())
}

/// Removes it with all groups in it, one folder at a time, from the inside.
pub(super) fn remove(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    // Where both versions are mounted, runc makes a group in either.
    for folder in folders_in(&mounts, name, |kind| kind.starts_with("cgroup")) {
        remove_folders(&folder);
        if folder.exists() {
            say(&format!("cannot remove the control group {}", folder.display()));
        }
    }
}

fn remove_folders(folder: &Path) {
    let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_folders(&entry.path());
    }
    // Whether it went is looked at once, at the top.
    let _ = fs::remove_dir(folder);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_control_group_is_made_in_every_hierarchy_that_the_kubelet_looks_at() {
        let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup /sys/fs/cgroup/memory cgroup rw 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        let expected = ["/sys/fs/cgroup/cpu/x", "/sys/fs/cgroup/memory/x"].map(PathBuf::from);
        assert_eq!(folders_to_make(hybrid, "x"), expected);
        let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n";
        assert_eq!(folders_to_make(unified, "x"), [PathBuf::from("/sys/fs/cgroup/x")]);
    }
}
