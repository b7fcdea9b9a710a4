//! The three forms of a chart reference, as far as pulling needs them. Which hosts may be asked is decided before.

/// A chart reference taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference {
    pub(super) place: Place,
    /// `sha256:<hex>` after an `@`.
    pub(super) digest: Option<String>,
}

/// Where a chart is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// `charts/<name>`.
    Bundled { name: String },
    /// `oci://<host>/<path>`.
    Oci { host: String, path: String },
    /// `https://<host>/<path>/<chart>`, the path being a repository; it may be empty.
    Repository {
        host: String,
        path: String,
        chart: String,
    },
    /// `https://<host>/<path>.tgz`.
    Archive { host: String, path: String },
}

const EXPECTED: &str = "expected oci://host/path, https://host/path/chart, https://host/path.tgz or charts/name, optionally with @sha256:…";

impl Reference {
    /// Reads a reference; the error says what would be right.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (place, digest) = match text.split_once('@') {
            Some((place, digest)) => (place, Some(read_digest(digest)?)),
            None => (text, None),
        };
        if place.contains("..") || place.contains(['?', '#', '\\']) || place.chars().any(|c| c <= ' ') {
            return Err(format!("it has a query, '..' or a blank: {EXPECTED}"));
        }
        let place = if let Some(name) = place.strip_prefix("charts/") {
            if !is_name(name) {
                return Err(format!("'{name}' is not the name of a bundled chart: {EXPECTED}"));
            }
            Place::Bundled {
                name: name.to_owned(),
            }
        } else if let Some(rest) = place.strip_prefix("oci://") {
            let (host, path) = host_and_path(rest)?;
            Place::Oci { host, path }
        } else if let Some(rest) = place.strip_prefix("https://") {
            let (host, path) = host_and_path(rest)?;
            match path.rsplit_once('/') {
                _ if path.ends_with(".tgz") => Place::Archive { host, path },
                Some((path, chart)) => Place::Repository {
                    host,
                    path: path.to_owned(),
                    chart: chart.to_owned(),
                },
                None => Place::Repository {
                    host,
                    path: String::new(),
                    chart: path,
                },
            }
        } else {
            return Err(EXPECTED.to_owned());
        };
        Ok(Self { place, digest })
    }
}

fn read_digest(digest: &str) -> Result<String, String> {
    let valid = digest
        .strip_prefix("sha256:")
        .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')));
    if valid {
        Ok(digest.to_owned())
    } else {
        Err(
            "what follows '@' is not a digest: expected sha256: and 64 lower-case hexadecimal digits"
                .to_owned(),
        )
    }
}

fn host_and_path(rest: &str) -> Result<(String, String), String> {
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let path = path.trim_end_matches('/');
    if host.is_empty() || path.is_empty() {
        return Err(format!(
            "it names no {}: {EXPECTED}",
            if host.is_empty() { "host" } else { "chart" }
        ));
    }
    Ok((host.to_owned(), path.to_owned()))
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_form_is_taken_apart() {
        let place = |text: &str| Reference::parse(text).unwrap().place;
        assert_eq!(place("charts/demo"), Place::Bundled { name: "demo".into() });
        assert_eq!(
            place("oci://r.example:5000/team/demo"),
            Place::Oci {
                host: "r.example:5000".into(),
                path: "team/demo".into()
            }
        );
        assert_eq!(
            place("https://c.example/stable/demo"),
            Place::Repository {
                host: "c.example".into(),
                path: "stable".into(),
                chart: "demo".into()
            }
        );
        assert!(matches!(
            place("https://c.example/demo-1.0.0.tgz"),
            Place::Archive { .. }
        ));
        let digest = format!("sha256:{}", "0a".repeat(32));
        let pinned = Reference::parse(&format!("oci://r.example/demo@{digest}")).unwrap();
        assert_eq!(pinned.digest.as_deref(), Some(digest.as_str()));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [
            "demo",
            "http://c.example/demo",
            "file:///etc",
            "charts/../x",
            "charts/a/b",
            "charts/",
            "oci://r.example",
            "https://c.example/demo?x=1",
            "https://user:pw@c.example/demo",
            "oci://r.example/demo@sha256:abc",
        ] {
            assert!(Reference::parse(bad).is_err(), "{bad}");
        }
    }
}
