//! Where an embedded control plane keeps its data, and what it leaves there for clients.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};
use slipway_embedded::while_unused;

use crate::failure::Failure;

/// What `serve` writes into its data folder while it runs.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ServerFile {
    /// Where it listens.
    pub(crate) url: String,
    /// The file that holds the token.
    pub(crate) token_file: PathBuf,
}

/// The data folder: `--data`, `SLIPWAY_DATA`, or the platform's (`~/.local/share/slipway` on Linux).
pub(crate) fn data_folder(chosen: Option<&Path>) -> Result<PathBuf, Failure> {
    let folder = match chosen {
        Some(folder) => folder.to_owned(),
        None => etcetera::choose_base_strategy()
            .map_err(|_| {
                Failure::misuse("this user has no home folder, so the data folder must be named")
                    .next("pass --data DIR or set SLIPWAY_DATA")
            })?
            .data_dir()
            .join("slipway"),
    };
    std::path::absolute(&folder)
        .map_err(|error| Failure::misuse(format!("'{}' is not a folder: {error}", folder.display())))
}

/// Where the file for clients stands.
pub(crate) fn server_file(data: &Path) -> PathBuf {
    data.join("server.json")
}

/// Where the control plane that runs on the folder listens, and its token. What a control plane left that was killed
/// is not believed: somebody else may have its port by now, who must not get the token.
pub(crate) fn running(data: &Path) -> Result<(String, Option<String>), Failure> {
    if unless_running(data, || ())?.is_some() {
        return Err(Failure::failed(format!(
            "no control plane runs on the data folder {}",
            data.display()
        ))
        .next("start one with `slipway serve`, or name another with --url or SLIPWAY_URL")
        .passing());
    }
    read_server_file(data).ok_or_else(|| {
        Failure::failed(format!(
            "the control plane on the data folder {} is starting or ending",
            data.display()
        ))
        .next("try again in a moment")
        .passing()
    })
}

/// Removes what a control plane left that was killed.
pub(crate) fn forget_killed(data: &Path) -> Result<(), Failure> {
    let file = server_file(data);
    match unless_running(data, || fs::remove_file(&file))? {
        Some(Err(error)) if error.kind() != io::ErrorKind::NotFound => Err(Failure::failed(format!(
            "{} cannot be removed: {error}",
            file.display()
        ))
        .next("choose a folder that this user may write, with --data DIR")),
        _ => Ok(()),
    }
}

fn unless_running<T>(data: &Path, act: impl FnOnce() -> T) -> Result<Option<T>, Failure> {
    while_unused(data, act).map_err(|error| {
        Failure::failed(format!(
            "it cannot be seen whether a control plane runs on the data folder {}: {error}",
            data.display()
        ))
        .next(
            "choose a folder of this user with --data DIR, or name a control plane with --url or SLIPWAY_URL",
        )
    })
}

fn read_server_file(data: &Path) -> Option<(String, Option<String>)> {
    let text = fs::read_to_string(server_file(data)).ok()?;
    let file: ServerFile = serde_json::from_str(&text).ok()?;
    let token = fs::read_to_string(&file.token_file).ok();
    Some((file.url, token.map(|token| token.trim().to_owned())))
}
