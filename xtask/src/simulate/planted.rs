//! `cargo xtask simulate --mutants`: bugs planted in a copy of the engine and of the use cases. The simulator has to
//! find every one.
//!
//! All are built at once, each behind its name, so that one build serves all runs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::bugs::{BUGS, Bug};
use super::{PACKAGE, PROGRAM};
use crate::run::{cargo, output, say, workspace};

/// Seeds within which each has to be found.
const SEEDS: u64 = 20_000;

/// Names the bug that is planted in a run.
const VARIABLE: &str = "SLIPWAY_MUTANT";

/// The crates that have bugs, and what is added to them.
const CRATES: [&str; 2] = ["shared/engine/src/lib.rs", "shared/app/src/lib.rs"];
const SWITCH: &str = r#"
/// Whether the bug of that name is planted in this run.
pub(crate) fn planted(name: &str) -> bool {
    static NAME: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    NAME.get_or_init(|| std::env::var("SLIPWAY_MUTANT").unwrap_or_default()) == name
}
"#;

/// Plants, builds, and looks for each; those of `names` only, if there are any. Whether all were found.
///
/// # Errors
/// When the text that a bug replaces is not there exactly once, when the copy does not build, and when a name is none.
pub(super) fn run(names: &[String]) -> Result<bool> {
    for name in names {
        if !BUGS.iter().any(|bug| bug.name == name) {
            let known: Vec<&str> = BUGS.iter().map(|bug| bug.name).collect();
            bail!("there is no bug '{name}'; there are {}", known.join(", "));
        }
    }
    let folder = workspace().join("target").join("mutants");
    let tree = folder.join("tree");
    let mut planted = plant(workspace(), BUGS)?;
    for file in CRATES {
        let text = planted.entry(file.to_owned()).or_insert(read(workspace(), file)?);
        text.push_str(SWITCH);
    }
    copy(workspace(), &tree, &planted)?;
    say(&format!("building the simulator with {} bugs in it", BUGS.len()));
    let target = folder.join("target");
    output(
        cargo()
            .current_dir(&tree)
            .args(["build", "--quiet", "--profile", "simulate", "--package", PACKAGE])
            .arg("--target-dir")
            .arg(&target),
    )?;
    let program = target.join("simulate").join(PROGRAM);
    if let Seen::Broken(found) = look(&program, "", &[])? {
        bail!("without any bug planted the simulator finds {found}");
    }
    let mut missed = Vec::new();
    let wanted = |bug: &&Bug| names.is_empty() || names.iter().any(|name| name == bug.name);
    for bug in BUGS.iter().filter(wanted) {
        match look(&program, bug.name, bug.breaks)? {
            Seen::Broken(found) => say(&format!("{}: {found}", bug.name)),
            Seen::Nothing(instead) => {
                say(&format!("{}: NOT FOUND. {} {instead}", bug.name, bug.what));
                missed.push(bug.name);
            }
        }
    }
    if !missed.is_empty() {
        say(&format!("not found within {SEEDS} seeds: {}", missed.join(", ")));
    }
    Ok(missed.is_empty())
}

/// What became of the runs with a bug planted.
#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// What the bug is meant to break is broken: the line that says so.
    Broken(String),
    /// Everything held, or something else was broken, or the program ended early: its last words.
    Nothing(String),
}

/// What breaks first, of what the bug is meant to break. Without one, fewer seeds are enough to see that nothing does.
fn look(program: &Path, name: &str, breaks: &[&str]) -> Result<Seen> {
    let seeds = if name.is_empty() { SEEDS / 20 } else { SEEDS };
    let mut command = Command::new(program);
    command
        .args(["--seeds", &seeds.to_string(), "--as-it-is"])
        .env(VARIABLE, name);
    for invariant in breaks {
        command.args(["--until", invariant]);
    }
    let ran = command.output().context("cannot start the simulator")?;
    if ran.status.success() {
        return Ok(Seen::Nothing(String::new()));
    }
    let text = String::from_utf8_lossy(&ran.stdout);
    Ok(match broken(&text, breaks) {
        Some(line) => Seen::Broken(line.to_owned()),
        None if name.is_empty() => Seen::Broken(format!("that it ends with {}: {text}", ran.status)),
        None => {
            let last = text
                .lines()
                .rfind(|line| line.starts_with("seed "))
                .unwrap_or_default();
            Seen::Nothing(format!("The simulator ended with {}. {last}", ran.status))
        }
    })
}

/// The line of what the simulator says that tells of one of these; of anything that is broken, if they are none.
fn broken<'a>(text: &'a str, breaks: &[&str]) -> Option<&'a str> {
    text.lines().find(|line| {
        let told = line.strip_prefix("seed ").and_then(|rest| rest.split_once(": "));
        told.is_some_and(|(_, told)| {
            let is_of = |invariant: &&str| told.starts_with(&format!("{invariant} is broken"));
            breaks.is_empty() || breaks.iter().any(is_of)
        })
    })
}

fn read(root: &Path, file: &str) -> Result<String> {
    fs::read_to_string(root.join(file)).with_context(|| format!("cannot read {file}"))
}

