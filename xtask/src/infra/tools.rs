//! The checks that are programs of others.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::compare::Comparable;
use super::template::Template;
use crate::run::{output, shown, workspace};
use crate::tools::{self, SAM};

/// A region has to be named, although nothing is asked of it.
const REGION: (&str, &str) = ("AWS_DEFAULT_REGION", "eu-central-1");

/// The stack that is synthesised.
const STACK: &str = "slipway-check";

fn command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(workspace())
        .env(REGION.0, REGION.1)
        .env("SAM_CLI_TELEMETRY", "0")
        .env("CDK_DISABLE_VERSION_CHECK", "1");
    command
}

/// Runs a linter that says what is wrong on its output and by its status.
fn lint(command: &mut Command) -> Result<Vec<String>> {
    let ran = command
        .output()
        .with_context(|| format!("cannot start {}", shown(command)))?;
    if ran.status.success() {
        return Ok(Vec::new());
    }
    let said = [&ran.stdout[..], &ran.stderr[..]].concat();
    Ok(vec![format!(
        "{}\n{}",
        ran.status,
        String::from_utf8_lossy(&said).trim()
    )])
}

pub(super) fn sam() -> Result<Vec<String>> {
    lint(
        command(&tools::sam()?)
            .args(["validate", "--lint", "--template"])
            .arg(Template::path()),
    )
}

pub(super) fn cfn_lint() -> Result<Vec<String>> {
    lint(
        command(&tools::cfn_lint()?)
            .arg("--template")
            .arg(Template::path()),
    )
}

pub(super) fn checkov() -> Result<Vec<String>> {
    let mut scan = command(&tools::checkov()?);
    scan.args([
        "--framework",
        "cloudformation",
        "--skip-download",
        "--output",
        "json",
        "--file",
    ])
    .arg(Template::path())
    // It ends with a failure where something is wrong; what it writes tells that from a scan that broke off.
    .arg("--soft-fail");
    let report = output(&mut scan)?;
    let report: Value =
        serde_json::from_str(&report).context("checkov wrote something else than a report")?;
    Ok(scanned(&report))
}

/// What a report of checkov says is wrong. A template that it could not read is one that it did not scan.
fn scanned(report: &Value) -> Vec<String> {
    let number = |name: &str| report["summary"][name].as_u64().unwrap_or_default();
    if number("parsing_errors") > 0 || number("passed") == 0 {
        return vec!["it could not read the template".to_owned()];
    }
    let failed = report["results"]["failed_checks"].as_array();
    let unexplained = report["results"]["skipped_checks"].as_array().map(|skipped| {
        skipped.iter().filter(|check| {
            let reason = check["check_result"]["suppress_comment"].as_str();
            reason.is_none_or(|reason| reason.trim().len() < 10 || reason == "No comment provided")
        })
    });
    let sentence = |check: &Value, what: &str| {
        format!(
            "{} {} ({}): {what}",
            check["resource"], check["check_name"], check["check_id"]
        )
    };
    failed
        .into_iter()
        .flatten()
        .map(|check| sentence(check, "fails"))
        .chain(
            unexplained
                .into_iter()
                .flatten()
                .map(|check| sentence(check, "is left out without a reason")),
        )
        .collect()
}

fn cdk() -> PathBuf {
    workspace().join("infra/cdk")
}

/// Installs the packages that the lock file names, unless they are there.
fn packages() -> Result<()> {
    let lock = fs::read(cdk().join("package-lock.json")).context("infra/cdk has no package-lock.json")?;
    let stamp = cdk().join("node_modules/.installed-from");
    if fs::read(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    output(
        Command::new("npm")
            .current_dir(cdk())
            .args(["ci", "--no-audit", "--no-fund", "--silent"]),
    )
    .context("the packages of infra/cdk cannot be installed")?;
    fs::write(&stamp, lock).with_context(|| format!("cannot write {}", stamp.display()))
}

fn program(name: &str) -> PathBuf {
    cdk().join("node_modules/.bin").join(name)
}

pub(super) fn typescript() -> Result<Vec<String>> {
    packages()?;
    let mut found = Vec::new();
    for (name, arguments) in [
        ("tsc", &[][..]),
        ("eslint", &["--max-warnings", "0", "."]),
        ("prettier", &["--check", "--log-level", "warn", "."]),
    ] {
        found.extend(lint(command(&program(name)).current_dir(cdk()).args(arguments))?);
    }
    Ok(found)
}

/// What `cdk synth` has made, and kept until the end of the process: it is looked at twice.
fn assembly() -> Result<&'static Path> {
    static ASSEMBLY: OnceLock<tempfile::TempDir> = OnceLock::new();
    if let Some(made) = ASSEMBLY.get() {
        return Ok(made.path());
    }
    packages()?;
    output(command(&program("tsc")).current_dir(cdk()))?;
    let folder = tempfile::tempdir().context("cannot create a folder for the assembly")?;
    let artifacts = folder.path().join("artifacts");
    placeholders(&artifacts)?;
    let ran = command(&program("cdk"))
        .current_dir(cdk())
        .args(["synth", "--no-notices", "--no-version-reporting", "--quiet"])
        .args(["--context", &format!("stack={STACK}")])
        .arg("--context")
        .arg(format!("artifacts={}", artifacts.display()))
        .arg("--output")
        .arg(folder.path().join("out"))
        .output()
        .context("cannot start cdk")?;
    if !folder.path().join("out/manifest.json").is_file() {
        bail!(
            "cdk synth made nothing:\n{}",
            String::from_utf8_lossy(&ran.stderr)
        );
    }
    Ok(ASSEMBLY.get_or_init(|| folder).path())
}

