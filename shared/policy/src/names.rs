//! Names of Helm releases, namespaces and Kubernetes objects.

use std::fmt;

use sha2::{Digest as _, Sha256};

/// The longest name of a Helm release.
const RELEASE_LENGTH: usize = 53;
/// The longest DNS label.
const LABEL_LENGTH: usize = 63;
/// How many hexadecimal digits of the hash a shortened name ends with.
const HASH_LENGTH: usize = 10;

/// A text that is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{name}' is not a {kind}: it has lower-case letters, digits and -, begins and ends with a letter or digit, and is at most {limit} characters long"
)]
pub struct NameError {
    name: String,
    kind: &'static str,
    limit: usize,
}

fn check(name: &str, kind: &'static str, limit: usize) -> Result<String, NameError> {
    if is_label(name, limit) {
        Ok(name.to_owned())
    } else {
        let shown = name.chars().take(100).flat_map(char::escape_debug).collect();
        Err(NameError {
            name: shown,
            kind,
            limit,
        })
    }
}

fn is_label(name: &str, limit: usize) -> bool {
    (1..=limit).contains(&name.len())
        && name
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The name of a Helm release: a DNS label of at most 53 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReleaseName(String);

impl ReleaseName {
    /// Takes a name that someone chose.
    ///
    /// # Errors
    /// [`NameError`] if it is not such a label.
    pub fn parse(name: &str) -> Result<ReleaseName, NameError> {
        check(name, "release name", RELEASE_LENGTH).map(ReleaseName)
    }

    /// `<deployment>-<component>`, in lower case and with `-` for `_`.
    ///
    /// What is longer than 53 characters, or has characters that no release name has, is changed and ends with a
    /// hash of both names as they were given, so that two different pairs do not become one name.
    pub fn of(deployment: &str, component: &str) -> ReleaseName {
        let name = format!("{deployment}-{component}");
        ReleaseName(fit(&name, &format!("{deployment}\0{component}"), RELEASE_LENGTH))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ReleaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a namespace: a DNS label of at most 63 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// Takes a name that someone chose.
    ///
    /// # Errors
    /// [`NameError`] if it is not such a label.
    pub fn parse(name: &str) -> Result<Namespace, NameError> {
        check(name, "namespace", LABEL_LENGTH).map(Namespace)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The DNS label by which Kubernetes knows a component: `-` for `_`, and what else does not fit replaced as in
/// [`ReleaseName::of`].
pub fn kubernetes_name(component: &str) -> String {
    fit(component, component, LABEL_LENGTH)
}

/// `name` as a label of at most `limit` characters, with a hash of `identity` at its end if more than the case
/// and `_` had to change.
fn fit(name: &str, identity: &str, limit: usize) -> String {
    let plain = name.to_ascii_lowercase().replace('_', "-");
    if is_label(&plain, limit) {
        return plain;
    }
    let safe: String = plain
        .chars()
        .map(|character| {
            if character.is_ascii_lowercase() || character.is_ascii_digit() {
                character
            } else {
                '-'
            }
        })
        .take(limit - HASH_LENGTH - 1)
        .collect();
    let stem = safe.trim_matches('-');
    let hash: String = Sha256::digest(identity)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let separator = if stem.is_empty() { "" } else { "-" };
    format!("{stem}{separator}{}", &hash[..HASH_LENGTH])
}
