//! Puts the bundled charts and, where it was built, the web page into the program.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

fn main() {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("..");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets it"));
    embed(
        &root.join("charts"),
        &out.join("charts.rs"),
        "The files of the bundled charts.",
    );
    embed(
        &root.join("web/dist"),
        &out.join("web.rs"),
        "The files of the web page.",
    );
}

/// Writes a table of a folder's files: path, content. The table of a folder that is not there is empty.
fn embed(folder: &Path, table: &Path, about: &str) {
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut files = Vec::new();
    collect(folder, folder, &mut files);
    files.sort();
    let mut text = format!("/// {about}\npub(super) static FILES: &[(&str, &[u8])] = &[\n");
    for (name, file) in files {
        text.push_str(&format!("    ({name:?}, include_bytes!({file:?})),\n"));
    }
    text.push_str("];\n");
    fs::write(table, text).expect("the build folder can be written");
}

fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, PathBuf)>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        let kind = entry.file_type().expect("a folder's entries can be looked at");
        if kind.is_dir() {
            println!("cargo::rerun-if-changed={}", path.display());
            collect(root, &path, files);
        } else if kind.is_file() {
            let name = path.strip_prefix(root).expect("it was found below it");
            let name = name
                .to_str()
                .expect("names of files in the repository are UTF-8")
                .replace('\\', "/");
            files.push((name, path.canonicalize().expect("it was just found")));
        }
    }
}
