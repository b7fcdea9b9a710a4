//! A stack: everything that the template declares, running.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::Arguments;
use crate::control::Control;
use crate::events::complain;
use crate::gateway::{Gateway, Issuer};
use crate::lambda::{Function, Machine};
use crate::part::{self, Parts};
use crate::proxy::{Calls, Faults, Proxy};
use crate::template::{FunctionDefinition, Template};
use crate::{clock, events, provision, schedule};

/// Who issues tokens, and whom for, unless somebody chooses otherwise.
const ISSUER: (&str, &str) = ("JwtIssuer", "https://aws-local.invalid");
const AUDIENCE: (&str, &str) = ("JwtAudience", "slipway");

/// How long what was received gets to be dealt with when this program is asked to end.
const GRACE: Duration = Duration::from_secs(10);

/// The tenant that the printed token is for.
const TENANT: &str = "local";

/// A stack whose resources exist.
#[derive(Debug)]
pub(crate) struct Stack {
    functions: Vec<Arc<Function>>,
    issuer: Arc<Issuer>,
    proxy: Arc<Proxy>,
    gateway: TcpListener,
    control: TcpListener,
    announcement: Value,
    stop: watch::Sender<bool>,
    sources: JoinSet<()>,
}

impl Stack {
    /// Makes what the template declares, and gets ready to serve.
    ///
    /// # Errors
    /// When something of it cannot be made on this machine: with its name.
    pub(crate) async fn start(arguments: Arguments) -> Result<Self> {
        check(&arguments)?;
        let logs = folder(&arguments.data.join("logs"))?;
        let parts = Parts {
            dynamodb: part::checked(&arguments.dynamodb)?,
            elasticmq: part::checked(&arguments.elasticmq)?,
            moto: part::checked(&arguments.moto)?,
            client: part::client(),
        };
        let parameters = with_defaults(arguments.parameters);
        let mut template = Template::read(&arguments.template, &arguments.name, &parameters)?;
        provision::provision(&mut template, &parts, arguments.visibility).await?;
        let proxy = Arc::new(Proxy {
            parts,
            calls: Calls::into_file(&arguments.data.join("calls.jsonl"))?,
            faults: Mutex::new(Faults::new(arguments.fail_percent, arguments.seed)),
        });
        let machine = Machine {
            programs: absolute(&arguments.functions)?,
            layers: absolute(&arguments.layers)?,
            logs,
            sandboxes: arguments.sandboxes,
            environment: arguments.environment,
        };
        let mut functions = Vec::new();
        for definition in template.functions()? {
            check_program(&machine, &definition)?;
            let endpoint = proxy.open(&definition.program).await?;
            functions.push(Function::new(definition, machine.clone(), endpoint));
        }
        let issuer = Arc::new(issuer(&template, &arguments.data)?);
        let gateway = TcpListener::bind(arguments.listen)
            .await
            .with_context(|| format!("cannot listen on {}", arguments.listen))?;
        let control = TcpListener::bind("127.0.0.1:0")
            .await
            .context("no free port for the controls")?;
        let announcement = json!({
            "url": format!("http://{}", gateway.local_addr()?),
            "control": format!("http://{}/control", control.local_addr()?),
            "token": issuer.token(Some(TENANT), Some("admin")),
        });
        // Written whole: whoever waits for it may read it at any moment.
        let file = arguments.data.join("stack.json");
        private_file(&file.with_extension("new"), &announcement.to_string())?;
        let (stop, stopped) = watch::channel(false);
        let sources = spawn_sources(&template, &functions, &proxy.parts, &stopped)?;
        if !arguments.no_schedule {
            for function in &functions {
                for period in &function.definition().schedule {
                    tokio::spawn(schedule::run(Arc::clone(function), *period));
                }
            }
        }
        fs::rename(file.with_extension("new"), &file)
            .with_context(|| format!("cannot put {} into place", file.display()))?;
        Ok(Self {
            functions,
            issuer,
            proxy,
            gateway,
            control,
            announcement,
            stop,
            sources,
        })
    }

    /// Where the API and the controls are, and a token for an administrator.
    pub(crate) fn announcement(&self) -> &Value {
        &self.announcement
    }

