//! The `crds/` of a chart and its subcharts, as a real Helm takes them.

use std::fs;

use serde_json::json;
use slipway_helm::HelmSettings;

use crate::support::{Chart, render_target, request};

fn defines(name: &str) -> String {
    format!("kind: CustomResourceDefinition\nmetadata:\n  name: {name}\n")
}

/// Templates with the names of what describes a chart. They render, to nothing, as long as the others are there.
fn with_templates(mut chart: Chart, folder: &str, name: &str) -> Chart {
    let helper = format!("{{{{- define \"{name}.labels\" }}}}{{{{ end }}}}");
    let template = format!("{{{{- include \"{name}.labels\" . }}}}");
    chart = chart.file(&format!("{folder}templates/_helpers.tpl"), &helper);
    for file in [
        "values.yaml",
        "parts/Chart.yaml",
        "charts/other/requirements.yaml",
    ] {
        chart = chart.file(&format!("{folder}templates/{file}"), &template);
    }
    chart
}

#[tokio::test]
async fn definitions_of_subcharts_are_those_that_helm_takes() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = render_target(HelmSettings::new(folder.path()), store.path(), None).await;
    let subchart = |name: &str| format!("apiVersion: v2\nname: {name}\nversion: 1.0.0\n");
    // As an editor of another system leaves it.
    let foreign = format!("\u{feff}{}", defines("of-packed").replace('\n', "\r\n"));
    let packed = with_templates(Chart::new("packed"), "", "packed")
        .file("crds/of-packed.yaml", &foreign)
        .file("values.yaml", "{}\n");
    let chart = with_templates(Chart::new("whole"), "", "whole");
    let chart = with_templates(chart, "charts/tagged/", "tagged")
        .file(
            "Chart.yaml",
            "apiVersion: v2\nname: whole\nversion: 1.0.0\ndependencies:\n\
             - {name: sub, version: 1.0.0, alias: other, condition: other.enabled}\n\
             - {name: tagged, version: 1.0.0, tags: [extra]}\n\
             - {name: packed, version: 1.0.0, condition: packed.enabled}\n",
        )
        .file(
            "values.yaml",
            "other: {enabled: false}\ntags: {extra: false}\npacked: {enabled: false}\n",
        )
        .file("values.schema.json", "{\"required\": [\"needed\"]}")
        .file("crds/own.yaml", &defines("own"))
        .file("charts/sub/Chart.yaml", &subchart("sub"))
        .file("charts/sub/crds/of-sub.yaml", &defines("of-sub"))
        .file("charts/tagged/Chart.yaml", &subchart("tagged"))
        .file("charts/tagged/crds/of-tagged.yaml", &defines("of-tagged"));
    fs::write(chart.folder().join("charts/packed-1.0.0.tgz"), packed.pack()).unwrap();
    for (mut values, found) in [
        (json!({}), vec!["own"]),
        (json!({"other": {"enabled": true}}), vec!["of-sub", "own"]),
        (json!({"tags": {"extra": true}}), vec!["of-tagged", "own"]),
        (json!({"packed": {"enabled": true}}), vec!["of-packed", "own"]),
    ] {
        values["needed"] = true.into();
        let checked = target.check(&request(11, &chart, values)).await.unwrap();
        let defined: Vec<&str> = checked
            .manifest
            .lines()
            .filter_map(|line| line.trim().strip_prefix("name: "))
            .collect();
        assert_eq!(defined, found, "{}", checked.manifest);
    }
}
