//! Where charts may come from.

use slipway_policy::{ChartRef, HostPolicy};

#[track_caller]
fn allowed(text: &str) -> ChartRef {
    let chart = ChartRef::parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(chart.to_string(), text, "printing gives back what was read");
    chart
}

#[test]
fn container_registries() {
    let chart = allowed("oci://registry.bud.ai/charts/langraph-agent");
    assert_eq!(chart.host(), Some("registry.bud.ai"));
    assert_eq!(chart.port(), None);
    assert_eq!(chart.path(), "charts/langraph-agent");

    let digest = "0123456789abcdef".repeat(4);
    let chart = allowed(&format!("oci://127.0.0.1:5000/agent@sha256:{digest}"));
    assert_eq!(chart.port(), Some(5000));
    assert_eq!(chart.path(), "agent");
    assert_eq!(chart.digest().map(|digest| digest.as_str().len()), Some(7 + 64));

    let chart = allowed("oci://[::1]:5000/agent");
    assert_eq!(chart.host(), Some("::1"));
    allowed("oci://123456789012.dkr.ecr.eu-west-1.amazonaws.com/charts/my_agent");
}

#[test]
fn https_repositories_and_archives() {
    let chart = allowed("https://charts.example.com/stable/qdrant");
    assert_eq!(
        chart.repository(),
        Some(("https://charts.example.com/stable".to_owned(), "qdrant"))
    );
    assert!(!chart.is_archive());
    let chart = allowed("https://charts.example.com:8443/qdrant");
    assert_eq!(
        chart.repository(),
        Some(("https://charts.example.com:8443".to_owned(), "qdrant"))
    );
    let chart = allowed("https://github.com/org/repo/releases/download/v1.2.3/app-1.2.3+build.7.tgz");
    assert!(chart.is_archive());
    assert_eq!(chart.repository(), None);
}

#[test]
fn bundled_charts() {
    let chart = allowed("charts/agent-runtime");
    assert!(chart.is_bundled());
    assert_eq!(chart.path(), "agent-runtime");
    assert_eq!(chart.host(), None);
}

#[test]
fn hosts_are_read_in_lower_case() {
    let chart = ChartRef::parse("oci://Registry.BUD.ai/Charts/a").unwrap();
    assert_eq!(chart.to_string(), "oci://registry.bud.ai/Charts/a");
}

#[test]
fn hostile_references_are_refused() {
    let long = format!("oci://h/{}", "a".repeat(600));
    let label = format!("oci://{}/a", "a".repeat(64));
    let table = [
        "",
        " ",
        "ftp://example.com/chart",
        "http://example.com/chart",
        "file:///etc/passwd",
        "oci:/host/a",
        "OCI://host/a",
        "oci://",
        "oci:///a",
        "oci://host",
        "oci://host/",
        "https://host",
        "https://host/",
        "https:///a",
        "git+https://host/a",
        "s3://bucket/a",
        "../charts/a",
        "./charts/a",
        "/charts/a",
        "charts/",
        "charts/..",
        "charts/../a",
        "charts/a/b",
        "charts/a.tgz",
        "charts/./a",
        "charts/-a",
        "charts/a b",
        "chart/a",
        "oci://user@host/a",
        "oci://user:pass@host/a",
        "https://user:pass@host/a",
        "https://host@evil.com/a",
        "https://host/a@evil.com",
        "https://host/a?b=c",
        "https://host/a#b",
        "oci://host/a?x",
        "oci://host/../a",
        "oci://host/a/../b",
        "oci://host/a/..",
        "https://host/..%2fa",
        "https://host/%2e%2e/a",
        "https://host/a%00",
        "https://host//a",
        "https://host/a/",
        "https://host/.hidden",
        "https://host/a..b",
        "https://host\\@evil/a",
        "https://host/a\\b",
        "oci://host:/a",
        "oci://host:0/a",
        "oci://host:65536/a",
        "oci://host:080/a",
        "oci://host:+80/a",
        "oci://host:80:80/a",
        "oci://host:x/a",
        "oci://host/a:1.2.3",
        "oci://host/a:latest@sha256:ab",
        "oci://host/a@sha256:abc",
        "oci://host/a@sha512:abc",
        "oci://-host/a",
        "oci://host-/a",
        "oci://ho..st/a",
        "oci://.host/a",
        "oci://host./a",
        "oci://localhost./a",
        "oci://ho_st/a",
        "oci://host/-a",
        "oci://höst/a",
        "oci://host/ä",
        "oci://host/a\n",
        "oci://host/a b",
        "\toci://host/a",
        "oci://host/a;b",
        "oci://host/a,b",
        "oci://host/$(id)",
        "oci://host/`id`",
        "oci://[::1/a",
        "oci://::1/a",
        "oci://[fe80::1%25eth0]/a",
        "oci://[1.2.3.4]/a",
        "oci://host/a --debug",
        "--help",
        "-f",
        "oci://host/{{ parameters.x }}",
        "charts/{{ parameters.x }}",
        "https://host/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
        long.as_str(),
        label.as_str(),
    ];
    for text in table {
        let error = ChartRef::parse(text).expect_err(text).to_string();
        assert!(error.starts_with("Chart reference '"), "{error}");
        assert!(error.contains("does not match any allowed pattern"), "{error}");
        assert!(error.len() < 500, "{error}");
    }
}

