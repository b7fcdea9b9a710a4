//! What the environment may say, and what is said about it.

use std::{env, time::Duration};

use super::*;

fn function() -> Function {
    Function::new("execute-step", Duration::from_secs(180)).with_dead_letters()
}

const URLS: &str = r#"{"plan-dag": "http://q/plan", "execute-step": "http://q/execute", "deploy-helm": "http://q/deploy",
    "budpipelineEvents": "http://q/pipeline", "budusecasesEvents": "http://q/usecases",
    "audit": "arn:aws:sns:eu-central-1:111122223333:audit"}"#;

/// What a deployed function sees.
fn deployed() -> BTreeMap<&'static str, String> {
    [
        ("AWS_REGION", "eu-central-1"),
        ("AWS_ACCESS_KEY_ID", "AKIA"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_LAMBDA_RUNTIME_API", "127.0.0.1:9001"),
        ("SLIPWAY_TABLE", "slipway"),
        ("SLIPWAY_BUCKET", "blobs"),
        ("SLIPWAY_QUEUES", URLS),
        ("SLIPWAY_DEAD_LETTER_QUEUES", URLS),
        ("SLIPWAY_SECRETS_PREFIX", "slipway/dev/"),
    ]
    .map(|(name, value)| (name, value.to_owned()))
    .into()
}

fn read(function: &Function, variables: &BTreeMap<&'static str, String>) -> Result<Settings, Vec<String>> {
    Settings::from_variables(function, &|name| variables.get(name).cloned()).map_err(|error| match error {
        ShellError::Setup { problems } => problems,
        other => panic!("{other}"),
    })
}

