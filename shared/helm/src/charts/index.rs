//! What a repository's index says of a chart, chosen as Helm chooses.

use std::collections::BTreeMap;

use serde::Deserialize;
use url::Url;

use super::constraint;
use crate::archive::chart_version;

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    entries: BTreeMap<String, Option<Vec<Option<Entry>>>>,
}

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    version: String,
    #[serde(default)]
    urls: Option<Vec<String>>,
}

/// Where the newest version of a chart is that meets a constraint; the error says what there is not. Of equal texts
/// the exact one counts before any constraint.
pub(super) fn archive_url(
    index: &str,
    repository: &str,
    chart: &str,
    wanted: Option<&str>,
) -> Result<Url, String> {
    let options = serde_saphyr::options! {
        // Indexes of 20 MiB are usual. Helm has read this one, within the limits of its own process.
        budget: None,
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let index: Index = serde_saphyr::from_str_with_options(index, options)
        .map_err(|error| format!("the repository's index.yaml cannot be read: {error}"))?;
    let entries: Vec<&Entry> = index
        .entries
        .get(chart)
        .and_then(Option::as_ref)
        .ok_or_else(|| format!("the repository has no chart '{chart}'; check name and version"))?
        .iter()
        .flatten()
        .collect();
    let exact = entries
        .iter()
        .find(|entry| Some(entry.version.as_str()) == wanted);
    let mut best = None;
    // A text that is a version need be no constraint.
    for entry in entries.iter().filter(|_| exact.is_none()) {
        let Some(version) = chart_version(&entry.version) else {
            continue;
        };
        let is_newer = best.as_ref().is_none_or(|(newest, _)| version > *newest);
        if constraint::meets(wanted.unwrap_or("*"), &version)? && is_newer {
            best = Some((version, *entry));
        }
    }
    let chosen = exact.copied().or(best.map(|(_, entry)| entry)).ok_or_else(|| {
        format!(
            "the repository has no version of '{chart}' that meets '{}'; check name and version",
            wanted.unwrap_or("*")
        )
    })?;
    let place = chosen.urls.iter().flatten().next().ok_or_else(|| {
        format!(
            "the repository's index.yaml does not say where version {} of '{chart}' is",
            chosen.version
        )
    })?;
    let wrong = |error| format!("the repository's index.yaml has the address '{place}': {error}");
    let url = Url::parse(&format!("{}/", repository.trim_end_matches('/')))
        .and_then(|base| base.join(place))
        .map_err(wrong)?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.has_host();
    if !is_plain || !matches!(url.scheme(), "http" | "https" | "oci") {
        return Err(format!(
            "the repository's index.yaml has the chart at an address that is none of https://HOST/…, http://HOST/… and oci://HOST/… without a user: {}://{}",
            url.scheme(),
            authority(&url)
        ));
    }
    Ok(url)
}

/// `host` or `host:port`, as the address has it.
pub(super) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port()
        .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "
apiVersion: v1
entries:
  other: [{version: 9.9.9, urls: [other.tgz]}]
  demo:
  - {version: 1.2.0, description: one, urls: [demo-1.2.0.tgz]}
  - {version: v1.10.0, urls: ['/top/demo.tgz']}
  - {version: 2.0.0-rc.1, urls: ['https://cdn.example/demo.tgz?x=1']}
  - {version: 3.0.0, urls: ['//cdn.example:8443/demo.tgz']}
  - {version: 4.0.0, urls: ['oci://registry.example/team/demo:4.0.0']}
  - {version: 5.0.0, urls: ['file:///etc/passwd']}
  - {version: 6.0.0, urls: ['https://user@cdn.example/demo.tgz']}
  - {version: 7.0.0}
  - {version: newest, urls: [never.tgz]}
";

    #[test]
    fn the_newest_version_that_meets_the_constraint_is_taken_from_where_the_index_says() {
        let url = |wanted| archive_url(INDEX, "https://c.example/stable", "demo", wanted);
        for (wanted, place) in [
            ("1.2", "https://c.example/stable/demo-1.2.0.tgz"),
            ("^1", "https://c.example/top/demo.tgz"),
            ("2.0.0-rc.1", "https://cdn.example/demo.tgz?x=1"),
            ("~3", "https://cdn.example:8443/demo.tgz"),
            ("<5", "oci://registry.example/team/demo:4.0.0"),
        ] {
            assert_eq!(url(Some(wanted)).unwrap().as_str(), place, "{wanted}");
        }
        for (wanted, part) in [
            ("5.0.0", "none of https://HOST"),
            ("6.0.0", "without a user"),
            ("7.0.0", "does not say where"),
            ("8", "no version of 'demo' that meets '8'"),
        ] {
            let error = url(Some(wanted)).unwrap_err();
            assert!(error.contains(part), "{wanted}: {error}");
        }
        assert!(url(None).unwrap_err().contains("7.0.0"));
        let absent = archive_url(INDEX, "https://c.example", "none", None).unwrap_err();
        assert!(absent.contains("no chart 'none'"), "{absent}");
    }
}
