//! What each command does.

mod clusters;
mod dag;
mod dead_letters;
mod deploy;
mod deployments;
mod history;
mod lists;
mod looks;
mod plan;
mod run;
mod templates;

use clap::CommandFactory as _;
use serde_json::Value;

pub(crate) use clusters::RENDER_NOTE;
pub(crate) use deployments::{cluster_of, details as deployment_details, path as deployment_path};

use crate::{
    arguments::{Arguments, Command, TemplateCommand},
    client::Client,
    failure::{Exit, Failure},
    output::{self, Format},
    place, serve,
    watch::Aim,
};

/// A control plane, and how to show what it answers.
pub(crate) struct Session {
    pub(crate) client: Client,
    pub(crate) format: Format,
}

impl Session {
    /// Finds the control plane: `--url` and `--token`, their variables, or what `serve` left in the data folder.
    fn open(arguments: &Arguments) -> Result<Self, Failure> {
        let token = arguments.token.clone();
        let client = match &arguments.url {
            Some(url) => Client::of_address(url, token)?,
            None => Client::of_folder(place::data_folder(arguments.data.as_deref())?, token)?,
        };
        Ok(Self {
            client,
            format: arguments.output,
        })
    }

    /// Shows an answer: as it came, or as `text` makes it.
    pub(crate) fn show(
        &self,
        answer: &Value,
        text: impl FnOnce(&Value) -> Result<String, Failure>,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => output::say_json(answer),
            Format::Text => output::say(&text(answer)?),
        }
        Ok(())
    }
}

/// Does what the command line asks.
pub(crate) fn run(arguments: Arguments) -> Result<Exit, Failure> {
    match &arguments.command {
        Command::Serve(serve) => return serve::run(serve, arguments.data.as_deref()),
        Command::Template(TemplateCommand::Validate { files }) => {
            return templates::validate(files, arguments.output);
        }
        Command::Dag(command) => return dag::run(command, arguments.output),
        Command::Completions { shell } => {
            // Into memory first: the generator panics when its reader has gone away.
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Arguments::command(), "slipway", &mut script);
            output::say(&String::from_utf8_lossy(&script));
            return Ok(Exit::Done);
        }
        _ => {}
    }
    let session = Session::open(&arguments)?;
    match arguments.command {
        Command::Template(command) => templates::run(&session, command),
        Command::Deploy(deploy) => deploy::run(&session, &deploy),
        Command::Run(run) => run::run(&session, &run),
        Command::Plan(arguments) => plan::run(&session, &arguments),
        Command::Status(which) => deployments::status(&session, which.deployment.as_deref()),
        Command::Drift(which) => looks::drift(&session, &which.deployment),
        Command::Watch(which) => crate::watch::deployment(&session, &which.deployment, Aim::Settled),
        Command::Events(events) => history::events(&session, &events),
        Command::Logs(logs) => history::logs(&session, &logs),
        Command::Start(act) => deployments::act(&session, &act, "start", Aim::Running),
        Command::Stop(act) => deployments::act(&session, &act, "stop", Aim::Stopped),
        Command::Retry(act) => deployments::act(&session, &act, "retry", Aim::Settled),
        Command::Upgrade(upgrade) => deployments::upgrade(&session, &upgrade),
        Command::Rollback(rollback) => deployments::rollback(&session, &rollback),
        Command::Delete(delete) => deployments::delete(&session, &delete),
        Command::Cluster(command) => clusters::run(&session, command),
        Command::Catalog => lists::catalog(&session),
        Command::Actions => lists::actions(&session),
        Command::Approve(approve) => run::approve(&session, &approve),
        Command::Dlq(command) => dead_letters::run(&session, &command),
        Command::Serve(_) | Command::Dag(_) | Command::Completions { .. } => {
            unreachable!("dealt with above, because they need no control plane")
        }
    }
}
