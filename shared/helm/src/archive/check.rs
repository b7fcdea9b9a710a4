//! Reading a packaged chart without trusting it.

use std::io::{self, Read};

use flate2::read::MultiGzDecoder;
use semver::Version;
use serde::Deserialize;
use tar::Archive;

use super::{ArchiveError, LARGEST_ARCHIVE, LARGEST_CONTENT, MOST_FILES, entry, schema};
use crate::manifest;

/// What a checked archive is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckedArchive {
    /// `name` of its `Chart.yaml`.
    pub name: String,
    /// `version` of its `Chart.yaml`.
    pub version: String,
    /// `sha256:<hex>` of the archive.
    pub digest: String,
    /// The contents of its `crds/` folders, subcharts' included, in the order of their names.
    pub crds: Vec<String>,
    /// Whether some of them are subcharts', which Helm may leave out.
    pub has_subchart_crds: bool,
}

#[derive(Deserialize)]
struct ChartFile {
    #[serde(default)]
    name: String,
    #[serde(default)]
    version: String,
}

/// Reads a packaged chart: no links, no paths that leave it, no more than it may hold, a `Chart.yaml` with name and
/// version, and no values schema, its subcharts' included, that refers elsewhere.
pub fn check_archive(archive: &[u8]) -> Result<CheckedArchive, ArchiveError> {
    if archive.len() > LARGEST_ARCHIVE {
        return Err(ArchiveError::TooLarge {
            found: format!("{} MiB packed", archive.len() >> 20),
            most: format!("{} MiB", LARGEST_ARCHIVE >> 20),
        });
    }
    let mut budget = Budget::default();
    let contents = read(archive, &mut budget)?;
    let Some(chart) = contents.chart else {
        return Err(ArchiveError::NotAChart(
            "it has no Chart.yaml in its top folder: expected what 'helm package' makes".to_owned(),
        ));
    };
    let chart: ChartFile = manifest::read(&chart)
        .map_err(|error| ArchiveError::NotAChart(format!("its Chart.yaml is not valid YAML: {error}")))?;
    if chart.name.is_empty() || chart_version(&chart.version).is_none() {
        return Err(ArchiveError::NotAChart(format!(
            "its Chart.yaml has name '{}' and version '{}': expected a name and a semantic version",
            chart.name, chart.version
        )));
    }
    let mut crds = contents.crds;
    crds.sort();
    Ok(CheckedArchive {
        name: chart.name,
        version: chart.version,
        digest: manifest::digest(archive),
        has_subchart_crds: crds.iter().any(|(path, _)| is_of_subchart(path)),
        crds: crds.into_iter().map(|(_, text)| text).collect(),
    })
}

/// A chart's version for comparisons: as with Helm, a `v` before it says nothing.
pub(crate) fn chart_version(text: &str) -> Option<Version> {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).ok()
}

/// What is left of the limits, shared by an archive and those inside it.
struct Budget {
    bytes: u64,
    files: usize,
    nesting: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            bytes: LARGEST_CONTENT,
            files: MOST_FILES,
            nesting: 4,
        }
    }
}

#[derive(Default)]
struct Contents {
    chart: Option<String>,
    crds: Vec<(String, String)>,
}

