//! Charts from a real registry, from a repository, and bundled ones.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::support::{Chart, helm};
use slipway_helm::{BundledCharts, Charts, HelmSettings, check_archive};
use slipway_model::TenantId;
use slipway_ports::{ChartError, ChartSource as _, SecretString, Secrets as _};
use slipway_testkit::memory::SimpleSecrets;
use slipway_tests::Registry;

async fn charts(folder: &tempfile::TempDir, bundled: BundledCharts) -> Charts {
    Charts::new(helm(HelmSettings::new(folder.path())).await, bundled)
}

fn nothing_bundled() -> BundledCharts {
    BundledCharts::Packed(std::collections::BTreeMap::new())
}

fn local() -> TenantId {
    TenantId::local()
}

fn refused(error: &ChartError) -> &str {
    match error {
        ChartError::Refused { reason, .. } => reason,
        other => panic!("worth repeating: {other}"),
    }
}

fn unavailable(error: &ChartError) -> &str {
    match error {
        ChartError::Unavailable { reason, .. } => reason,
        other => panic!("not worth repeating: {other}"),
    }
}

#[tokio::test]
async fn bundled_charts_are_packed_the_same_every_time_and_versions_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let bundled = tempfile::tempdir().unwrap();
    let chart = Chart::with_version("demo", "1.4.2").file("templates/a.yaml", "a: 1\n");
    std::fs::rename(chart.folder(), bundled.path().join("demo")).unwrap();
    let charts = charts(&folder, BundledCharts::Directory(bundled.path().to_owned())).await;
    let pulled = charts.pull(&local(), "charts/demo", Some("^1.2")).await.unwrap();
    assert_eq!((pulled.name.as_str(), pulled.version.as_str()), ("demo", "1.4.2"));
    assert_eq!(pulled, charts.pull(&local(), "charts/demo", None).await.unwrap());
    let pinned = format!("charts/demo@{}", pulled.digest);
    assert_eq!(charts.pull(&local(), &pinned, None).await.unwrap(), pulled);

    let other = format!("charts/demo@sha256:{}", "0".repeat(64));
    let wrong = charts.pull(&local(), &other, None).await.unwrap_err();
    assert!(refused(&wrong).contains("digest"), "{wrong}");
    let newer = charts
        .pull(&local(), "charts/demo", Some(">=2"))
        .await
        .unwrap_err();
    assert!(
        refused(&newer).contains("1.4.2") && refused(&newer).contains(">=2"),
        "{newer}"
    );
    let absent = charts.pull(&local(), "charts/none", None).await.unwrap_err();
    assert!(refused(&absent).ends_with("there are: demo"), "{absent}");
}

#[tokio::test]
async fn charts_come_from_a_registry_by_version_constraint_and_by_digest() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::start();
    let path = format!("team{}", std::process::id());
    let mut digests = Vec::new();
    for version in ["1.0.0", "v1.2.3", "1.5.0", "2.0.0-rc.1"] {
        digests.push(push(&registry, &path, &Chart::with_version("demo", version).pack()).await);
    }
    let charts = charts(&folder, nothing_bundled())
        .await
        .with_plain_http([registry.address().to_owned()]);
    let reference = format!("oci://{}/{path}/demo", registry.address());
    let version = async |constraint: Option<&str>| {
        charts
            .pull(&local(), &reference, constraint)
            .await
            .unwrap()
            .version
    };
    assert_eq!(version(None).await, "1.5.0");
    assert_eq!(version(Some("~1.0")).await, "1.0.0");
    assert_eq!(version(Some("v1.2.3")).await, "v1.2.3");
    assert_eq!(version(Some(">=2.0.0-0")).await, "2.0.0-rc.1");
    let pinned = charts
        .pull(&local(), &format!("{reference}@{}", digests[0]), None)
        .await
        .unwrap();
    assert_eq!(pinned.version, "1.0.0");
    assert_eq!(check_archive(&pinned.archive).unwrap().digest, pinned.digest);

    let none = charts.pull(&local(), &reference, Some(">=3")).await.unwrap_err();
    refused(&none);
    let absent = format!("oci://{}/{path}/other", registry.address());
    refused(&charts.pull(&local(), &absent, Some("1.0.0")).await.unwrap_err());
    assert!(crate::support::left_behind(folder.path()).is_empty());
}

/// Pushes a packed chart with Helm itself; the digest of what the registry keeps.
async fn push(registry: &Registry, path: &str, chart: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("chart.tgz");
    std::fs::write(&file, chart).unwrap();
    let helm = helm(HelmSettings::new(folder.path())).await;
    let output = Command::new(helm.path())
        .arg("push")
        .arg(&file)
        .args([&format!("oci://{}/{path}", registry.address()), "--plain-http"])
        .output()
        .unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{said}");
    let (_, digest) = said.split_once("Digest: ").unwrap();
    digest.split_whitespace().next().unwrap().to_owned()
}

