//! Parts that are Python packages, each in a virtual environment of its own. A file in `dev/python` pins each package
//! of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::Part;
use crate::run::{output, workspace};

/// The file that pins what is in a part.
pub(super) fn requirements(part: &str) -> PathBuf {
    workspace().join("dev/python").join(format!("{part}.txt"))
}

/// Makes a virtual environment with what `dev/python/<part>.txt` pins.
pub(super) fn environment(part: &Part, into: &Path) -> Result<()> {
    output(Command::new("python3").args(["-m", "venv"]).arg(into))
        .context("`python3 -m venv` needs the package python3-venv where Python comes from Debian")?;
    output(
        Command::new(into.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"])
            .args(["--no-input", "--requirement"])
            .arg(requirements(part.name)),
    )?;
    move_scripts(into, &part.folder()?)
}

/// Scripts name the interpreter by the folder in which they were installed: here they learn where it will be.
fn move_scripts(from: &Path, to: &Path) -> Result<()> {
    let old = format!("#!{}/", from.display());
    let new = format!("#!{}/", to.display());
    for entry in fs::read_dir(from.join("bin"))? {
        let path = entry?.path();
        let Ok(text) = fs::read_to_string(&path) else {
            // A program, not a script.
            continue;
        };
        if let Some(rest) = text.strip_prefix(&old) {
            fs::write(&path, format!("{new}{rest}"))
                .with_context(|| format!("cannot change {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_name_the_interpreter_where_it_will_be() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let script = folder.path().join("bin/tool");
        fs::write(
            &script,
            format!("#!{}/bin/python\nrun()\n", folder.path().display()),
        )
        .unwrap();
        let program = folder.path().join("bin/program");
        fs::write(&program, [0x7f, 0x45, 0xff]).unwrap();
        move_scripts(folder.path(), Path::new("/cache/tool/1")).unwrap();
        assert_eq!(
            fs::read_to_string(&script).unwrap(),
            "#!/cache/tool/1/bin/python\nrun()\n"
        );
        assert_eq!(fs::read(&program).unwrap(), [0x7f, 0x45, 0xff]);
    }
}