    /// Serves until this program is asked to end; what was received by then is dealt with, if that takes no longer than
    /// [`GRACE`].
    ///
    /// # Errors
    /// When a listener fails.
    pub(crate) async fn serve(mut self) -> Result<()> {
        let gateway = Gateway::new(&self.functions, Arc::clone(&self.issuer));
        let control = Control {
            functions: self.functions,
            issuer: self.issuer,
            proxy: self.proxy,
        };
        let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
        let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
        tokio::select! {
            ended = gateway.serve(self.gateway) => ended,
            ended = control.serve(self.control) => ended,
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
        }?;
        self.stop.send_replace(true);
        let ended = async { while self.sources.join_next().await.is_some() {} };
        if timeout(GRACE, ended).await.is_err() {
            complain(
                "some messages were still being dealt with; they come again after their visibility time-out",
            );
        }
        Ok(())
    }
}

fn check(arguments: &Arguments) -> Result<()> {
    if !arguments.listen.ip().is_loopback() {
        bail!(
            "{} is not a loopback address; this program is for one machine",
            arguments.listen
        );
    }
    let is_name = |name: &str| {
        name.len() <= 32
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name
                .chars()
                .all(|each| each.is_ascii_lowercase() || each.is_ascii_digit() || each == '-')
    };
    if !is_name(&arguments.name) {
        bail!(
            "`{}` is no name of a stack; use at most 32 small letters, digits and dashes, a letter first",
            arguments.name
        );
    }
    if !(0.0..=100.0).contains(&arguments.fail_percent) {
        bail!(
            "--fail-percent is {}, but it must be from 0 to 100",
            arguments.fail_percent
        );
    }
    Ok(())
}

/// What the template leaves to whoever deploys it, as it suits this machine.
fn with_defaults(mut parameters: Vec<(String, String)>) -> Vec<(String, String)> {
    for (name, value) in [ISSUER, AUDIENCE] {
        if !parameters.iter().any(|(given, _)| given == name) {
            parameters.push((name.to_owned(), value.to_owned()));
        }
    }
    parameters
}

fn check_program(machine: &Machine, definition: &FunctionDefinition) -> Result<()> {
    let program = machine.programs.join(&definition.program);
    if !program.is_file() {
        bail!(
            "{} is not there; build the package {}",
            program.display(),
            definition.program
        );
    }
    Ok(())
}

/// Starts a poller for each queue that a function gets messages of.
fn spawn_sources(
    template: &Template,
    functions: &[Arc<Function>],
    parts: &Parts,
    stop: &watch::Receiver<bool>,
) -> Result<JoinSet<()>> {
    let mut sources = JoinSet::new();
    let mut urls = BTreeMap::new();
    for (name, _) in template.resources("AWS::SQS::Queue")? {
        let physical = template.physical(&name)?;
        if let Some(arn) = physical.attributes.get("Arn") {
            urls.insert(arn.clone(), physical.reference.clone());
        }
    }
    for function in functions {
        for source in &function.definition().queues {
            let url = urls.get(&source.arn).with_context(|| {
                format!(
                    "{} listens to {}, which is no queue",
                    function.definition().name,
                    source.arn
                )
            })?;
            sources.spawn(events::poll(
                source.clone(),
                url.clone(),
                Arc::clone(function),
                parts.clone(),
                stop.clone(),
            ));
        }
    }
    Ok(sources)
}

/// The issuer of tokens. Its secret is kept, so that tokens stay good when this program is started again.
fn issuer(template: &Template, data: &Path) -> Result<Issuer> {
    let parameter = |name: &str| -> Result<String> {
        match template.resolve(&json!({"Ref": name}))? {
            Value::String(text) => Ok(text),
            Value::Array(texts) => Ok(texts
                .first()
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()),
            other => bail!("the parameter {name} is {other}, but a text is expected"),
        }
    };
    let file = data.join("token-secret");
    if !file.exists() {
        private_file(&file, &clock::random_hex(64))?;
    }
    let secret = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Issuer::new(
        secret,
        &parameter(ISSUER.0)?,
        &parameter(AUDIENCE.0)?,
        &parameter("TenantClaim")?,
        &parameter("RoleClaim")?,
    ))
}

fn folder(path: &Path) -> Result<PathBuf> {
    fs::create_dir_all(path).with_context(|| format!("cannot create {}", path.display()))?;
    absolute(path)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("{} is not there", path.display()))
}

/// Writes a file that only its owner can read.
fn private_file(path: &Path, text: &str) -> Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .with_context(|| format!("cannot write {}", path.display()))
}
