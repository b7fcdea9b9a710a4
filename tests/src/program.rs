//! The `slipway` program, built once per test run in the profile of the tests.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use xtask::run::{cargo, last_lines};

static PROGRAM: OnceLock<PathBuf> = OnceLock::new();

/// The program. It is built first, so that what is tested is never an older state of the sources; when
/// `SLIPWAY_TEST_PROGRAM` names one, that is taken as it is.
///
/// # Panics
/// When it does not build.
pub fn slipway() -> &'static Path {
    PROGRAM.get_or_init(|| match std::env::var_os("SLIPWAY_TEST_PROGRAM") {
        Some(chosen) => PathBuf::from(chosen),
        None => build(&["slipway".to_owned()]).join("slipway"),
    })
}

/// Builds programs in the profile of the tests and returns the folder that they are in.
///
/// # Panics
/// When one does not build.
pub(crate) fn build(packages: &[String]) -> PathBuf {
    // target/<profile>/deps/<test>-<hash>
    let test = std::env::current_exe().unwrap();
    let folder = test.parent().and_then(Path::parent).unwrap();
    let profile = match folder.file_name().and_then(|name| name.to_str()).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut command = cargo();
    command.args(["build", "--quiet", "--profile", profile]);
    for package in packages {
        command.args(["--package", package]);
    }
    let built = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        built.status.success(),
        "{} does not build:\n{}",
        packages.join(", "),
        last_lines(&String::from_utf8_lossy(&built.stderr), 40)
    );
    for package in packages {
        assert!(folder.join(package).is_file(), "cargo built no {package}");
    }
    folder.to_owned()
}

/// How a command of the program ended.
#[derive(Debug)]
pub struct Run {
    /// The exit status; 128 and more for a signal.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub errors: String,
}

impl Run {
    /// Runs a command to its end.
    ///
    /// # Panics
    /// When it cannot be started.
    #[track_caller]
    pub fn of(command: &mut Command) -> Self {
        let Output {
            status,
            stdout,
            stderr,
        } = command.stdin(Stdio::null()).output().unwrap();
        Self {
            code: status.code().unwrap_or(128),
            out: String::from_utf8_lossy(&stdout).into_owned(),
            errors: String::from_utf8_lossy(&stderr).into_owned(),
        }
    }

    /// Its standard output, after checking its exit status.
    ///
    /// # Panics
    /// When the status is another one.
    #[track_caller]
    #[must_use]
    pub fn expect(&self, code: i32) -> &str {
        assert_eq!(self.code, code, "{}\n{}", self.out, self.errors);
        &self.out
    }
}
