//! A cluster's folder, and the credentials in it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::cache;

/// The user that may do everything.
pub(super) const ADMIN: User = User {
    name: "admin",
    groups: "system:masters",
};
/// The controller manager's own user.
pub(super) const CONTROLLER_MANAGER: User = User {
    name: "system:kube-controller-manager",
    groups: "",
};
/// The scheduler's own user.
pub(super) const SCHEDULER: User = User {
    name: "system:kube-scheduler",
    groups: "",
};

const USERS: [User; 3] = [ADMIN, CONTROLLER_MANAGER, SCHEDULER];

/// Somebody whom the API server knows by a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    name: &'static str,
    groups: &'static str,
}

/// Where the files of one cluster are.
#[derive(Debug)]
pub(super) struct Files {
    name: String,
    folder: PathBuf,
}

impl Files {
    /// The files of the cluster of this name.
    pub(super) fn of(name: &str) -> Result<Self> {
        let right = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if name.is_empty() || name.len() > 32 || name.starts_with('-') || !name.bytes().all(right) {
            bail!("a cluster's name has 1 to 32 small letters, digits and dashes, and `{name}` is not one");
        }
        Ok(Self {
            name: name.to_owned(),
            folder: cache::root()?.join("clusters").join(name),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Beside the folder, because `down` removes that.
    pub(super) fn lock(&self) -> PathBuf {
        self.folder.with_extension("lock")
    }

    /// Held by everybody who uses the cluster.
    pub(super) fn users(&self) -> PathBuf {
        self.folder.with_extension("users")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.path("state.json")
    }

    pub(super) fn kubeconfig(&self, user: User) -> PathBuf {
        if user.name == ADMIN.name {
            return self.path("kubeconfig");
        }
        self.path(&format!("{}.kubeconfig", user.name.trim_start_matches("system:")))
    }

    /// Creates the folder with the tokens and the key that signs the tokens of service accounts.
    pub(super) fn create(&self) -> Result<()> {
        for folder in ["logs", "certificates"] {
            let folder = self.path(folder);
            fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        let mut tokens = String::new();
        for (number, user) in USERS.iter().enumerate() {
            let token: String = random()?.iter().map(|byte| format!("{byte:02x}")).collect();
            tokens.push_str(&format!("{token},{},{number},\"{}\"\n", user.name, user.groups));
        }
        write_private(&self.path("tokens.csv"), &tokens)?;
        write_private(&self.path("service-accounts.pem"), &elliptic_curve_key(random()?))
    }

    /// Writes a kubeconfig for every user, once the API server at `address` has made its certificate.
    pub(super) fn write_kubeconfigs(&self, address: &str, certificates: &str) -> Result<()> {
        let authority =
            last_certificate(certificates).context("the API server's certificate file is empty")?;
        fs::write(self.path("authority.crt"), authority)?;
        let tokens = fs::read_to_string(self.path("tokens.csv"))?;
        for user in USERS {
            let token = tokens
                .lines()
                .filter_map(|line| line.split_once(','))
                .find_map(|(token, rest)| rest.starts_with(&format!("{},", user.name)).then_some(token))
                .context("every user has a token")?;
            let text = kubeconfig(&self.name, address, &STANDARD.encode(authority), user.name, token);
            write_private(&self.kubeconfig(user), &text)?;
        }
        Ok(())
    }
}

fn kubeconfig(cluster: &str, address: &str, authority: &str, user: &str, token: &str) -> String {
    format!(
        "apiVersion: v1
kind: Config
current-context: slipway-{cluster}
clusters:
  - name: slipway-{cluster}
    cluster:
      server: {address}
      certificate-authority-data: {authority}
users:
  - name: {user}
    user:
      token: {token}
contexts:
  - name: slipway-{cluster}
    context:
      cluster: slipway-{cluster}
      user: {user}
"
    )
}

/// The API server writes its own certificate first and then that of the authority that it made for it.
fn last_certificate(text: &str) -> Option<&str> {
    text.rfind("-----BEGIN CERTIFICATE-----")
        .map(|start| &text[start..])
}

fn write_private(file: &Path, text: &str) -> Result<()> {
    File::options()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(file)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", file.display()))
}

fn random() -> Result<[u8; 32]> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut bytes))
        .context("the system gives no random numbers")?;
    Ok(bytes)
}

/// A private key on the curve P-256 in the form of RFC 5915, where a number below the curve's order is all that is
/// needed: readers work out the public half.
fn elliptic_curve_key(mut number: [u8; 32]) -> String {
    number[0] &= 0x7f;
    let mut der = vec![0x30, 0x31, 0x02, 0x01, 0x01, 0x04, 0x20];
    der.extend(number);
    der.extend([
        0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07,
    ]);
    format!(
        "-----BEGIN EC PRIVATE KEY-----\n{}\n-----END EC PRIVATE KEY-----\n",
        pem_lines(&STANDARD.encode(der))
    )
}

fn pem_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .as_bytes()
        .chunks(64)
        .map(|line| String::from_utf8_lossy(line))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_would_leave_the_folder_are_refused() {
        for name in ["", "..", "a/b", "-a", "Dev", &"a".repeat(33)] {
            assert!(Files::of(name).is_err(), "{name}");
        }
        assert!(Files::of("dev-2").is_ok());
    }

    #[test]
    fn the_authority_is_the_last_certificate() {
        let text = "-----BEGIN CERTIFICATE-----\nserver\n-----END CERTIFICATE-----\n\
                    -----BEGIN CERTIFICATE-----\nauthority\n-----END CERTIFICATE-----\n";
        let last = last_certificate(text).unwrap();
        assert!(last.contains("authority") && !last.contains("server"));
        assert_eq!(last_certificate(""), None);
    }

    #[test]
    fn a_key_is_complete_der() {
        let text = elliptic_curve_key([0xff; 32]);
        let body: String = text.lines().filter(|line| !line.starts_with('-')).collect();
        let der = STANDARD.decode(body).unwrap();
        assert_eq!(der.len(), usize::from(der[1]) + 2);
        assert_eq!(der[7], 0x7f, "the number must be below the curve's order");
    }
}
