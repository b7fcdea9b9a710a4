//! The token of an embedded control plane, and the file that tells clients where it is.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    failure::Failure,
    place::{ServerFile, server_file},
    random,
};

/// The token in the data folder; made once, of 256 random bits, readable by its owner only.
pub(super) fn token(data: &Path) -> Result<(String, PathBuf), Failure> {
    let file = data.join("token");
    if let Ok(token) = fs::read_to_string(&file) {
        let token = token.trim().to_owned();
        if token.len() >= 64 && token.bytes().all(|byte| byte.is_ascii_graphic()) {
            // It may have been copied or restored with the wrong mode.
            let owner_only = fs::Permissions::from_mode(0o600);
            fs::set_permissions(&file, owner_only).map_err(|error| cannot_write(&file, &error))?;
            return Ok((token, file));
        }
    }
    let token = random::hexadecimal::<32>()?;
    write(&file, &token)?;
    Ok((token, file))
}

/// Tells clients on this machine where the control plane is, while it runs.
pub(super) struct Announcement {
    file: PathBuf,
}

impl Announcement {
    /// Writes the file for clients.
    pub(super) fn write(data: &Path, url: &str, token_file: PathBuf) -> Result<Self, Failure> {
        let file = server_file(data);
        let content = ServerFile {
            url: url.to_owned(),
            token_file,
        };
        write(
            &file,
            &serde_json::to_string(&content).expect("paths of text and text"),
        )?;
        Ok(Self { file })
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Clients do not believe a file that stays once this process has ended.
        let _ = fs::remove_file(&self.file);
    }
}

/// Writes a file as a whole or not at all, readable by its owner only.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    let new = file.with_extension("new");
    let written = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut open| {
            open.set_permissions(fs::Permissions::from_mode(0o600))?;
            open.write_all(text.as_bytes())?;
            open.sync_all()
        })
        .and_then(|()| fs::rename(&new, file));
    written.map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &std::io::Error) -> Failure {
    Failure::failed(format!("{} cannot be written: {error}", file.display()))
        .next("choose a folder that this user may write, with --data DIR")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::{forget_killed, running};

    #[test]
    fn the_token_is_made_once_and_is_its_owners() {
        let data = tempfile::tempdir().unwrap();
        let (token, file) = super::token(data.path()).unwrap();
        assert_eq!(token.len(), 64);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(super::token(data.path()).unwrap().0, token);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn clients_find_the_control_plane_while_it_runs() {
        let data = tempfile::tempdir().unwrap();
        let (token, file) = super::token(data.path()).unwrap();
        let lock = fs::File::create(data.path().join("lock")).unwrap();
        lock.lock().unwrap();
        let said = |data: &Path| running(data).unwrap_err().to_string();
        let announce = || Announcement::write(data.path(), "http://127.0.0.1:1", file.clone()).unwrap();
        let announcement = announce();
        assert_eq!(
            running(data.path()),
            Ok(("http://127.0.0.1:1".to_owned(), Some(token)))
        );
        drop(announcement);
        assert!(said(data.path()).contains("starting or ending"));

        std::mem::forget(announce());
        forget_killed(data.path()).unwrap();
        assert!(running(data.path()).is_ok(), "it runs, and its file is gone");
        lock.unlock().unwrap();
        assert!(said(data.path()).contains("no control plane runs"));
        forget_killed(data.path()).unwrap();
        lock.lock().unwrap();
        assert!(said(data.path()).contains("starting or ending"));
    }
}
