//! Where an embedded control plane keeps its data, and what it leaves there for clients.

use std::{
    fs,
    path::{Path, PathBuf},
};

use etcetera::BaseStrategy as _;
use serde::{Deserialize, Serialize};

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

/// What a control plane left in the folder, if one did.
pub(crate) fn read_server_file(data: &Path) -> Option<(String, Option<String>)> {
    let text = fs::read_to_string(server_file(data)).ok()?;
    let file: ServerFile = serde_json::from_str(&text).ok()?;
    let token = fs::read_to_string(&file.token_file).ok();
    Some((file.url, token.map(|token| token.trim().to_owned())))
}
