//! References to charts.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The longest reference in bytes.
const MAX_LENGTH: usize = 512;

/// Where a chart comes from. A value that exists is of an allowed form; whether its host may be reached is for
/// [`HostPolicy`](crate::HostPolicy) to say.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChartRef {
    /// `oci://host[:port]/path[@sha256:…]`: a chart in a container registry.
    Oci {
        /// The host, in lower case; an IPv6 address without its brackets.
        host: String,
        /// The port, where one is given.
        port: Option<u16>,
        /// The repository, chart name included, without a leading slash.
        path: String,
        /// The manifest's digest, which pins the chart.
        digest: Option<Digest>,
    },
    /// `https://host[:port]/path`: a chart repository with the chart as last segment, or one `.tgz`.
    Https {
        /// The host, in lower case; an IPv6 address without its brackets.
        host: String,
        /// The port, where one is given.
        port: Option<u16>,
        /// The path without a leading slash.
        path: String,
    },
    /// `charts/name`: a chart that is shipped with the server.
    Bundled {
        /// The chart's name.
        name: String,
    },
}

/// `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

impl Digest {
    /// The digest with its algorithm, as registries write it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is not a chart reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Chart reference '{reference}' does not match any allowed pattern ({hint})")]
pub struct ChartRefError {
    /// The text, printable, cut, and without what may be a password.
    reference: String,
    /// What would be right.
    hint: &'static str,
}

const FORMS: &str =
    "write oci://HOST/PATH, https://HOST/PATH/CHART, https://HOST/PATH/CHART.tgz or charts/NAME";

impl ChartRef {
    /// Reads a chart reference.
    ///
    /// # Errors
    /// [`ChartRefError`] for every other form, among them user info, a query, a fragment, `..`, percent-encoding,
    /// a tag (`:1.2.3`, which belongs into `chart_version`) and anything that is not plain ASCII.
    pub fn parse(text: &str) -> Result<ChartRef, ChartRefError> {
        read(text).map_err(|hint| ChartRefError {
            reference: printable(text),
            hint,
        })
    }

    /// The host, in lower case; an IPv6 address without its brackets. A bundled chart has none.
    pub fn host(&self) -> Option<&str> {
        match self {
            ChartRef::Oci { host, .. } | ChartRef::Https { host, .. } => Some(host),
            ChartRef::Bundled { .. } => None,
        }
    }

    /// The port that the reference names.
    pub fn port(&self) -> Option<u16> {
        match self {
            ChartRef::Oci { port, .. } | ChartRef::Https { port, .. } => *port,
            ChartRef::Bundled { .. } => None,
        }
    }

    /// The path without a leading slash, or the name of a bundled chart.
    pub fn path(&self) -> &str {
        match self {
            ChartRef::Oci { path, .. } | ChartRef::Https { path, .. } => path,
            ChartRef::Bundled { name } => name,
        }
    }

    /// The digest that pins the chart.
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            ChartRef::Oci { digest, .. } => digest.as_ref(),
            ChartRef::Https { .. } | ChartRef::Bundled { .. } => None,
        }
    }

    /// Whether it comes with the server.
    pub fn is_bundled(&self) -> bool {
        matches!(self, ChartRef::Bundled { .. })
    }

    /// Whether it names one packaged chart at an `https` address, rather than a repository.
    pub fn is_archive(&self) -> bool {
        matches!(self, ChartRef::Https { path, .. } if path.ends_with(".tgz"))
    }

    /// The repository's address and the chart's name, as `helm pull CHART --repo ADDRESS` takes them; `None` for
    /// other forms.
    pub fn repository(&self) -> Option<(String, &str)> {
        let ChartRef::Https { host, port, path } = self else {
            return None;
        };
        if self.is_archive() {
            return None;
        }
        let (folder, chart) = path.rsplit_once('/').unwrap_or(("", path));
        let separator = if folder.is_empty() { "" } else { "/" };
        Some((
            format!("https://{}{separator}{folder}", Authority { host, port: *port }),
            chart,
        ))
    }
}

impl fmt::Display for ChartRef {
    /// The reference as it is given to Helm; reading it back gives the same value.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChartRef::Oci {
                host,
                port,
                path,
                digest,
            } => {
                write!(f, "oci://{}/{path}", Authority { host, port: *port })?;
                digest.as_ref().map_or(Ok(()), |digest| write!(f, "@{digest}"))
            }
            ChartRef::Https { host, port, path } => {
                write!(f, "https://{}/{path}", Authority { host, port: *port })
            }
            ChartRef::Bundled { name } => write!(f, "charts/{name}"),
        }
    }
}

impl FromStr for ChartRef {
    type Err = ChartRefError;