/// File → its text with all bugs in it.
fn plant(root: &Path, bugs: &[Bug]) -> Result<BTreeMap<String, String>> {
    let mut files: BTreeMap<String, String> = BTreeMap::new();
    for bug in bugs {
        let mut text = match files.remove(bug.file) {
            Some(text) => text,
            None => read(root, bug.file)?,
        };
        for (right, wrong) in bug.edits {
            let places = text.matches(right).count();
            if places != 1 {
                bail!(
                    "bug '{}' replaces a text that stands {places} times in {}, not once:\n{right}",
                    bug.name,
                    bug.file
                );
            }
            text = text.replacen(
                right,
                &wrong.replace("PLANTED", &format!("crate::planted(\"{}\")", bug.name)),
                1,
            );
        }
        files.insert(bug.file.to_owned(), text);
    }
    Ok(files)
}

/// Copies what git knows of, with these files changed. What is there already and right stays, so that less is built.
fn copy(root: &Path, tree: &Path, changed: &BTreeMap<String, String>) -> Result<()> {
    let list = output(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
    ]))?;
    let mut copied = BTreeSet::new();
    for file in list.lines() {
        let from = root.join(file);
        // One that was removed and not committed, or a link to a folder.
        if !from.is_file() {
            continue;
        }
        let wanted = match changed.get(file) {
            Some(text) => text.clone().into_bytes(),
            None => fs::read(&from).with_context(|| format!("cannot read {file}"))?,
        };
        let to: PathBuf = tree.join(file);
        copied.insert(to.clone());
        if fs::read(&to).is_ok_and(|there| there == wanted) {
            continue;
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent).context("cannot create a folder of the copy")?;
        }
        fs::write(&to, wanted).with_context(|| format!("cannot write {}", to.display()))?;
    }
    remove_others(tree, &copied)
}

/// Removes what an earlier copy had and this one has not.
fn remove_others(folder: &Path, copied: &BTreeSet<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).context("cannot read the copy")? {
        let entry = entry.context("cannot read the copy")?;
        let path = entry.path();
        if entry.file_type().context("cannot read the copy")?.is_dir() {
            remove_others(&path, copied)?;
        } else if !copied.contains(&path) {
            fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bug_has_its_place() {
        let files = plant(workspace(), BUGS).unwrap();
        for bug in BUGS {
            let switch = format!("crate::planted(\"{}\")", bug.name);
            assert!(files[bug.file].contains(&switch), "{}", bug.name);
        }
    }

    #[test]
    fn every_bug_says_which_invariants_it_must_break() {
        let invariants = read(workspace(), "shared/simulator/src/check/mod.rs").unwrap();
        for bug in BUGS {
            assert!(!bug.breaks.is_empty(), "{}", bug.name);
            for broken in bug.breaks {
                let is_one = invariants.contains(&format!("\n    {broken},\n"));
                assert!(is_one, "{}: {broken} is no invariant", bug.name);
            }
        }
    }

    #[test]
    fn a_bug_is_found_by_what_it_must_break_only() {
        let text =
            "3 seeds\nseed 7: ListsNameOnce is broken: a list\nseed 9: OnceMeansOnce is broken: what\n";
        assert_eq!(
            broken(text, &["OnceMeansOnce"]),
            Some("seed 9: OnceMeansOnce is broken: what")
        );
        assert_eq!(broken(text, &["RolesAreKept"]), None);
        assert_eq!(broken("thread 'main' panicked", &[]), None, "it says of no seed");
    }

    /// Programs that end as a simulator may, in the place of one.
    #[test]
    fn a_bug_that_nothing_tells_of_is_not_found_and_no_error() {
        let seen = look(Path::new("false"), "planted", &["OnceMeansOnce"]).unwrap();
        assert!(matches!(seen, Seen::Nothing(_)), "{seen:?}");
        let seen = look(Path::new("true"), "planted", &["OnceMeansOnce"]).unwrap();
        assert_eq!(seen, Seen::Nothing(String::new()));
        assert!(matches!(
            look(Path::new("false"), "", &[]).unwrap(),
            Seen::Broken(_)
        ));
    }

    #[test]
    fn a_copy_has_what_there_is_and_nothing_of_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let (root, tree) = (folder.path().join("root"), folder.path().join("tree"));
        fs::create_dir_all(&root).unwrap();
        output(Command::new("git").current_dir(&root).args(["init", "--quiet"])).unwrap();
        fs::write(root.join("kept"), "1").unwrap();
        fs::write(root.join("moved"), "2").unwrap();
        copy(&root, &tree, &BTreeMap::new()).unwrap();
        fs::create_dir(root.join("folder")).unwrap();
        fs::rename(root.join("moved"), root.join("folder/moved")).unwrap();
        copy(&root, &tree, &BTreeMap::new()).unwrap();
        assert!(tree.join("kept").exists() && tree.join("folder/moved").exists());
        assert!(!tree.join("moved").exists());
    }

    #[test]
    fn a_bug_whose_text_is_gone_is_an_error() {
        let gone = Bug {
            name: "gone",
            what: "",
            breaks: &[],
            file: "shared/engine/src/finish.rs",
            edits: &[("no such text", "PLANTED")],
        };
        let refused = plant(workspace(), &[gone]).unwrap_err().to_string();
        assert!(refused.contains("stands 0 times"), "{refused}");
    }
}
