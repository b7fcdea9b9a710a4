//! An OCI registry for tests.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::net::{accepts, free_ports};
use crate::run::last_lines;
use crate::tools;
use crate::wait;

/// A running registry on a free loopback port, empty at first. It speaks plain HTTP, and goes away with its content
/// when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl Registry {
    /// Starts one, setting up the registry's program when needed.
    ///
    /// # Errors
    /// When the program cannot be set up, or does not serve within ten seconds: with the end of its log.
    pub fn start() -> Result<Self> {
        let program = tools::docker_registry()?;
        let folder = tempfile::tempdir().context("cannot create a folder for the registry")?;
        let [port] = free_ports()?;
        let configuration = folder.path().join("config.yml");
        fs::write(
            &configuration,
            configuration_of(port, &folder.path().join("content")),
        )?;
        let log_file = folder.path().join("log");
        let log = fs::File::create(&log_file)?;
        let process = Command::new(&program)
            .arg("serve")
            .arg(&configuration)
            // It would send its spans to a collector on this machine.
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let mut registry = Self {
            port,
            process,
            _folder: folder,
        };
        wait::until(Duration::from_secs(10), "the registry's first answer", || {
            if let Some(status) = registry.process.try_wait()? {
                let log = fs::read_to_string(&log_file).unwrap_or_default();
                bail!("the registry ended with {status}:\n{}", last_lines(&log, 20));
            }
            Ok(accepts(port).then_some(()))
        })?;
        Ok(registry)
    }

    /// Its host and port, as they stand in chart references: `127.0.0.1:40123`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        // It holds nothing worth a graceful end, and a failure to end it leaves nothing to be done.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn configuration_of(port: u16, content: &Path) -> String {
    format!(
        "version: 0.1
log:
  level: warn
storage:
  filesystem:
    rootdirectory: '{}'
  delete:
    enabled: true
http:
  addr: 127.0.0.1:{port}
",
        content.display()
    )
}