fn problems(changes: &[(&'static str, &str)]) -> Vec<String> {
    let mut variables = deployed();
    for (name, value) in changes {
        variables.insert(name, (*value).to_owned());
    }
    read(&function(), &variables).expect_err("something is wrong with it")
}

#[test]
fn what_is_deployed_is_enough() {
    let settings = read(&function(), &deployed()).unwrap();
    assert_eq!(settings.app.retention, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(settings.app.invocation, Duration::from_secs(180));
    assert!(settings.app.eks && settings.app.use_pipeline_orchestration);
    assert_eq!(settings.app.chart_hosts, HostPolicy::bundled_only());
    assert_eq!(settings.loopback, Loopback::Refused);
    assert_eq!(settings.max_receives, 10);
    assert_eq!(settings.callers.tenant_claim, "custom:tenant");
    assert_eq!(settings.callers.role_claim, "custom:role");
    assert_eq!(settings.callers.iam, None);
    let topics: Vec<_> = settings.app.topics.iter().map(String::as_str).collect();
    assert_eq!(
        topics,
        ["audit", BUDUSECASES_EVENTS],
        "no caller writes job events"
    );
}

#[test]
fn everything_that_is_missing_is_named_at_once() {
    let problems = read(&function(), &BTreeMap::new()).unwrap_err();
    for name in deployed().into_keys() {
        let about: Vec<_> = problems
            .iter()
            .filter(|problem| problem.starts_with(name))
            .collect();
        assert_eq!(about.len(), 1, "{name}: {problems:#?}");
    }
    assert_eq!(problems.len(), deployed().len(), "{problems:#?}");
}

#[test]
fn an_empty_variable_is_a_missing_one() {
    assert!(problems(&[("SLIPWAY_TABLE", " ")])[0].starts_with("SLIPWAY_TABLE is not set"));
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let cases = [
        ("SLIPWAY_QUEUES", "{}", "'plan-dag'"),
        ("SLIPWAY_QUEUES", "plan-dag", "JSON object"),
        (
            "SLIPWAY_DEAD_LETTER_QUEUES",
            "{\"plan-dag\": \"file:///x\"}",
            "neither the URL",
        ),
        ("SLIPWAY_SECRETS_PREFIX", "slipway", "slipway/"),
        ("SLIPWAY_RETENTION_DAYS", "0", "from 1"),
        ("SLIPWAY_RETENTION_DAYS", "forever", "'forever'"),
        ("SLIPWAY_MAX_RECEIVES", "-1", "from 1 to 1000"),
        ("USE_PIPELINE_ORCHESTRATION", "maybe", "true or false"),
        ("SLIPWAY_REACH_LOOPBACK", "local", "true or false"),
        ("SLIPWAY_CHART_HOSTS", "https://x/y", "HOST:PORT"),
        ("SLIPWAY_IAM_ROLE", "root", "viewer, deployer or admin"),
        ("AWS_ENDPOINT_URL_SQS", "localhost", "http://"),
    ];
    for (name, value, expected) in cases {
        let problems = problems(&[(name, value)]);
        let told = problems
            .iter()
            .any(|problem| problem.contains(name) && problem.contains(expected));
        assert!(told, "{name}={value}: {problems:?}");
    }
    let missing_queues = problems(&[("SLIPWAY_QUEUES", "{}")]);
    assert_eq!(missing_queues.len(), 5, "each queue is named: {missing_queues:?}");
    let tenant = problems(&[("SLIPWAY_IAM_ROLE", "admin"), ("SLIPWAY_IAM_TENANT", "No Tenant")]);
    assert!(tenant[0].contains("SLIPWAY_IAM_TENANT"), "{tenant:?}");
}

#[test]
fn only_who_buries_needs_dead_letter_queues_and_only_who_runs_helm_needs_helm() {
    let mut variables = deployed();
    variables.remove("SLIPWAY_DEAD_LETTER_QUEUES");
    let plain = Function::new("templates-api", Duration::from_secs(29));
    assert!(read(&plain, &variables).is_ok());
    let helm = Function::new("deploy-helm", Duration::from_secs(300)).with_helm();
    let problems = read(&helm, &variables).unwrap_err();
    assert!(problems[0].starts_with("SLIPWAY_HELM is not set"), "{problems:?}");
    assert!(
        problems[1].starts_with("SLIPWAY_CHARTS is not set"),
        "{problems:?}"
    );

    variables.insert("SLIPWAY_HELM", "/nowhere/helm".to_owned());
    variables.insert("SLIPWAY_CHARTS", "/nowhere/charts".to_owned());
    let problems = read(&helm, &variables).unwrap_err();
    assert!(
        problems[0].contains("'/nowhere/helm', where no file is"),
        "{problems:?}"
    );
    assert!(
        problems[1].contains("'/nowhere/charts', where no folder is"),
        "{problems:?}"
    );

    let file = env::current_exe().unwrap();
    let folder = file.parent().unwrap().to_owned();
    variables.insert("SLIPWAY_HELM", file.display().to_string());
    variables.insert("SLIPWAY_CHARTS", folder.display().to_string());
    let places = read(&helm, &variables).unwrap().helm;
    assert_eq!(
        places,
        Some(HelmPlaces {
            binary: file,
            charts: folder
        })
    );
}

#[test]
fn what_may_be_set_is_used() {
    let mut variables = deployed();
    for (name, value) in [
        (
            "SLIPWAY_CHART_HOSTS",
            "registry.example.com, http://10.0.0.1:5000",
        ),
        ("SLIPWAY_PLAIN_HTTP_HOSTS", "10.0.0.2:5000"),
        ("USE_PIPELINE_ORCHESTRATION", "False"),
        ("SLIPWAY_RETENTION_DAYS", "7"),
        ("SLIPWAY_IAM_ROLE", "deployer"),
        ("SLIPWAY_IAM_TENANT", "ops"),
        ("SLIPWAY_TENANT_CLAIM", "org"),
        ("SLIPWAY_ROLE_CLAIM", "cognito:groups"),
        ("SLIPWAY_MAX_RECEIVES", "3"),
        ("SLIPWAY_KMS_KEY", "alias/slipway"),
        ("SLIPWAY_REACH_LOOPBACK", "true"),
    ] {
        variables.insert(name, value.to_owned());
    }
    let settings = read(&function(), &variables).unwrap();
    assert_eq!(
        settings.app.chart_hosts,
        HostPolicy::parse("registry.example.com http://10.0.0.1:5000 http://10.0.0.2:5000").unwrap()
    );
    assert!(!settings.app.use_pipeline_orchestration);
    assert_eq!(settings.app.retention, Some(Duration::from_secs(7 * 86_400)));
    assert_eq!(settings.max_receives, 3);
    assert_eq!(settings.loopback, Loopback::Reachable);
    assert_eq!(settings.kms_key.as_deref(), Some("alias/slipway"));
    assert_eq!(
        settings.callers,
        Callers {
            tenant_claim: "org".to_owned(),
            role_claim: "cognito:groups".to_owned(),
            iam: Some(IamCallers {
                tenant: "ops".parse().unwrap(),
                role: Role::Deployer,
            }),
        }
    );
}