#[tokio::test]
async fn a_repository_gets_its_credentials_and_an_archive_is_fetched_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Chart::with_version("demo", "v1.2.0").pack();
    let site = Site::start(archive);
    let secrets = Arc::new(SimpleSecrets::default());
    let plain = charts(&folder, nothing_bundled())
        .await
        .with_plain_http([site.address.clone()])
        .with_secrets(secrets.clone());
    let reference = format!("https://{}/private/demo", site.address);
    let error = plain.pull(&local(), &reference, None).await.unwrap_err();
    assert!(refused(&error).contains("credentials"), "{error}");

    let name = format!("registries/{}", site.address.replace(':', "_"));
    let access = r#"{"username": "reader", "password": "s3cr3t-pass"}"#;
    secrets
        .put(&local(), &name, SecretString::from(access.to_owned()))
        .await
        .unwrap();
    assert_eq!(
        plain
            .pull(&local(), &reference, Some("1.x"))
            .await
            .unwrap()
            .version,
        "v1.2.0"
    );
    let none = plain.pull(&local(), &reference, Some("9.x")).await.unwrap_err();
    refused(&none);
    let private = format!("https://{}/private/demo-1.2.0.tgz", site.address);
    assert_eq!(plain.pull(&local(), &private, None).await.unwrap().name, "demo");
    let direct = format!("https://{}/open/demo-1.2.0.tgz", site.address);
    assert_eq!(plain.pull(&local(), &direct, None).await.unwrap().name, "demo");
    let absent = format!("https://{}/open/none-1.2.0.tgz", site.address);
    refused(&plain.pull(&local(), &absent, None).await.unwrap_err());
}

#[tokio::test]
async fn a_repository_sends_nobody_to_a_host_that_is_not_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let archive = Chart::with_version("demo", "1.2.0").pack();
    let other = Site::start(archive.clone());
    let away = format!("http://{}/open/demo-1.2.0.tgz", other.address);
    let site = Site::with_index(archive, &away);
    let reference = format!("https://{}/elsewhere/demo", site.address);
    let allowing = async |hosts: Vec<String>| {
        let rule = move |host: &str| match hosts.iter().any(|allowed| allowed == host) {
            true => Ok(true),
            false => Err(format!("add {host} to SLIPWAY_CHART_HOSTS")),
        };
        charts(&folder, nothing_bundled())
            .await
            .with_hosts(Arc::new(rule))
    };
    let first = allowing(vec![site.address.clone()]).await;
    let error = first.pull(&local(), &reference, None).await.unwrap_err();
    assert!(
        refused(&error).contains(&format!("add {} to", other.address)),
        "{error}"
    );
    assert_eq!(other.asked.load(Ordering::SeqCst), 0);
    let both = allowing(vec![site.address.clone(), other.address.clone()]).await;
    let pulled = both.pull(&local(), &reference, Some("~1.2")).await.unwrap();
    assert_eq!(pulled.version, "1.2.0");
    assert_eq!(other.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_worth_another_try() {
    let folder = tempfile::tempdir().unwrap();
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let charts = charts(&folder, nothing_bundled()).await;
    for reference in [
        format!("oci://127.0.0.1:{port}/demo"),
        format!("https://127.0.0.1:{port}/demo"),
        format!("https://127.0.0.1:{port}/demo.tgz"),
    ] {
        let error = charts
            .pull(&local(), &reference, Some("1.0.0"))
            .await
            .unwrap_err();
        assert!(unavailable(&error).contains("connection refused"), "{error}");
    }
}

/// A web server with a chart repository that wants a password, and the same archive open.
struct Site {
    address: String,
    /// How often it was asked for anything.
    asked: Arc<AtomicUsize>,
}

impl Site {
    fn start(archive: Vec<u8>) -> Self {
        Self::with_index(archive, "demo-1.2.0.tgz")
    }

    /// One whose other repository has the chart elsewhere.
    fn with_index(archive: Vec<u8>, place: &str) -> Self {
        let asked = Arc::new(AtomicUsize::new(0));
        let (count, place) = (Arc::clone(&asked), place.to_owned());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        // It ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                count.fetch_add(1, Ordering::SeqCst);
                answer(&stream.unwrap(), &archive, &place);
            }
        });
        Self { address, asked }
    }
}

/// `reader:s3cr3t-pass`, as a client sends it.
const CREDENTIALS: &str = "Basic cmVhZGVyOnMzY3IzdC1wYXNz";

fn answer(stream: &TcpStream, archive: &[u8], place: &str) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    let path = lines
        .next()
        .and_then(|line| line.split(' ').nth(1).map(str::to_owned))
        .unwrap_or_default();
    let authorized = lines.take_while(|line| !line.is_empty()).any(|line| {
        line.split_once(": ")
            .is_some_and(|(name, value)| name.eq_ignore_ascii_case("authorization") && value == CREDENTIALS)
    });
    let index = "apiVersion: v1\nentries:\n  demo:\n    - {apiVersion: v2, name: demo, version: v1.2.0, urls: [demo-1.2.0.tgz]}\n";
    let elsewhere = index.replace("demo-1.2.0.tgz", place);
    let (status, body) = match path.as_str() {
        "/open/demo-1.2.0.tgz" => ("200 OK", archive),
        path if path.starts_with("/private/") && !authorized => ("401 Unauthorized", &b"no"[..]),
        "/private/demo-1.2.0.tgz" => ("200 OK", archive),
        "/elsewhere/index.yaml" => ("200 OK", elsewhere.as_bytes()),
        "/private/index.yaml" => ("200 OK", index.as_bytes()),
        _ => ("404 Not Found", &b"no"[..]),
    };
    let mut stream = stream;
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    // A client that went away is no concern of a test.
    let _ = stream
        .write_all(head.as_bytes())
        .and_then(|()| stream.write_all(body));
}
