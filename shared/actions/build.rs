//! Lists the files in `src/actions`, so that adding an action means adding its file and nothing else.

use std::{env, fs, path::Path};

fn main() {
    let folder = Path::new(&env::var("CARGO_MANIFEST_DIR").expect("set by cargo")).join("src/actions");
    println!("cargo::rerun-if-changed={}", folder.display());
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("src/actions is a folder")
        .filter_map(|entry| Some(entry.ok()?.file_name().to_str()?.strip_suffix(".rs")?.to_owned()))
        .collect();
    names.sort();
    let modules: String = names
        .iter()
        .map(|name| format!("#[path = {:?}] mod {name};\n", folder.join(format!("{name}.rs"))))
        .collect();
    let entries: String = names
        .iter()
        .map(|name| format!("&{name}::Definition, "))
        .collect();
    let text = format!("{modules}pub(crate) static ALL: &[&dyn crate::Action] = &[{entries}];\n");
    fs::write(
        Path::new(&env::var("OUT_DIR").expect("set by cargo")).join("registry.rs"),
        text,
    )
    .expect("the build folder is writable");
}
