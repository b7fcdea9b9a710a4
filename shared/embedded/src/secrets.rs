//! Secrets as encrypted files.

use std::{
    error::Error,
    fmt::{self, Write},
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use chacha20poly1305::{
    Key, XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use sha2::{Digest, Sha256};
use slipway_model::TenantId;
use slipway_ports::{ExposeSecret, SecretError, SecretString, Secrets};
use tokio::task::spawn_blocking;

use crate::{
    OpenError,
    folder::{create_folder, remove_file, replace_file},
};

const KEY_LENGTH: usize = 32;
const NONCE_LENGTH: usize = 24;
/// The first byte of a file: how the rest is to be read.
const FORMAT: u8 = 1;
const LONGEST_NAME: usize = 200;

/// Secrets in one file each, encrypted with XChaCha20-Poly1305 under a key that stands beside them, readable by its
/// owner only. Tenant and name are authenticated with the value, so that a file under another name opens nothing.
#[derive(Clone)]
pub struct FileSecrets {
    folder: PathBuf,
    cipher: Arc<XChaCha20Poly1305>,
}

impl fmt::Debug for FileSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileSecrets")
            .field("folder", &self.folder)
            .finish_non_exhaustive()
    }
}

impl FileSecrets {
    /// Uses `secrets/` and `secrets.key` in the data folder; makes both when neither is there.
    pub(crate) fn open(data: &Path) -> Result<Self, OpenError> {
        let folder = data.join("secrets");
        let path = data.join("secrets.key");
        let key = match read_key(&path)? {
            Some(key) => key,
            None if folder.exists() => {
                return Err(OpenError::Key {
                    reason: format!(
                        "is missing, and without it nobody can read {}: bring it back, or remove that folder too",
                        folder.display()
                    ),
                    path,
                });
            }
            None => make_key(&path)?,
        };
        create_folder(&folder).map_err(|source| OpenError::Folder {
            path: folder.clone(),
            operation: "created",
            source,
        })?;
        Ok(Self {
            folder,
            cipher: Arc::new(XChaCha20Poly1305::new(&key)),
        })
    }

    /// The file of a secret. Its name is a digest, because names may be longer than file names and hold slashes.
    fn path(&self, tenant: &TenantId, name: &str) -> PathBuf {
        let mut file = String::with_capacity(64);
        for byte in Sha256::digest(name.as_bytes()) {
            write!(file, "{byte:02x}").expect("text takes what is written");
        }
        self.folder.join(tenant.as_str()).join(file)
    }

    fn write(&self, tenant: &TenantId, name: &str, value: &SecretString) -> Result<(), Cause> {
        let mut nonce = [0; NONCE_LENGTH];
        getrandom::fill(&mut nonce).map_err(|error| error.to_string())?;
        let payload = Payload {
            msg: value.expose_secret().as_bytes(),
            aad: &context(tenant, name),
        };
        let sealed = self
            .cipher
            .encrypt(&XNonce::from(nonce), payload)
            .map_err(|_| "the value cannot be encrypted: it is too large")?;
        let mut content = Vec::with_capacity(1 + nonce.len() + sealed.len());
        content.push(FORMAT);
        content.extend_from_slice(&nonce);
        content.extend_from_slice(&sealed);
        Ok(replace_file(&self.path(tenant, name), &content, 0o600)?)
    }

    fn read(&self, tenant: &TenantId, name: &str) -> Result<Option<SecretString>, Cause> {
        let content = match fs::read(self.path(tenant, name)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (nonce, sealed) = match content.split_first() {
            Some((&FORMAT, rest)) => rest
                .split_first_chunk::<NONCE_LENGTH>()
                .ok_or("its file was cut short")?,
            _ => return Err("its file has a format that this version does not know".into()),
        };
        let payload = Payload {
            msg: sealed,
            aad: &context(tenant, name),
        };
        let opened = self
            .cipher
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| "its file was changed, or written with another key")?;
        let text = String::from_utf8(opened).map_err(|_| "it is not text")?;
        Ok(Some(text.into()))
    }
}

type Cause = Box<dyn Error + Send + Sync>;

/// What is authenticated beside the value. Neither part can hold a null byte.
fn context(tenant: &TenantId, name: &str) -> Vec<u8> {
    format!("slipway secret\0{tenant}\0{name}").into_bytes()
}

fn read_key(path: &Path) -> Result<Option<Key>, OpenError> {
    let refuse = |source| OpenError::Folder {
        path: path.to_owned(),
        operation: "read",
        source,
    };
    let content = match fs::read(path) {
        Ok(content) => content,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refuse(error)),
    };
    let mode = fs::metadata(path).map_err(refuse)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(OpenError::Key {
            path: path.to_owned(),
            reason: format!("can be read by others (mode {mode:o}): set its mode to 600"),
        });
    }
    match <[u8; KEY_LENGTH]>::try_from(content.as_slice()) {
        Ok(key) => Ok(Some(Key::from(key))),
        Err(_) => Err(OpenError::Key {
            path: path.to_owned(),
            reason: format!("has {} bytes, expected {KEY_LENGTH}", content.len()),
        }),
    }
}

fn make_key(path: &Path) -> Result<Key, OpenError> {
    let mut key = [0; KEY_LENGTH];
    getrandom::fill(&mut key).map_err(|error| OpenError::Key {
        path: path.to_owned(),
        reason: format!("cannot be made: {error}"),
    })?;
    replace_file(path, &key, 0o600).map_err(|source| OpenError::Folder {
        path: path.to_owned(),
        operation: "written",
        source,
    })?;
    Ok(Key::from(key))
}

fn check_name(name: &str) -> Result<(), Cause> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"/_.-".contains(&byte);
    if name.is_empty() || name.len() > LONGEST_NAME || !name.bytes().all(allowed) {
        return Err(format!(
            "a name is 1 to {LONGEST_NAME} of the letters a to z and A to Z, digits and / _ . -"
        )
        .into());
    }
    Ok(())
}

/// Runs `work` where it may wait for the disk.
async fn on_disk<T: Send + 'static>(
    operation: &'static str,
    name: &str,
    work: impl FnOnce(&str) -> Result<T, Cause> + Send + 'static,
) -> Result<T, SecretError> {
    let name = name.to_owned();
    spawn_blocking(move || {
        check_name(&name)
            .and_then(|()| work(&name))
            .map_err(|source| SecretError {
                operation,
                name,
                source,
            })
    })
    .await
    .expect("reading and writing secrets does not panic")
}

#[async_trait]
impl Secrets for FileSecrets {
    async fn put(&self, tenant: &TenantId, name: &str, value: SecretString) -> Result<(), SecretError> {
        let (this, tenant) = (self.clone(), tenant.clone());
        on_disk("write", name, move |name| this.write(&tenant, name, &value)).await
    }

    async fn get(&self, tenant: &TenantId, name: &str) -> Result<Option<SecretString>, SecretError> {
        let (this, tenant) = (self.clone(), tenant.clone());
        on_disk("read", name, move |name| this.read(&tenant, name)).await
    }

    async fn delete(&self, tenant: &TenantId, name: &str) -> Result<(), SecretError> {
        let (this, tenant) = (self.clone(), tenant.clone());
        on_disk("delete", name, move |name| {
            Ok(remove_file(&this.path(&tenant, name))?)
        })
        .await
    }
}