/// Files in the place of those that `cargo xtask package` makes: each holds its own path below the checkout.
fn placeholders(artifacts: &Path) -> Result<()> {
    let template = Template::read()?;
    let functions = template.of_type("AWS::Serverless::Function");
    let layers = template.of_type("AWS::Serverless::LayerVersion");
    let paths = functions
        .map(|(id, properties)| (id, &properties["CodeUri"]))
        .chain(layers.map(|(id, properties)| (id, &properties["ContentUri"])));
    for (id, path) in paths {
        let path = path
            .as_str()
            .and_then(|path| path.strip_prefix("../target/lambda/"))
            .with_context(|| format!("the code of {id} is not below target/lambda"))?;
        let file = artifacts.join(path);
        fs::create_dir_all(file.parent().context("a file lies in a folder")?)?;
        fs::write(&file, format!("target/lambda/{path}"))?;
    }
    Ok(())
}

pub(super) fn synthesise() -> Result<Vec<String>> {
    let out = assembly()?.join("out");
    validated(
        &read(&out.join("validation-report.json"))?,
        &read(&out.join(format!("{STACK}.template.json")))?,
    )
}

fn read(file: &Path) -> Result<Value> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))
}

/// What a report of `cdk synth` says is wrong. A set of rules without findings is not in it; that those of cdk-nag
/// were asked is seen from the reasons that they leave in the template.
fn validated(report: &Value, template: &Value) -> Result<Vec<String>> {
    let plugins = report["pluginReports"]
        .as_array()
        .context("the report of cdk synth names no rules")?;
    let resources = template["Resources"].as_object();
    let explained = |resource: &Value| !resource["Metadata"]["cdk_nag"].is_null();
    let found: Vec<_> = plugins
        .iter()
        .flat_map(|plugin| plugin["violations"].as_array().into_iter().flatten())
        .collect();
    if found.is_empty() && !resources.is_some_and(|resources| resources.values().any(explained)) {
        bail!("the rules of cdk-nag were not asked");
    }
    Ok(found
        .into_iter()
        .map(|violation| {
            let places: Vec<_> = violation["violatingConstructs"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|construct| construct["constructPath"].as_str())
                .collect();
            format!(
                "{} at {}: {}",
                violation["ruleName"],
                places.join(", "),
                violation["description"]
            )
        })
        .collect())
}

pub(super) fn compare() -> Result<Vec<String>> {
    let python = SAM.file("bin/python")?;
    let translated = output(
        command(&python)
            .arg(workspace().join("infra/translate.py"))
            .arg(Template::path()),
    )?;
    let translated: Value = serde_json::from_str(&translated).context("SAM's translation is no JSON")?;
    let sam = Comparable::read(&translated, |key| Ok(key.to_owned()))?;

    let out = assembly()?.join("out");
    let synthesised = read(&out.join(format!("{STACK}.template.json")))?;
    let cdk = Comparable::read(&synthesised, |key| {
        let asset = out.join(format!("asset.{key}"));
        fs::read_to_string(&asset).with_context(|| format!("cannot read {}", asset.display()))
    })?;
    crate::run::say(&format!(
        "{} resources of SAM's and {} of CDK's",
        sam.len(),
        cdk.len()
    ));
    Ok(sam.differences(&cdk))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scan_that_read_nothing_did_not_pass() {
        let nothing = json!({"summary": {"passed": 0, "parsing_errors": 1}, "results": {}});
        assert_eq!(scanned(&nothing).len(), 1);
    }

    #[test]
    fn failed_checks_and_unexplained_ones_are_findings() {
        let skipped = |comment: &str| json!({"resource": "r", "check_id": "c", "check_name": "n", "check_result": {"suppress_comment": comment}});
        let report = json!({
            "summary": {"passed": 3, "parsing_errors": 0},
            "results": {
                "failed_checks": [{"resource": "r", "check_id": "c", "check_name": "n"}],
                "skipped_checks": [skipped("A reason that says why."), skipped("No comment provided")],
            },
        });
        let found = scanned(&report);
        assert_eq!(found.len(), 2, "{found:?}");
    }

    #[test]
    fn a_validation_without_cdk_nag_is_an_error_and_its_findings_are_named() {
        let silent = json!({"pluginReports": []});
        assert!(validated(&silent, &json!({"Resources": {"A": {}}})).is_err());
        let explained = json!({"Resources": {"A": {"Metadata": {"cdk_nag": {"rules_to_suppress": []}}}}});
        assert_eq!(validated(&silent, &explained).unwrap(), Vec::<String>::new());
        let report = json!({"pluginReports": [{"pluginName": "AwsSolutions", "violations": [
            {"ruleName": "IAM5", "description": "d", "violatingConstructs": [{"constructPath": "a/b"}]}]}]});
        assert_eq!(
            validated(&report, &explained).unwrap(),
            ["\"IAM5\" at a/b: \"d\""]
        );
    }
}
