//! The `render` target with a real Helm, and the guard that Helm runs under.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use crate::support::{
    Chart, LOOP, Renders, bare_render_target, deployment, kept, left_behind, release, render_target, request,
};
use serde_json::json;
use slipway_helm::{Gate, HelmSettings};
use slipway_model::{ImmutablePolicy, ObjectChange};
use slipway_ports::{
    FailureClass, HookEvent, HookSource, PreviewRequest, ReleasePreview, ReleaseRequest, ReleaseStatus,
    RollbackRequest, SecretString, Target, UninstallRequest,
};

const SERVICE: &str = r#"
apiVersion: v1
kind: Service
metadata:
  name: {{ .Release.Name }}-api
  labels: {app.kubernetes.io/instance: {{ .Release.Name }}}
spec: {ports: [{name: http, port: {{ .Values.port | default 8080 }}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: keys}
stringData: {key: {{ .Values.key | quote }}, upgrade: "{{ .Release.IsUpgrade }}"}
---
apiVersion: v1
kind: Pod
metadata: {name: check, annotations: {helm.sh/hook: test}}
"#;

fn chart() -> Chart {
    Chart::new("demo").file("templates/all.yaml", SERVICE)
}

#[tokio::test]
async fn a_release_is_rendered_kept_upgraded_rolled_back_and_removed() {
    for renders in Renders::every_kind() {
        lives_and_goes(&renders).await;
    }
}

async fn lives_and_goes(renders: &Renders) {
    let folder = tempfile::tempdir().unwrap();
    let target = render_target(HelmSettings::new(folder.path()), renders.store(), None).await;
    let first = request(1, &chart(), json!({"key": "hunter22"}));
    let checked = target.check(&first).await.unwrap();
    assert!(
        checked.manifest.contains("kind: Pod"),
        "hooks are judged too: {}",
        checked.manifest
    );
    assert!(
        target.record(&first.release).await.unwrap().is_none(),
        "a check changes nothing"
    );

    let applied = target.apply(&first).await.unwrap();
    assert!(applied.namespace_created);
    let shown: Vec<String> = applied.objects.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["Secret/keys", "Service/app-api"]);
    assert_eq!(applied.objects, checked.objects);
    let path = format!("{}/app/1/manifest.yaml", first.release.namespace);
    let manifest = renders.kept().await.remove(&path).unwrap();
    assert!(
        manifest.contains("upgrade") && !manifest.contains("hunter22"),
        "{manifest}"
    );

    let second = request(1, &chart(), json!({"key": "hunter22", "port": 9090}));
    assert_eq!(target.apply(&second).await.unwrap().revision, 2);
    let collect = async || {
        let outputs = BTreeMap::from([(
            "url".to_owned(),
            serde_json::from_value(json!({"from": "service", "port": "http"})).unwrap(),
        )]);
        target
            .collect(&first.release, &applied.objects, &outputs, None)
            .await
            .unwrap()
    };
    let namespace = &first.release.namespace;
    let found = collect().await;
    assert_eq!(found.services, ["app-api"]);
    assert_eq!(found.endpoint_url, format!("http://app-api.{namespace}.svc:9090"));
    assert_eq!(found.outputs["url"], found.endpoint_url);

    let labels = BTreeMap::from([("slipway-job".to_owned(), "back".to_owned())]);
    let back = RollbackRequest {
        release: first.release.clone(),
        revision: 1,
        newest_before: 2,
        labels: labels.clone(),
        immutable: ImmutablePolicy::Stop,
        time_limit: Duration::from_secs(10),
    };
    let back = target.rollback(&back).await.unwrap();
    assert_eq!(back.revision, 3);
    assert_eq!(
        collect().await.endpoint_url,
        format!("http://app-api.{namespace}.svc:8080")
    );
    let record = target.record(&first.release).await.unwrap().unwrap();
    assert_eq!(
        (record.status, &record.labels),
        (ReleaseStatus::Deployed, &labels)
    );
    assert_eq!(record.chart, "demo-1.0.0");
    assert!(
        target
            .observe(&first.release, &record.objects, &[], Duration::ZERO)
            .await
            .unwrap()
            .ready
    );
    let tests = target
        .hooks(&first.release, HookEvent::Test, HookSource::Revision(3))
        .await
        .unwrap();
    let (tested, is_run) = (tests.note, !tests.hooks.is_empty());
    assert!(!is_run);
    assert!(
        tested.contains("no cluster") && tested.contains("Pod/check"),
        "{tested}"
    );

    let gone = UninstallRequest {
        release: release(1),
        leftovers: Vec::new(),
        namespace_of: Some(deployment(1)),
        keep_record: false,
        time_limit: Duration::from_secs(10),
    };
    assert!(target.uninstall(&gone).await.unwrap().remaining.is_empty());
    assert_eq!(renders.kept().await, BTreeMap::new());
    assert!(left_behind(folder.path()).is_empty());
}

/// Plans a change of the key that a ConfigMap holds.
async fn replaced(target: &dyn Target, key: &str) -> ReleasePreview {
    let mut request = with_key(key);
    request.values.insert("mode".to_owned(), json!("fast"));
    let asked = PreviewRequest {
        release: &request,
        secret_values: &["/key".to_owned()],
    };
    target.preview(&asked).await.unwrap()
}

fn with_key(key: &str) -> ReleaseRequest {
    let map = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
# {{ .Values.key }}
data: {url: 'db://user:{{ .Values.key }}@host', mode: {{ .Values.mode | default `slow` }}}
";
    let chart = Chart::new("demo").file("templates/map.yaml", map);
    let mut request = request(1, &chart, json!({"key": key}));
    request.secrets = vec![SecretString::from(key)];
    request
}

#[tokio::test]
async fn a_replaced_secret_is_neither_kept_nor_shown_and_other_changes_are() {
    for renders in Renders::every_kind() {
        let folder = tempfile::tempdir().unwrap();
        let target = render_target(HelmSettings::new(folder.path()), renders.store(), None).await;
        target.apply(&with_key("hunter22")).await.unwrap();
        let kept = format!("{:?}", renders.kept().await);
        assert!(!kept.contains("hunter22") && kept.contains("slow"), "{kept}");

        let preview = replaced(&*target, "other-key").await;
        let all = format!("{preview:?}");
        assert!(!all.contains("hunter22") && !all.contains("other-key"), "{all}");
        let diff = preview.objects[0].diff.clone().unwrap();
        assert!(
            diff.contains("-  mode: slow") && diff.contains("+  mode: fast"),
            "{diff}"
        );
        assert!(preview.notes[0].contains("were not kept"), "{:?}", preview.notes);
    }
}

#[tokio::test]
async fn what_an_earlier_version_kept_with_its_secrets_is_not_shown() {
    let (folder, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let target = render_target(HelmSettings::new(folder.path()), store.path(), None).await;
    let release = target
        .apply(&with_key("hunter22"))
        .await
        .map(|_| release(1))
        .unwrap();
    let cluster = fs::read_dir(store.path()).unwrap().next().unwrap().unwrap();
    let revision = cluster.path().join(release.namespace).join("app/1");
    for (file, new, old) in [
        ("manifest.yaml", "(hidden)", "db://user:hunter22@host"),
        ("record.json", r#""blanked": true"#, r#""blanked": false"#),
    ] {
        let text = fs::read_to_string(revision.join(file)).unwrap();
        assert!(text.contains(new), "{text}");
        fs::write(revision.join(file), text.replace(new, old)).unwrap();
    }

    let preview = replaced(&*target, "other-key").await;
    assert_eq!(preview.objects[0].change, ObjectChange::Change);
    let all = format!("{preview:?}");
    assert!(!all.contains("hunter22") && all.contains("is not shown"), "{all}");
}

#[tokio::test]
async fn a_chart_that_does_not_render_leaves_a_failed_revision_and_a_sentence() {
    for renders in Renders::every_kind() {
        fails_with_a_sentence(&renders).await;
    }
}

async fn fails_with_a_sentence(renders: &Renders) {
    let folder = tempfile::tempdir().unwrap();
    let target = render_target(HelmSettings::new(folder.path()), renders.store(), None).await;
    let schema = r#"{"properties": {"replicas": {"type": "integer"}, "password": {"maxLength": 3}}}"#;
    let strict = chart().file("values.schema.json", schema);
    let error = target
        .apply(&request(
            1,
            &strict,
            json!({"replicas": "three", "password": "hunter22"}),
        ))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent);
    let said = error.to_string();
    assert!(
        said.contains("/replicas") && said.contains("want integer"),
        "{said}"
    );
    assert!(!said.contains("hunter22"), "{said}");
    let record = target.record(&release(1)).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.ever_deployed),
        (ReleaseStatus::Failed, false)
    );
}

