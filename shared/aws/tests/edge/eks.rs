//! EKS clusters and their tokens.

use std::{sync::Arc, time::Duration};

use aws_credential_types::Credentials;
use aws_sdk_eks::types::VpcConfigRequest;
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use slipway_aws::{Clients, EksClusters, EksError, TOKEN_LIFETIME, TokenError, mint_token};
use slipway_model::{ClusterTarget, TenantId};
use slipway_ports::{Clock as _, ExposeSecret, FailureClass, SecretString, TargetError};
use slipway_testkit::{ManualClock, START};

use crate::{REGION, canned, clients, moto, unique, verifier::Verifier};

const ROLE: &str = "arn:aws:iam::999999999999:role/slipway";

const HOST: &str = "sts.eu-central-1.amazonaws.com";

/// The caller of `clients`.
const HOME: (&str, &str, Option<&str>) = ("AKIDHOME", "home-secret", None);

/// The caller that the canned STS makes of it.
const ASSUMED: (&str, &str, Option<&str>) = ("ASIAOTHER", "other-secret", Some("session/+=token"));

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn target(name: &str, role: Option<(&str, &str)>) -> ClusterTarget {
    ClusterTarget::Eks {
        name: name.to_owned(),
        region: REGION.to_owned(),
        role_arn: role.map(|(role, _)| role.to_owned()),
        external_id: role.map(|(_, id)| id.to_owned()),
    }
}

fn clusters(clients: Clients) -> EksClusters {
    EksClusters::new(clients, Arc::new(ManualClock::default()))
}

/// The parts of a kubeconfig: server, certificate authority, token.
fn parts(kubeconfig: &SecretString) -> (String, String, String) {
    let config: Value = serde_json::from_str(kubeconfig.expose_secret()).unwrap();
    let text = |pointer: &str| config.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    let context = text("/current-context");
    assert_eq!(text("/contexts/0/name"), context);
    assert_eq!(text("/contexts/0/context/cluster"), text("/clusters/0/name"));
    assert_eq!(text("/contexts/0/context/user"), text("/users/0/name"));
    // Nothing else: no program, no file.
    assert_eq!(
        config
            .pointer("/users/0/user")
            .unwrap()
            .as_object()
            .unwrap()
            .len(),
        1
    );
    (
        text("/clusters/0/cluster/server"),
        text("/clusters/0/cluster/certificate-authority-data"),
        text("/users/0/user/token"),
    )
}