#[test]
fn a_refusal_does_not_repeat_a_password() {
    for text in [
        "oci://user:hunter2@host/a",
        "https://hunter2@host",
        "https://a@hunter2@host/x",
        "ftp://u:hunter2@h/",
    ] {
        let error = ChartRef::parse(text).expect_err(text);
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

fn policy(list: &str) -> HostPolicy {
    HostPolicy::parse(list).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(list: &str, chart: &str) -> String {
    let chart = ChartRef::parse(chart).unwrap_or_else(|error| panic!("{error}"));
    policy(list)
        .check(&chart)
        .expect_err("the host is refused")
        .to_string()
}

fn accepts(list: &str, chart: &str) -> bool {
    policy(list)
        .check(&ChartRef::parse(chart).expect("it parses"))
        .is_ok()
}

#[test]
fn an_empty_list_means_bundled_charts_only() {
    assert!(accepts("", "charts/a"));
    assert_eq!(
        refusal("", "oci://registry.bud.ai/a"),
        "Chart host 'registry.bud.ai' is not on this server's allow-list; an administrator adds it with \
         SLIPWAY_CHART_HOSTS=registry.bud.ai"
    );
    assert_eq!(HostPolicy::bundled_only(), policy(" , "));
}

#[test]
fn a_listed_host_is_allowed_at_any_port_or_at_one() {
    assert!(accepts("registry.bud.ai", "oci://registry.bud.ai/a"));
    assert!(accepts("registry.bud.ai", "oci://registry.bud.ai:5000/a"));
    assert!(accepts("Registry.Bud.AI", "oci://registry.BUD.ai/a"));
    assert!(accepts(
        "a.example,registry.bud.ai:5000",
        "oci://registry.bud.ai:5000/a"
    ));
    assert!(!accepts("registry.bud.ai:5000", "oci://registry.bud.ai:5001/a"));
    assert!(!accepts("registry.bud.ai:5000", "oci://registry.bud.ai/a"));
    assert!(accepts("registry.bud.ai:443", "oci://registry.bud.ai/a"));
    assert!(!accepts("registry.bud.ai", "oci://evil-registry.bud.ai/a"));
    assert!(!accepts("registry.bud.ai", "oci://registry.bud.ai.evil.com/a"));
    assert!(!accepts("bud.ai", "oci://registry.bud.ai/a"));
    assert!(accepts("127.0.0.1:5000", "oci://127.0.0.1:5000/a"));
    assert!(accepts("[::1]:5000", "oci://[0:0::1]:5000/a"));
}

#[test]
fn plain_http_is_per_host() {
    let policy = policy("registry.bud.ai, http://127.0.0.1:5000");
    let local = ChartRef::parse("oci://127.0.0.1:5000/a").unwrap();
    let public = ChartRef::parse("oci://registry.bud.ai/a").unwrap();
    assert!(policy.check(&local).is_ok() && policy.uses_plain_http(&local));
    assert!(policy.check(&public).is_ok() && !policy.uses_plain_http(&public));
    assert!(!policy.uses_plain_http(&ChartRef::parse("charts/a").unwrap()));
}

#[test]
fn special_addresses_are_refused_in_every_notation_and_said_so() {
    let machine = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "localhost",
        "a.localhost",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "0.0.0.0",
        "0",
        "[::]",
    ];
    for host in machine {
        let message = refusal("registry.bud.ai", &format!("oci://{host}/a"));
        assert!(message.contains("(it is this machine)"), "{host}: {message}");
    }
    let metadata = [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "169.16689662",
        "0251.0376.0251.0376",
        "[fd00:ec2::254]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "metadata.google.internal",
    ];
    for host in metadata {
        let message = refusal("registry.bud.ai", &format!("https://{host}/a"));
        assert!(message.contains("metadata service"), "{host}: {message}");
    }
    for host in ["169.254.1.1", "[fe80::1]"] {
        assert!(
            refusal("registry.bud.ai", &format!("oci://{host}/a")).contains("link-local"),
            "{host}"
        );
    }
    for host in ["10.0.0.1", "[2001:db8::1]"] {
        assert!(
            refusal("registry.bud.ai", &format!("oci://{host}/a")).contains("(it is an address)"),
            "{host}"
        );
    }
    assert!(
        refusal("127.0.0.1", "oci://2130706433/a").contains("this machine"),
        "only as it is listed"
    );
    assert!(refusal("10.0.0.1", "oci://167772161/a").contains("unusual notation"));
}

#[test]
fn a_host_that_a_repository_names_is_judged_as_one_of_a_reference() {
    let policy = HostPolicy::parse("cdn.example http://plain.example http://10.0.0.1:5000").expect("a list");
    assert_eq!(policy.judge("cdn.example:8443"), Ok(false));
    assert_eq!(policy.judge("plain.example:8080"), Ok(true), "at any port");
    assert_eq!(policy.judge("10.0.0.1:5000"), Ok(true));
    for host in ["other.example", "10.0.0.1", "169.254.169.254", "[::1]:80"] {
        let error = policy.judge(host).expect_err(host);
        assert!(error.contains(&format!("SLIPWAY_CHART_HOSTS={host}")), "{error}");
    }
    assert!(policy.judge("user@cdn.example").is_err());
}

#[test]
fn a_list_that_names_no_host_is_refused() {
    for list in [
        "*",
        "*.example.com",
        "https://host/path",
        "host:0",
        "host:99999",
        "2130706433",
        "0x7f.1",
        "127.1",
        "-x",
        "user@host",
        "oci://host",
        "host/",
        "127.0.0.01",
    ] {
        let error = HostPolicy::parse(list).expect_err(list).to_string();
        assert!(error.contains(list), "{error}");
    }
}