    fn from_str(text: &str) -> Result<ChartRef, ChartRefError> {
        ChartRef::parse(text)
    }
}

/// `host[:port]`, with an IPv6 address in brackets.
pub(crate) struct Authority<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: Option<u16>,
}

impl fmt::Display for Authority<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]", self.host)
        } else {
            f.write_str(self.host)
        }?;
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn read(text: &str) -> Result<ChartRef, &'static str> {
    if text.len() > MAX_LENGTH {
        return Err("it may have at most 512 characters");
    }
    if text.contains(['%', '\\']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("only plain characters are allowed, none of them encoded");
    }
    if text.contains(['?', '#']) {
        return Err("a query or fragment is not allowed");
    }
    if let Some(rest) = text.strip_prefix("oci://") {
        let (rest, digest) = split_digest(rest)?;
        let (host, port, path) = split_address(rest)?;
        if path.contains(':') {
            return Err("a tag is not allowed: put the version into chart_version, or pin with @sha256:…");
        }
        check_segments(path)?;
        return Ok(ChartRef::Oci {
            host,
            port,
            path: path.to_owned(),
            digest,
        });
    }
    if let Some(rest) = text.strip_prefix("https://") {
        if rest.contains("@sha256:") {
            return Err("a digest is allowed in oci:// references only");
        }
        let (host, port, path) = split_address(rest)?;
        check_segments(path)?;
        return Ok(ChartRef::Https {
            host,
            port,
            path: path.to_owned(),
        });
    }
    if let Some(name) = text.strip_prefix("charts/") {
        let plain = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        return if plain && !name.is_empty() && !name.starts_with('-') {
            Ok(ChartRef::Bundled {
                name: name.to_owned(),
            })
        } else {
            Err("a bundled chart is charts/NAME with letters, digits, - and _ in its name")
        };
    }
    Err(FORMS)
}

fn split_digest(rest: &str) -> Result<(&str, Option<Digest>), &'static str> {
    let Some((rest, digest)) = rest.rsplit_once("@sha256:") else {
        return Ok((rest, None));
    };
    let hexadecimal = digest
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    if digest.len() != 64 || !hexadecimal {
        return Err("a digest is @sha256: and 64 lower-case hexadecimal digits");
    }
    Ok((rest, Some(Digest(format!("sha256:{digest}")))))
}

fn split_address(rest: &str) -> Result<(String, Option<u16>, &str), &'static str> {
    let (authority, path) = rest.split_once('/').ok_or(FORMS)?;
    if rest.contains('@') {
        return Err("user info is not allowed: registry credentials are kept per host");
    }
    let (host, port) =
        split_authority(authority).ok_or("the host is a DNS name or an address, with an optional :PORT")?;
    Ok((host, port, path))
}

/// Reads `host[:port]`; the host in lower case, an IPv6 address in its canonical form without brackets.
pub(crate) fn split_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            let port = if rest.is_empty() {
                None
            } else {
                Some(rest.strip_prefix(':')?)
            };
            (address.parse::<Ipv6Addr>().ok()?.to_string(), port)
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host.to_ascii_lowercase(), Some(port)),
            None => (authority.to_ascii_lowercase(), None),
        },
    };
    let port = match port {
        None => None,
        Some(digits) => {
            let canonical = !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit());
            Some(digits.parse::<u16>().ok().filter(|_| canonical)?)
        }
    };
    (host.contains(':') || is_dns_name(&host)).then_some((host, port))
}

fn is_dns_name(host: &str) -> bool {
    host.len() <= 253
        && host.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}

fn check_segments(path: &str) -> Result<(), &'static str> {
    let fits = |segment: &str| {
        segment
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+'))
            && segment
                .bytes()
                .next()
                .is_some_and(|first| first.is_ascii_alphanumeric() || first == b'_')
            && !segment.contains("..")
    };
    if path.is_empty() {
        return Err("the path names the chart, as in oci://HOST/charts/NAME");
    }
    if path.split('/').all(fits) {
        Ok(())
    } else {
        Err(
            "a path has letters, digits, -, _, . and + between single slashes, no segment begins with a dot or -, and .. is not allowed",
        )
    }
}

/// `text` for an error: escaped, cut, and without user info.
fn printable(text: &str) -> String {
    let without_user = match text.split_once("://") {
        Some((scheme, rest)) => {
            let authority_end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
            match rest[..authority_end].rfind('@') {
                Some(at) => format!("{scheme}://***@{}", &rest[at + 1..]),
                None => text.to_owned(),
            }
        }
        None => text.to_owned(),
    };
    let escaped = without_user
        .chars()
        .take(200)
        .flat_map(char::escape_debug)
        .collect::<String>();
    if without_user.chars().count() > 200 {
        escaped + "…"
    } else {
        escaped
    }
}