fn verifier<'a>(cluster: &'a str, caller: (&'a str, &'a str, Option<&'a str>)) -> Verifier<'a> {
    Verifier {
        cluster,
        hosts: &[HOST, "sts.us-east-1.amazonaws.com"],
        now: START.as_millis() / 1000,
        caller,
    }
}

async fn make_cluster(clients: &Clients) -> (String, String, String) {
    let name = unique("cluster");
    let made = clients
        .eks(REGION, None)
        .create_cluster()
        .name(&name)
        .role_arn("arn:aws:iam::123456789012:role/eks")
        .resources_vpc_config(VpcConfigRequest::builder().subnet_ids("subnet-1").build())
        .send()
        .await
        .unwrap()
        .cluster
        .unwrap();
    let authority = made.certificate_authority().unwrap().data().unwrap().to_owned();
    (name, made.endpoint().unwrap().to_owned(), authority)
}

/// A canned AWS: STS gives `ASSUMED`, and EKS describes one cluster.
async fn aws(cluster: Value) -> (String, canned::Requests) {
    canned::serve(move |request: &str| {
        if request.starts_with("GET /clusters/") {
            return (200, json!({"cluster": cluster}).to_string());
        }
        let (key, secret, token) = ASSUMED;
        let body = format!(
            "<AssumeRoleResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><AssumeRoleResult><Credentials>\
             <AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
             <SessionToken>{}</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration>\
             </Credentials></AssumeRoleResult></AssumeRoleResponse>",
            token.unwrap()
        );
        (200, body)
    })
    .await
}

fn active() -> Value {
    json!({
        "name": "prod", "status": "ACTIVE", "endpoint": "https://ABC.gr7.eu-central-1.eks.amazonaws.com",
        "certificateAuthority": {"data": "Q0E="},
    })
}

#[tokio::test]
async fn a_cluster_of_this_account_is_reached_with_its_own_address_authority_and_a_good_token() {
    let clients = moto().await;
    let (name, endpoint, authority) = make_cluster(&clients).await;
    let kubeconfig = clusters(clients)
        .kubeconfig(&tenant(), &target(&name, None))
        .await
        .unwrap();
    let (server, certificate, token) = parts(&kubeconfig);
    assert_eq!((server, certificate), (endpoint, authority));
    assert_eq!(verifier(&name, HOME).verify(&token).unwrap(), "AKIDHOME");
}

#[tokio::test]
async fn a_cluster_with_a_role_is_reached_with_the_credentials_that_sts_gives() {
    // moto runs as one account, so which credentials describe the cluster is the next test's matter.
    let clients = moto().await;
    let (name, endpoint, _) = make_cluster(&clients).await;
    let clusters = clusters(clients);
    let kubeconfig = clusters
        .kubeconfig(&tenant(), &target(&name, Some((ROLE, "id"))))
        .await
        .unwrap();
    let (server, _, token) = parts(&kubeconfig);
    assert_eq!(server, endpoint);
    let url = BASE64_URL_SAFE_NO_PAD
        .decode(&token["k8s-aws-v1.".len()..])
        .unwrap();
    let url = String::from_utf8(url).unwrap();
    assert!(
        url.contains("X-Amz-Credential=ASIA") && url.contains("X-Amz-Security-Token="),
        "{url}"
    );
}

#[tokio::test]
async fn a_role_is_assumed_with_its_external_id_under_a_name_that_tells_who_asked() {
    let (address, requests) = aws(active()).await;
    let clusters = clusters(clients(&address).await);
    let tenant: TenantId = "t".repeat(63).parse().unwrap();
    let kubeconfig = clusters
        .kubeconfig(&tenant, &target("prod", Some((ROLE, "7f:3c/=+"))))
        .await
        .unwrap();
    let (_, _, token) = parts(&kubeconfig);
    assert_eq!(verifier("prod", ASSUMED).verify(&token).unwrap(), "ASIAOTHER");
    let requests = requests.lock().unwrap();
    let [assume, describe] = &requests[..] else {
        panic!("{requests:?}");
    };
    let body = assume.rsplit("\r\n\r\n").next().unwrap();
    let fields: Vec<&str> = body.split('&').collect();
    for field in [
        "Action=AssumeRole",
        "RoleArn=arn%3Aaws%3Aiam%3A%3A999999999999%3Arole%2Fslipway",
        "ExternalId=7f%3A3c%2F%3D%2B",
        "DurationSeconds=900",
        &format!("RoleSessionName=slipway-{}", "t".repeat(56)),
    ] {
        assert!(fields.contains(&field), "{field}: {body}");
    }
    assert!(assume.contains("Credential=AKIDHOME/"), "{assume}");
    assert!(
        describe.contains("Credential=ASIAOTHER/") && describe.contains("/eu-central-1/eks/"),
        "{describe}"
    );
}

#[tokio::test]
async fn every_connection_has_a_token_of_its_own_time() {
    let (address, _) = aws(active()).await;
    let clock = Arc::new(ManualClock::default());
    let clusters = EksClusters::new(clients(&address).await, clock.clone());
    let token = async || {
        parts(
            &clusters
                .kubeconfig(&tenant(), &target("prod", None))
                .await
                .unwrap(),
        )
        .2
    };
    let first = token().await;
    let later = TOKEN_LIFETIME + Duration::from_secs(1);
    clock.advance(later);
    let second = token().await;
    let verifier = Verifier {
        now: clock.now().as_millis() / 1000,
        ..verifier("prod", HOME)
    };
    assert!(verifier.verify(&first).unwrap_err().contains("expired"));
    verifier.verify(&second).unwrap();
}

fn minted(region: &str, session: Option<&str>) -> String {
    let (key, secret, _) = HOME;
    let credentials = Credentials::new(key, secret, session.map(str::to_owned), None, "test");
    let token = mint_token(region, "prod", credentials, START).unwrap();
    token.expose_secret().to_owned()
}

#[test]
fn a_token_is_good_for_its_cluster_its_caller_and_a_quarter_of_an_hour() {
    let session = "a/long+session=token";
    let token = minted(REGION, Some(session));
    let caller = (HOME.0, HOME.1, Some(session));
    let good = verifier("prod", caller);
    good.verify(&token).unwrap();
    let at = |seconds| Verifier {
        now: good.now + seconds,
        ..verifier("prod", caller)
    };
    at(900).verify(&token).unwrap();
    assert!(at(901).verify(&token).unwrap_err().contains("expired"));
    let refused = [
        (verifier("other", caller), "the signature does not match"),
        (
            verifier("prod", (HOME.0, "another", Some(session))),
            "the signature does not match",
        ),
        (
            verifier("prod", ("AKIDOTHER", HOME.1, Some(session))),
            "is not the caller's",
        ),
        (
            Verifier {
                hosts: &["sts.eu-west-1.amazonaws.com"],
                ..verifier("prod", caller)
            },
            "unexpected hostname",
        ),
    ];
    for (verifier, reason) in refused {
        let error = verifier.verify(&token).unwrap_err();
        assert!(error.contains(reason), "{error}");
    }
}

#[test]
fn the_verifier_of_these_tests_refuses_what_a_cluster_refuses() {
    let token = minted(REGION, None);
    let url = BASE64_URL_SAFE_NO_PAD
        .decode(&token["k8s-aws-v1.".len()..])
        .unwrap();
    let url = String::from_utf8(url).unwrap();
    let verifier = verifier("prod", HOME);
    verifier.verify_url(&url).unwrap();
    for (from, to, reason) in [
        ("https://", "http://", "unexpected scheme"),
        (HOST, "sts.evil.example", "unexpected hostname"),
        (HOST, "sts.us-east-1.amazonaws.com", "is not the caller's"),
        ("com/?", "com/x?", "unexpected path"),
        ("com/?", "com?", "unexpected path"),
        (
            "Action=GetCallerIdentity",
            "Action=AssumeRole",
            "unexpected action",
        ),
        ("&Version=", "&DurationSeconds=1&Version=", "is not allowed"),
        ("&Version=", "&version=1&Version=", "several values"),
        ("X-Amz-Expires=60", "X-Amz-Expires=901", "invalid X-Amz-Expires"),
        (
            "X-Amz-Expires=60",
            "X-Amz-Expires=61",
            "the signature does not match",
        ),
        ("%3Bx-k8s-aws-id", "", "is not signed"),
    ] {
        assert!(url.contains(from), "{from}: {url}");
        let error = verifier.verify_url(&url.replace(from, to)).unwrap_err();
        assert!(error.contains(reason), "{to}: {error}");
    }
}

#[test]
fn a_token_for_china_asks_sts_there() {
    let verifier = Verifier {
        hosts: &["sts.cn-north-1.amazonaws.com.cn"],
        ..verifier("prod", HOME)
    };
    verifier.verify(&minted("cn-north-1", None)).unwrap();
}

#[test]
fn a_session_token_that_clusters_would_not_take_is_refused_here() {
    let credentials = Credentials::new(HOME.0, HOME.1, Some("s".repeat(3000)), None, "test");
    let error = mint_token(REGION, "prod", credentials, START).unwrap_err();
    assert!(matches!(error, TokenError::TooLong(4097..)), "{error}");
}

async fn refusal(address: &str, role: Option<(&str, &str)>) -> EksError {
    clusters(clients(address).await)
        .kubeconfig(&tenant(), &target("prod", role))
        .await
        .unwrap_err()
}

fn class(error: EksError) -> FailureClass {
    TargetError::from(error).class()
}

#[tokio::test]
async fn a_cluster_that_is_absent_is_named_with_region_and_account() {
    let moto = xtask::aws_parts::moto().unwrap();
    let error = refusal(&moto, None).await;
    assert_eq!(
        error.to_string(),
        "there is no EKS cluster 'prod' in eu-central-1 of this account: check name, region and role of its registration"
    );
    assert_eq!(class(error), FailureClass::Permanent);
    let error = refusal(&moto, Some((ROLE, "id"))).await;
    assert!(error.to_string().contains("of account 999999999999"), "{error}");
}

#[tokio::test]
async fn a_cluster_without_an_api_server_is_refused_with_its_status() {
    for (status, wanted) in [
        ("CREATING", FailureClass::Transient),
        ("DELETING", FailureClass::Permanent),
        ("FAILED", FailureClass::Permanent),
    ] {
        let mut cluster = active();
        cluster["status"] = json!(status);
        let (address, _) = aws(cluster).await;
        let error = refusal(&address, None).await;
        assert!(
            error
                .to_string()
                .contains(&format!("is {status}: expected ACTIVE")),
            "{error}"
        );
        assert_eq!(class(error), wanted, "{status}");
    }
    let mut updating = active();
    updating["status"] = json!("UPDATING");
    let (address, _) = aws(updating).await;
    clusters(clients(&address).await)
        .kubeconfig(&tenant(), &target("prod", None))
        .await
        .unwrap();
}

#[tokio::test]
async fn what_a_kubeconfig_needs_is_asked_for_by_name() {
    for (field, value, missing) in [
        ("endpoint", json!(null), "HTTPS endpoint"),
        ("endpoint", json!("http://10.0.0.1"), "HTTPS endpoint"),
        ("certificateAuthority", json!({}), "certificate authority"),
    ] {
        let mut cluster = active();
        cluster[field] = value;
        let (address, _) = aws(cluster).await;
        let error = refusal(&address, None).await;
        assert!(
            matches!(&error, EksError::Incomplete { what, .. } if *what == missing),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_role_that_is_refused_is_named_with_what_its_trust_policy_needs() {
    let refused = |code: &str| {
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>{code}</Code><Message>not authorized</Message></Error></ErrorResponse>"
        )
    };
    let denied = refused("AccessDenied");
    let (address, requests) = canned::serve(move |_: &str| (403, denied.clone())).await;
    let error = refusal(&address, Some((ROLE, "id"))).await;
    let said = error.to_string();
    assert!(
        said.contains(ROLE) && said.contains("AccessDenied") && said.contains("external id"),
        "{said}"
    );
    assert_eq!(class(error), FailureClass::Permanent);
    assert_eq!(
        requests.lock().unwrap().len(),
        1,
        "nothing goes on with other credentials"
    );
    let busy = refused("Throttling");
    let (address, _) = canned::serve(move |_: &str| (400, busy.clone())).await;
    assert_eq!(
        class(refusal(&address, Some((ROLE, "id"))).await),
        FailureClass::Transient
    );
}

#[tokio::test]
async fn eks_that_refuses_or_does_not_answer_is_told_apart() {
    let answer = |code: &str| json!({"__type": code, "message": "no"}).to_string();
    for (status, code, wanted) in [
        (403, "AccessDeniedException", FailureClass::Permanent),
        (403, "ExpiredTokenException", FailureClass::Permanent),
        (429, "TooManyRequestsException", FailureClass::Transient),
        (503, "ServiceUnavailableException", FailureClass::Transient),
    ] {
        let body = answer(code);
        let (address, _) = canned::serve(move |_: &str| (status, body.clone())).await;
        let error = refusal(&address, None).await;
        assert!(error.to_string().contains(code), "{error}");
        assert_eq!(class(error), wanted, "{code}");
    }
}

#[tokio::test]
async fn other_clusters_are_no_matter_of_eks() {
    let clusters = clusters(clients("http://127.0.0.1:1").await);
    let error = clusters
        .kubeconfig(&tenant(), &ClusterTarget::Render)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("type 'render'"), "{error}");
}
