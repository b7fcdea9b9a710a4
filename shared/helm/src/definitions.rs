//! The `crds/` of a chart, as far as Helm would take them.

use std::ffi::OsString;

use slipway_model::CrdPolicy;
use slipway_ports::{ReleaseRequest, TargetError};

use crate::{
    archive::{ArchiveError, CheckedArchive, without_templates},
    binary::Helm,
    invocation::Invocation,
    manifest::{self, Document},
};

/// What a chart defines: nothing if that is to be skipped, and nothing of subcharts that its conditions and tags leave
/// out with these values. `kubernetes` is the cluster's version, of which the chart may want another.
pub(crate) async fn definitions(
    helm: Option<&Helm>,
    request: &ReleaseRequest,
    chart: &CheckedArchive,
    kubernetes: Option<&str>,
) -> Result<Vec<Document>, TargetError> {
    let mut documents = Vec::new();
    if request.crds == CrdPolicy::Skip || chart.crds.is_empty() {
        return Ok(documents);
    }
    let kept = match chart.has_subchart_crds {
        true => Some(kept_by_helm(helm, request, kubernetes).await?),
        false => None,
    };
    for file in &chart.crds {
        // Found by its text: a subchart may go by another name than its folder's.
        let text = file.trim_start_matches('\u{feff}').trim();
        if kept.as_ref().is_some_and(|kept| !kept.contains(text)) {
            continue;
        }
        let parsed = manifest::parse(file).map_err(|error| {
            TargetError::permanent(format!("crds/ of the chart: {}", crate::chain(&error)))
        })?;
        documents.extend(parsed);
    }
    Ok(documents)
}

/// All definitions that Helm takes, as they stand in the chart. Without templates, of which some render on the cluster
/// only, it has nothing else to say.
async fn kept_by_helm(
    helm: Option<&Helm>,
    request: &ReleaseRequest,
    kubernetes: Option<&str>,
) -> Result<String, TargetError> {
    let chart = without_templates(&request.chart).map_err(|error: ArchiveError| {
        TargetError::permanent(format!("the chart cannot be used: {}", crate::chain(&error)))
    })?;
    let version = kubernetes.map(|version| [OsString::from("--kube-version"), version.into()]);
    let finished = Invocation::new(helm, &request.release, "template")?
        .with_chart(&chart, &request.values)?
        .with(["--include-crds"])
        .with(version.into_iter().flatten())
        .run(request.time_limit, None)
        .await?;
    Ok(String::from_utf8_lossy(&finished.stdout).into_owned())
}
