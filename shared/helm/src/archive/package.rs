//! Packaging of bundled charts: the same folder always makes the same bytes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use flate2::{Compression, GzBuilder};
use tar::{Builder, EntryType, Header};

use super::{ArchiveError, LARGEST_CONTENT, MOST_FILES};

/// Folders that a chart has for people, not for Helm.
const LEFT_OUT: &[&str] = &["examples", "ci", ".git"];

/// Packs a chart's folder as `helm package` would: everything under a folder of the chart's name, in the order of
/// names, without times, owners, `examples/`, `ci/` and what `.helmignore` names (whole names, `*` at an end, and
/// folders). Links are refused.
pub fn package_directory(directory: &Path) -> Result<Vec<u8>, ArchiveError> {
    let ignored = ignored(directory)?;
    let mut files = Vec::new();
    let mut size = 0;
    gather(directory, "", &ignored, &mut files, &mut size)?;
    files.sort();
    let top = chart_name(directory)?;
    // No time and no file name in the header, so that the digest depends on the chart only.
    let compressed = GzBuilder::new().write(Vec::new(), Compression::best());
    let mut builder = Builder::new(compressed);
    for (inner, path) in files {
        let contents = fs::read(&path).map_err(|source| io_error(&path, source))?;
        let mut header = Header::new_gnu();
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        builder
            .append_data(&mut header, format!("{top}/{inner}"), contents.as_slice())
            .map_err(|source| io_error(&path, source))?;
    }
    builder
        .into_inner()
        .and_then(flate2::write::GzEncoder::finish)
        .map_err(|source| io_error(directory, source))
}

fn chart_name(directory: &Path) -> Result<String, ArchiveError> {
    #[derive(serde::Deserialize)]
    struct Chart {
        name: String,
    }
    let path = directory.join("Chart.yaml");
    let text = fs::read_to_string(&path).map_err(|source| io_error(&path, source))?;
    let chart: Chart = crate::manifest::read(&text)
        .map_err(|error| ArchiveError::NotAChart(format!("'{}' is not valid: {error}", path.display())))?;
    if chart.name.is_empty() || chart.name.contains(['/', '\\']) || chart.name.starts_with('.') {
        return Err(ArchiveError::NotAChart(format!(
            "'{}' has the name '{}': expected lower-case letters, digits and hyphens",
            path.display(),
            chart.name
        )));
    }
    Ok(chart.name)
}

fn gather(
    directory: &Path,
    prefix: &str,
    ignored: &[String],
    files: &mut Vec<(String, PathBuf)>,
    size: &mut u64,
) -> Result<(), ArchiveError> {
    for entry in fs::read_dir(directory).map_err(|source| io_error(directory, source))? {
        let entry = entry.map_err(|source| io_error(directory, source))?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let inner = format!("{prefix}{name}");
        let metadata = fs::symlink_metadata(&path).map_err(|source| io_error(&path, source))?;
        if metadata.is_symlink() {
            return Err(ArchiveError::Link {
                path: path.display().to_string(),
                kind: "symbolic link",
            });
        }
        let left_out = prefix.is_empty() && LEFT_OUT.contains(&name.as_str());
        if left_out
            || ignored
                .iter()
                .any(|pattern| matches(pattern, &inner, &name, metadata.is_dir()))
        {
            continue;
        }
        if metadata.is_dir() {
            gather(&path, &format!("{inner}/"), ignored, files, size)?;
        } else if metadata.is_file() {
            *size += metadata.len();
            files.push((inner, path));
        }
        if *size > LARGEST_CONTENT || files.len() > MOST_FILES {
            return Err(ArchiveError::TooLarge {
                found: format!("{} files, {} MiB", files.len(), *size >> 20),
                most: format!("{MOST_FILES} files, {} MiB", LARGEST_CONTENT >> 20),
            });
        }
    }
    Ok(())
}

fn ignored(directory: &Path) -> Result<Vec<String>, ArchiveError> {
    let path = directory.join(".helmignore");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']))
            .map(str::to_owned)
            .collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(io_error(&path, source)),
    }
}

fn matches(pattern: &str, inner: &str, name: &str, is_directory: bool) -> bool {
    let (pattern, directories_only) = match pattern.strip_suffix('/') {
        Some(pattern) => (pattern, true),
        None => (pattern, false),
    };
    if directories_only && !is_directory {
        return false;
    }
    let (pattern, text) = match pattern.strip_prefix('/') {
        Some(pattern) => (pattern, inner),
        None if pattern.contains('/') => (pattern, inner),
        None => (pattern, name),
    };
    match (pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        (Some(end), _) => text.ends_with(end),
        (None, Some(beginning)) => text.starts_with(beginning),
        (None, None) => text == pattern,
    }
}

fn io_error(path: &Path, source: io::Error) -> ArchiveError {
    ArchiveError::Io {
        path: path.display().to_string(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::check_archive;

    fn chart() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("Chart.yaml", "apiVersion: v2\nname: demo\nversion: 1.0.0\n");
        write("templates/a.yaml", "a: 1\n");
        write("templates/a.yaml.bak", "old\n");
        write("examples/e.yaml", "e\n");
        write(".helmignore", "# comment\n*.bak\n/notes/\n");
        write("notes/n.md", "n\n");
        folder
    }

    #[test]
    fn the_same_folder_makes_the_same_bytes_and_a_valid_chart() {
        let folder = chart();
        let once = package_directory(folder.path()).unwrap();
        fs::write(folder.path().join("templates/a.yaml"), "a: 1\n").unwrap();
        assert_eq!(once, package_directory(folder.path()).unwrap());
        assert_eq!(check_archive(&once).unwrap().name, "demo");
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(once.as_slice()));
        let names: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["demo/.helmignore", "demo/Chart.yaml", "demo/templates/a.yaml"]
        );
    }

    #[test]
    fn a_link_in_the_folder_is_refused() {
        let folder = chart();
        std::os::unix::fs::symlink("/proc/self/environ", folder.path().join("templates/leak")).unwrap();
        assert!(matches!(
            package_directory(folder.path()),
            Err(ArchiveError::Link { .. })
        ));
    }
}