fn read(archive: &[u8], budget: &mut Budget) -> Result<Contents, ArchiveError> {
    let mut contents = Contents::default();
    // One byte more than allowed, so that what is too large ends as an error and not as a short file.
    let unpacked = MultiGzDecoder::new(archive).take(budget.bytes + 1);
    let mut archive = Archive::new(unpacked);
    for entry in archive.entries().map_err(ArchiveError::Unreadable)? {
        let mut entry = entry.map_err(|error| unreadable(error, budget))?;
        let (path, is_file) = entry::checked_path(&mut entry)?;
        if !is_file {
            continue;
        }
        budget.files = budget
            .files
            .checked_sub(1)
            .ok_or_else(|| ArchiveError::TooLarge {
                found: format!("more than {MOST_FILES} files"),
                most: format!("{MOST_FILES}"),
            })?;
        let size = entry.size();
        budget.bytes = budget.bytes.checked_sub(size).ok_or_else(too_large)?;
        let inner = path.split_once('/').map_or("", |(_, inner)| inner);
        let name = path.rsplit('/').next().unwrap_or_default();
        let wanted = inner == "Chart.yaml"
            || name == "values.schema.json"
            || is_crd(inner)
            || is_packed_subchart(inner);
        if !wanted {
            continue;
        }
        let mut bytes = Vec::new();
        entry
            .read_to_end(&mut bytes)
            .map_err(|error| unreadable(error, budget))?;
        if inner == "Chart.yaml" {
            contents.chart = Some(String::from_utf8_lossy(&bytes).into_owned());
        } else if name == "values.schema.json" {
            schema::refuse_remote_references(&path, &bytes)?;
        } else if is_packed_subchart(inner) {
            if budget.nesting == 0 {
                return Err(ArchiveError::NotAChart(format!(
                    "'{path}' is packed more than four levels deep"
                )));
            }
            budget.nesting -= 1;
            let subchart = read(&bytes, budget)?;
            budget.nesting += 1;
            contents.crds.extend(
                subchart
                    .crds
                    .into_iter()
                    .map(|(name, text)| (format!("{path}/{name}"), text)),
            );
        } else {
            contents
                .crds
                .push((path, String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    Ok(contents)
}

fn unreadable(error: io::Error, budget: &Budget) -> ArchiveError {
    // The reader was cut off at the limit.
    if budget.bytes == 0 {
        too_large()
    } else {
        ArchiveError::Unreadable(error)
    }
}

fn too_large() -> ArchiveError {
    ArchiveError::TooLarge {
        found: format!("more than {} MiB unpacked", LARGEST_CONTENT >> 20),
        most: format!("{} MiB", LARGEST_CONTENT >> 20),
    }
}

/// The path of a file within the unpacked subchart that it belongs to, or within the chart itself.
pub(super) fn within_its_chart(inner: &str) -> &str {
    let mut rest = inner;
    while let Some(subchart) = rest.strip_prefix("charts/")
        && let Some((_, below)) = subchart.split_once('/')
    {
        rest = below;
    }
    rest
}

/// Whether Helm takes it for a custom resource definition: under `crds/` of the chart or of an unpacked subchart.
pub(super) fn is_crd(inner: &str) -> bool {
    let own = within_its_chart(inner);
    own.starts_with("crds/")
        && own
            .rsplit('.')
            .next()
            .is_some_and(|end| matches!(end, "yaml" | "yml" | "json"))
}

/// Whether a definition stands in another chart than the archive's own.
fn is_of_subchart(path: &str) -> bool {
    path.split_once('/')
        .is_some_and(|(_, inner)| !inner.starts_with("crds/"))
}

pub(super) fn is_packed_subchart(inner: &str) -> bool {
    inner.contains("charts/") && (inner.ends_with(".tgz") || inner.ends_with(".tar.gz"))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};
    use tar::{Builder, EntryType, Header};

    use super::*;

    const CHART: &[u8] = b"apiVersion: v2\nname: demo\nversion: 1.2.3\n";

    fn pack(files: &[(&str, &[u8])], links: &[(&str, EntryType)]) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, contents) in files {
            let mut header = Header::new_ustar();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            // By hand: the library refuses to write the paths that are tested here.
            header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            builder.append(&header, *contents).unwrap();
        }
        for (path, kind) in links {
            let mut header = Header::new_ustar();
            header.set_size(0);
            header.set_entry_type(*kind);
            header.set_path(path).unwrap();
            header.set_link_name("/proc/self/environ").unwrap();
            header.set_cksum();
            builder.append(&header, io::empty()).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn a_chart_says_its_name_version_and_definitions() {
        let sub = pack(&[("sub/Chart.yaml", CHART), ("sub/crds/z.yaml", b"sub")], &[]);
        let archive = pack(
            &[
                ("demo/Chart.yaml", CHART),
                ("demo/charts/open/Chart.yaml", b"name: other\nversion: 9.9.9\n"),
                ("demo/charts/open/crds/b.yaml", b"open"),
                ("demo/crds/README.md", b"no"),
                ("demo/templates/crds/x.yaml", b"no"),
                ("demo/charts/sub-1.tgz", &sub),
            ],
            &[],
        );
        let checked = check_archive(&archive).unwrap();
        assert_eq!(
            (checked.name.as_str(), checked.version.as_str()),
            ("demo", "1.2.3")
        );
        assert_eq!(checked.crds, ["open", "sub"]);
        assert!(checked.has_subchart_crds);
        let own = [("demo/Chart.yaml", CHART), ("demo/crds/a.yaml", b"own")];
        assert!(!check_archive(&pack(&own, &[])).unwrap().has_subchart_crds);
        assert_eq!(checked.digest.len(), 71);
    }

    #[test]
    fn a_version_may_begin_with_a_v_and_keeps_it() {
        let chart = |version: &str| {
            let chart = format!("apiVersion: v2\nname: demo\nversion: {version}\n");
            check_archive(&pack(&[("demo/Chart.yaml", chart.as_bytes())], &[]))
        };
        assert_eq!(chart("v1.17.2").unwrap().version, "v1.17.2");
        for bad in ["vv1.0.0", "v", "latest", "V1.0.0"] {
            assert!(chart(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn links_are_refused_wherever_they_stand() {
        for kind in [EntryType::Symlink, EntryType::Link, EntryType::Fifo] {
            let archive = pack(&[("demo/Chart.yaml", CHART)], &[("demo/files/leak", kind)]);
            let error = check_archive(&archive).unwrap_err();
            assert!(
                matches!(&error, ArchiveError::Link { path, .. } if path == "demo/files/leak"),
                "{error}"
            );
            let outer = pack(
                &[("demo/Chart.yaml", CHART), ("demo/charts/a.tgz", &archive)],
                &[],
            );
            assert!(check_archive(&outer).is_err());
        }
    }

    #[test]
    fn paths_that_leave_the_chart_are_refused() {
        for path in ["/etc/passwd", "demo/../../x", "..", "demo\\..\\x", "c:/x"] {
            let archive = pack(&[("demo/Chart.yaml", CHART), (path, b"x")], &[]);
            let error = check_archive(&archive).unwrap_err();
            assert!(matches!(error, ArchiveError::Escapes { .. }), "{path}: {error}");
        }
    }

    #[test]
    fn paths_that_helm_would_write_otherwise_are_refused() {
        let remote: &[u8] = br#"{"$ref": "https://example.com/s.json"}"#;
        for path in [
            "demo/values.schema.json/.",
            "demo/values.schema.json/",
            "demo//values.schema.json",
            "demo/./values.schema.json",
            "demo/charts/./a.tgz",
            "././values.schema.json",
            ".",
        ] {
            let archive = pack(&[("demo/Chart.yaml", CHART), (path, remote)], &[]);
            let error = check_archive(&archive).unwrap_err();
            assert!(matches!(error, ArchiveError::Disputed { .. }), "{path}: {error}");
        }
    }

    #[test]
    fn charts_as_tar_packs_their_folder_pass() {
        let folder = ("./templates/", EntryType::Directory);
        let archive = pack(
            &[("./Chart.yaml", CHART), ("./templates/a.yaml", b"")],
            &[("./", EntryType::Directory), folder],
        );
        check_archive(&archive).unwrap();
    }

    /// An archive with an entry whose header is made by hand.
    fn pack_with(extensions: &[(&str, &[u8])], edit: impl Fn(&mut [u8; 512])) -> Vec<u8> {
        let mut builder = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = Header::new_ustar();
        header.set_size(CHART.len() as u64);
        header.set_path("demo/Chart.yaml").unwrap();
        header.set_cksum();
        builder.append(&header, CHART).unwrap();
        builder.append_pax_extensions(extensions.iter().copied()).unwrap();
        header.set_size(1);
        header.set_path("demo/a.tgz").unwrap();
        edit(header.as_mut_bytes());
        header.set_cksum();
        builder.append(&header, &b"x"[..]).unwrap();
        builder.into_inner().unwrap().finish().unwrap()
    }

    #[test]
    fn folders_that_hide_files_from_one_of_the_readers_are_refused() {
        let folder = |header: &mut [u8; 512]| header[156] = b'5';
        // The size is one, and what it covers would be an entry of its own for Helm.
        let sized = pack_with(&[], folder);
        let extended = pack_with(&[("size", b"512")], |header| {
            folder(header);
            header[124..136].copy_from_slice(b"00000000000\0");
        });
        for archive in [sized, extended] {
            let error = check_archive(&archive).unwrap_err();
            assert!(matches!(error, ArchiveError::Disputed { .. }), "{error}");
        }
    }

    #[test]
    fn headers_that_helm_reads_another_name_from_are_refused() {
        let schema: &[u8] = b"demo/values.schema.json";
        check_archive(&pack_with(&[("mtime", b"1.5"), ("path", b"demo/a")], |_| ())).unwrap();
        let twice = pack_with(&[("path", b"demo/a"), ("path", schema)], |_| ());
        let sparse = pack_with(&[("GNU.sparse.name", schema)], |_| ());
        let sized = pack_with(&[("size", b"1")], |_| ());
        let prefixed = |magic: &'static [u8; 8]| {
            pack_with(&[], move |header| {
                header[257..265].copy_from_slice(magic);
                header[345..356].copy_from_slice(b"demo/charts");
            })
        };
        let star = pack_with(&[], |header| {
            header[345..500].fill(b'a');
            header[508..].copy_from_slice(b"tar\0");
        });
        for archive in [
            twice,
            sparse,
            sized,
            prefixed(b"ustar  \0"),
            prefixed(b"ustar\0xx"),
            star,
        ] {
            let error = check_archive(&archive).unwrap_err();
            assert!(matches!(error, ArchiveError::Disputed { .. }), "{error}");
        }
    }

    #[test]
    fn a_schema_that_is_fetched_from_elsewhere_is_refused_in_subcharts_too() {
        let remote: &[u8] = br#"{"properties": {"a": {"$ref": "https://example.com/s.json"}}}"#;
        let direct = pack(
            &[("demo/Chart.yaml", CHART), ("demo/values.schema.json", remote)],
            &[],
        );
        assert!(matches!(
            check_archive(&direct),
            Err(ArchiveError::RemoteSchema { .. })
        ));
        let sub = pack(
            &[("sub/Chart.yaml", CHART), ("sub/values.schema.json", remote)],
            &[],
        );
        let nested = pack(&[("demo/Chart.yaml", CHART), ("demo/charts/sub.tgz", &sub)], &[]);
        assert!(matches!(
            check_archive(&nested),
            Err(ArchiveError::RemoteSchema { .. })
        ));
    }

    #[test]
    fn what_unpacks_to_too_much_is_refused() {
        let zeros = vec![0; 51 << 20];
        let archive = pack(
            &[("demo/Chart.yaml", CHART), ("demo/a", &zeros), ("demo/b", &zeros)],
            &[],
        );
        assert!(archive.len() < LARGEST_ARCHIVE);
        assert!(matches!(
            check_archive(&archive),
            Err(ArchiveError::TooLarge { .. })
        ));
    }

    #[test]
    fn what_is_no_chart_says_why() {
        assert!(matches!(
            check_archive(b"hello"),
            Err(ArchiveError::Unreadable(_))
        ));
        let none = check_archive(&pack(&[("demo/values.yaml", b"")], &[])).unwrap_err();
        assert!(none.to_string().contains("no Chart.yaml"), "{none}");
        let bad = check_archive(&pack(&[("demo/Chart.yaml", b"name: a\nversion: new\n")], &[])).unwrap_err();
        assert!(bad.to_string().contains("version 'new'"), "{bad}");
    }
}
