//! The cache folder, and how something is put into it once, whole, by one run at a time.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::run::say;

/// The folder that holds everything fetched, built or started by this crate: `$SLIPWAY_CACHE`, else
/// `~/Library/Caches/slipway` on macOS, else `$XDG_CACHE_HOME/slipway` or `~/.cache/slipway`.
///
/// # Errors
/// When `SLIPWAY_CACHE` is a relative path, or neither it nor a home folder is known.
pub fn root() -> Result<PathBuf> {
    if let Some(chosen) = non_empty("SLIPWAY_CACHE") {
        if chosen.is_relative() {
            bail!(
                "SLIPWAY_CACHE is `{}`, but it must be an absolute path",
                chosen.display()
            );
        }
        return Ok(chosen);
    }
    let home = || non_empty("HOME").context("neither SLIPWAY_CACHE nor HOME is set; set one of them");
    if cfg!(target_os = "macos") {
        return Ok(home()?.join("Library/Caches/slipway"));
    }
    match non_empty("XDG_CACHE_HOME").filter(|path| path.is_absolute()) {
        Some(base) => Ok(base.join("slipway")),
        None => Ok(home()?.join(".cache/slipway")),
    }
}

fn non_empty(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// Holds a lock file until it is dropped; the kernel releases it when the process dies.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// Takes the lock file at `path`, waiting for whoever holds it, and says so when it has to wait.
    ///
    /// # Errors
    /// When the file cannot be created or locked.
    pub fn take(path: &Path) -> Result<Self> {
        let parent = path.parent().context("a lock file lies in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open the lock file {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => return Ok(Self(file)),
            Err(TryLockError::WouldBlock) => {
                say(&format!("waiting for another run to release {}", path.display()));
            }
            Err(TryLockError::Error(_)) => {}
        }
        file.lock()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self(file))
    }
}

/// One of those who use something that the last of them takes away; the kernel forgets one whose process dies.
#[derive(Debug)]
pub struct Share(File);

impl Share {
    /// Joins those who hold the lock file at `path`, after waiting for whoever takes away what it stands for.
    ///
    /// # Errors
    /// When the file cannot be created or locked.
    pub fn take(path: &Path) -> Result<Self> {
        let parent = path.parent().context("a lock file lies in a folder")?;
        fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .with_context(|| format!("cannot open the lock file {}", path.display()))?;
        file.lock_shared()
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self(file))
    }

    /// Leaves. If nobody else is left, runs `last`, while which nobody can join. Returns whether that was so.
    ///
    /// # Errors
    /// What `last` returns, and when the lock cannot be changed.
    pub fn leave(self, last: impl FnOnce() -> Result<()>) -> Result<bool> {
        self.0.unlock().context("cannot give a lock free")?;
        match self.0.try_lock() {
            Ok(()) => last().map(|()| true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error).context("cannot take a lock"),
        }
    }
}

/// Makes `target` exist by running `install` on an empty folder beside it and renaming that folder at the end, so
/// that `target` is either absent or complete. Runs that come at the same time wait for the first one.
///
/// # Errors
/// Whatever `install` returns, with the name of the target; a failed installation leaves nothing behind.
pub fn install(target: &Path, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if target.is_dir() {
        return Ok(());
    }
    let parent = target
        .parent()
        .context("an installation target lies in a folder")?;
    let name = target
        .file_name()
        .context("an installation target has a name")?
        .to_string_lossy();
    fs::create_dir_all(parent).with_context(|| format!("cannot create {}", parent.display()))?;
    let _lock = Lock::take(&parent.join(format!(".{name}.lock")))?;
    if target.is_dir() {
        return Ok(());
    }
    let prefix = format!(".{name}.");
    remove_leftovers(parent, &prefix)?;
    let scratch = tempfile::Builder::new()
        .prefix(&prefix)
        .tempdir_in(parent)
        .with_context(|| format!("cannot create a folder in {}", parent.display()))?;
    install(scratch.path())?;
    fs::rename(scratch.path(), target).with_context(|| format!("cannot put {} into place", target.display()))
}

/// Removes what installations that were killed have left: whoever holds the lock has the only live one.
fn remove_leftovers(parent: &Path, prefix: &str) -> Result<()> {
    for entry in fs::read_dir(parent)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.file_name().to_string_lossy().starts_with(prefix) {
            fs::remove_dir_all(entry.path())
                .with_context(|| format!("cannot remove {}", entry.path().display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn a_failed_installation_leaves_no_target_and_can_be_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("part/1.0");
        let failed = install(&target, |into| {
            fs::write(into.join("half"), "")?;
            bail!("the network is down")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the network is down");
        assert!(!target.exists());

        install(&target, |into| Ok(fs::write(into.join("whole"), "")?)).unwrap();
        let names: Vec<_> = fs::read_dir(&target)
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["whole"]);
    }

    #[test]
    fn what_a_killed_installation_left_is_removed_and_other_versions_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("1.0");
        for there in [".1.0.abc", "2.0", ".2.0.abc"] {
            fs::create_dir(folder.path().join(there)).unwrap();
        }
        install(&target, |_| Ok(())).unwrap();
        assert!(!folder.path().join(".1.0.abc").exists());
        assert!(folder.path().join("2.0").exists() && folder.path().join(".2.0.abc").exists());
    }

    #[test]
    fn only_the_last_who_leaves_takes_it_away() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("users");
        let (one, two) = (Share::take(&path).unwrap(), Share::take(&path).unwrap());
        assert!(!one.leave(|| panic!("somebody is left")).unwrap());
        let mut taken = false;
        let was_last = two.leave(|| {
            taken = true;
            Ok(())
        });
        assert!(was_last.unwrap() && taken);
    }

    #[test]
    fn runs_at_the_same_time_install_once() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("part/1.0");
        let installations = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    install(&target, |into| {
                        installations.fetch_add(1, Ordering::SeqCst);
                        Ok(fs::write(into.join("binary"), "")?)
                    })
                    .unwrap();
                    assert!(target.join("binary").is_file());
                });
            }
        });
        assert_eq!(installations.load(Ordering::SeqCst), 1);
    }
}
