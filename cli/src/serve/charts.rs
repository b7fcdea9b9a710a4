//! The charts that this program carries.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

mod table {
    include!(concat!(env!("OUT_DIR"), "/charts.rs"));
}

/// Lays the bundled charts out in a folder of their own below the data folder, one folder per chart, and returns it.
/// What an older program or somebody else left there is replaced.
pub(super) fn unpack(data: &Path) -> io::Result<PathBuf> {
    let folder = data.join("charts");
    let new = data.join("charts.new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    for (name, content) in table::FILES {
        let file = new.join(name);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(file, content)?;
    }
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::rename(&new, &folder)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_charts_of_the_catalog_are_carried() {
        let data = tempfile::tempdir().unwrap();
        fs::create_dir_all(data.path().join("charts/stale")).unwrap();
        let folder = unpack(data.path()).unwrap();
        for entry in crate::document::bundled_catalog().components {
            let chart = entry.chart.reference.strip_prefix("charts/").unwrap();
            assert!(folder.join(chart).join("Chart.yaml").is_file(), "{chart}");
        }
        assert!(!folder.join("stale").exists());
    }
}
