//! The manifest gate: a post-renderer inside the applying Helm, so that what is judged is what is applied, values drawn
//! at random included.
//!
//! Helm 4 takes post-renderers as plugins, which are programs. Ours is three lines of shell: it puts the manifest into
//! a file, asks through one named pipe and waits for the verdict on another. The judging happens in this process.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::{CWD, FileType, Mode};
use slipway_model::Cluster;
use slipway_ports::{Release, TargetError};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe,
};

use crate::{binary::Workspace, manifest::Document};

/// Name of the plugin.
pub(crate) const PLUGIN: &str = "slipway-gate";

/// Judges a rendered manifest: all its objects, hooks and definitions included, as YAML documents. The error says, for
/// people, what is wrong with which object; nothing of the manifest is applied then.
pub type Gate = Arc<dyn Fn(&Cluster, &Release, &str) -> Result<(), String> + Send + Sync>;

/// A gate with everything that it is asked about.
#[derive(Clone)]
pub(crate) struct ReleaseGate {
    pub(crate) gate: Gate,
    pub(crate) cluster: Cluster,
}

impl ReleaseGate {
    /// Judges objects that do not come through Helm's own rendering; `what` names them in the error.
    pub(crate) fn judge_documents(
        &self,
        release: &Release,
        documents: &[Document],
        what: &str,
    ) -> Result<(), TargetError> {
        if documents.is_empty() {
            return Ok(());
        }
        let whole: String = documents
            .iter()
            .map(|document| format!("---\n{}", document.text()))
            .collect();
        self.judge(release, &whole).map_err(|reason| {
            TargetError::permanent(format!("the {what} of {release} were refused: {reason}"))
        })
    }

    fn judge(&self, release: &Release, manifest: &str) -> Result<(), String> {
        (self.gate)(&self.cluster, release, manifest)
    }
}

/// The pipes of one invocation.
pub(crate) struct Gatekeeper {
    manifest: PathBuf,
    ask: pipe::Receiver,
    answer: pipe::Sender,
}

impl Gatekeeper {
    /// Sets up plugin and pipes in a workspace.
    pub(crate) fn prepare(workspace: &Workspace) -> io::Result<Self> {
        let plugin = workspace.path().join("plugins").join(PLUGIN);
        fs::create_dir(&plugin)?;
        let script = workspace.write(
            "gate.sh",
            b"umask 077\ncat >\"$1/manifest\" && echo ask >\"$1/ask\" || exit 1\nread -r verdict <\"$1/answer\"\n[ \"$verdict\" = pass ] && exec cat \"$1/manifest\"\nexit 1\n",
        )?;
        let settings = serde_json::json!({
            "apiVersion": "v1",
            "type": "postrenderer/v1",
            "name": PLUGIN,
            "version": "1.0.0",
            "runtime": "subprocess",
            "runtimeConfig": {"platformCommand": [
                {"command": "/bin/sh", "args": [script, workspace.path()]}
            ]},
        });
        fs::write(plugin.join("plugin.yaml"), settings.to_string())?;
        let pipes = [workspace.path().join("ask"), workspace.path().join("answer")];
        for pipe in &pipes {
            rustix::fs::mknodat(CWD, pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        }
        Ok(Self {
            manifest: workspace.path().join("manifest"),
            ask: pipe::Receiver::from_file_unchecked(open(&pipes[0])?)?,
            answer: pipe::Sender::from_file_unchecked(open(&pipes[1])?)?,
        })
    }

    /// Answers until Helm has ended, which drops the future. Gives out the first refusal at once; Helm then fails.
    pub(crate) async fn keep(mut self, gate: &ReleaseGate, release: &Release, refusal: &mut Option<String>) {
        let mut buffer = [0; 64];
        while let Ok(1..) = self.ask.read(&mut buffer).await {
            let verdict = match fs::read_to_string(&self.manifest) {
                Ok(manifest) => gate.judge(release, &manifest),
                Err(error) => Err(format!("the rendered manifest cannot be read: {error}")),
            };
            let answer: &[u8] = match verdict {
                Ok(()) => b"pass\n",
                Err(reason) => {
                    refusal.get_or_insert(reason);
                    b"refuse\n"
                }
            };
            if self.answer.write_all(answer).await.is_err() {
                break;
            }
        }
        // Helm decides when this ends.
        std::future::pending::<()>().await;
    }
}

/// Opened for both directions, a named pipe neither waits for the other side nor ends when that goes.
fn open(path: &Path) -> io::Result<fs::File> {
    fs::OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0))
        .open(path)
}