#[tokio::test]
async fn without_helm_what_was_rendered_is_read_and_nothing_is_rendered() {
    for renders in Renders::every_kind() {
        let folder = tempfile::tempdir().unwrap();
        let target = render_target(HelmSettings::new(folder.path()), renders.store(), None).await;
        let request = request(1, &chart(), json!({"key": "hunter22"}));
        let applied = target.apply(&request).await.unwrap();
        let before = renders.kept().await;

        let bare = bare_render_target(renders.store()).await;
        assert!(bare.health().await.unwrap().healthy);
        let record = bare.record(&release(1)).await.unwrap().unwrap();
        assert_eq!((record.revision, &record.objects), (1, &applied.objects));
        let outputs = BTreeMap::new();
        let found = bare
            .collect(&release(1), &applied.objects, &outputs, None)
            .await
            .unwrap();
        assert_eq!(found.services, ["app-api"]);
        for error in [
            bare.check(&request).await.unwrap_err(),
            bare.apply(&request).await.unwrap_err(),
        ] {
            assert_eq!(error.class(), FailureClass::Permanent);
            assert!(error.to_string().contains("needs the Helm binary"), "{error}");
        }
        assert_eq!(renders.kept().await, before);
    }
}

#[tokio::test]
async fn the_gate_sees_what_is_applied_and_can_refuse_it() {
    let folder = tempfile::tempdir().unwrap();
    let seen = Arc::new(Mutex::new(String::new()));
    let gate: Gate = {
        let seen = Arc::clone(&seen);
        Arc::new(move |_, release, manifest| {
            manifest.clone_into(&mut seen.lock().unwrap());
            if manifest.contains("9090") {
                return Err(format!("{}: port 9090 is not allowed", release.name));
            }
            Ok(())
        })
    };
    let target = render_target(HelmSettings::new(folder.path()), folder.path(), Some(gate)).await;
    target
        .apply(&request(1, &chart(), json!({"key": "hunter22"})))
        .await
        .unwrap();
    let manifest = seen.lock().unwrap().clone();
    assert!(
        manifest.contains("hunter22") && manifest.contains("name: check"),
        "{manifest}"
    );
    let error = target
        .apply(&request(1, &chart(), json!({"port": 9090})))
        .await
        .unwrap_err();
    assert_eq!(error.class(), FailureClass::Permanent);
    assert!(
        error
            .to_string()
            .ends_with("was refused: app: port 9090 is not allowed"),
        "{error}"
    );
    let record = target.record(&release(1)).await.unwrap().unwrap();
    assert_eq!((record.revision, record.status), (2, ReleaseStatus::Failed));
}

#[tokio::test]
async fn charts_see_nothing_of_our_environment_and_cannot_follow_links() {
    let folder = tempfile::tempdir().unwrap();
    let target = render_target(HelmSettings::new(folder.path()), folder.path(), None).await;
    let curious = Chart::new("demo").file(
        "templates/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  e: {{ .Files.Get \"environ\" | quote }}\n",
    );
    std::os::unix::fs::symlink("/proc/self/environ", curious.folder().join("environ")).unwrap();
    assert!(slipway_helm::package_directory(curious.folder()).is_err());
    fs::remove_file(curious.folder().join("environ")).unwrap();
    let mut with_link = request(1, &curious, json!({}));
    with_link.chart = link_into(&with_link.chart);
    let error = target.apply(&with_link).await.unwrap_err();
    assert!(error.to_string().contains("symbolic link"), "{error}");
}

/// The packed chart with a link to our environment in it, as no packaging of ours would make it.
fn link_into(chart: &[u8]) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("chart.tgz"), chart).unwrap();
    let script = "tar xzf chart.tgz && ln -s /proc/self/environ demo/environ && tar czf out.tgz demo";
    let status = Command::new("sh")
        .args(["-c", script])
        .current_dir(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    fs::read(folder.path().join("out.tgz")).unwrap()
}

#[tokio::test]
async fn a_template_without_an_end_is_stopped_at_the_time_limit() {
    let folder = tempfile::tempdir().unwrap();
    let settings = HelmSettings {
        grace: Duration::from_millis(300),
        ..HelmSettings::new(folder.path())
    };
    let target = render_target(settings, folder.path(), None).await;
    let mut endless = request(1, &Chart::new("demo").file("templates/a.yaml", LOOP), json!({}));
    endless.time_limit = Duration::from_secs(1);
    let start = Instant::now();
    let error = target.apply(&endless).await.unwrap_err();
    assert_eq!(error.class(), FailureClass::TimedOut, "{error}");
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    assert_eq!(helms_in(folder.path()), 0);
}

#[tokio::test]
async fn a_template_that_wants_all_memory_is_refused_it() {
    let folder = tempfile::tempdir().unwrap();
    let settings = HelmSettings {
        memory_limit: 1 << 30,
        ..HelmSettings::new(folder.path())
    };
    let target = render_target(settings, folder.path(), None).await;
    let greedy = Chart::new("demo").file("templates/a.yaml", "x: {{ repeat 1900000000 \"abcd\" }}");
    let error = target.apply(&request(1, &greedy, json!({}))).await.unwrap_err();
    assert!(error.to_string().contains("memory"), "{error}");
    assert_eq!(error.class(), FailureClass::Permanent);
}

/// Set for the process that the test below starts and kills.
const VICTIM: &str = "SLIPWAY_TEST_VICTIM";

#[tokio::test]
async fn helm_does_not_outlive_a_process_that_is_killed() {
    if let Ok(folder) = std::env::var(VICTIM) {
        let folder = Path::new(&folder);
        let target = render_target(HelmSettings::new(folder), folder, None).await;
        let endless = Chart::new("demo").file("templates/a.yaml", LOOP);
        let outcome = target
            .apply(&request(1, &endless, json!({"key": "hunter22"})))
            .await;
        panic!("ended by itself: {outcome:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "render::helm_does_not_outlive_a_process_that_is_killed",
        ])
        .env(VICTIM, folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("Helm runs", || helms_in(folder.path()) > 0);
    assert_eq!(left_behind(folder.path()).len(), 1);
    victim.kill().unwrap();
    victim.wait().unwrap();
    until("Helm is gone", || helms_in(folder.path()) == 0);
    until("the private directory is gone", || {
        left_behind(folder.path()).is_empty()
    });

    // The release number holds the process id, so the record is looked for where the victim left it.
    let namespaces = fs::read_dir(kept(folder.path())).unwrap();
    let namespace = namespaces.map(|entry| entry.unwrap()).next().unwrap();
    let release = slipway_ports::Release {
        namespace: namespace.file_name().into_string().unwrap(),
        name: "app".to_owned(),
    };
    let target = render_target(HelmSettings::new(folder.path()), folder.path(), None).await;
    let record = target.record(&release).await.unwrap().unwrap();
    assert_eq!(record.status, ReleaseStatus::PendingInstall);
    let mut again = request(1, &chart(), json!({}));
    again.release = release.clone();
    let refused = target.apply(&again).await.unwrap_err();
    assert_eq!(refused.class(), FailureClass::Transient, "{refused}");
    let told = target.recover(&release, record.revision).await.unwrap();
    assert!(told.contains("pending-install"), "{told}");
    assert_eq!(target.apply(&again).await.unwrap().revision, 1);
}

/// How many processes have the folder among their arguments, this one excluded.
fn helms_in(folder: &Path) -> usize {
    let wanted = folder.to_str().unwrap();
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok())
        .filter(|arguments| String::from_utf8_lossy(arguments).contains(&format!("{wanted}/slipway-helm-")))
        .count()
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(30),
            "waited too long until {what}"
        );
        std::thread::yield_now();
    }
}
