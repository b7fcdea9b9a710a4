//! Lists, read to their ends, and queries that must be refused.

use std::{collections::BTreeSet, future::Future};

use slipway_app::{App, AppError, ListQuery, Page};

use super::caller;
use crate::{check::Invariant, world::Sim};

/// Reads a list to its end; the words that name its items. A list that stands still names none twice.
async fn to_the_end<T, F>(
    sim: &Sim,
    limit: usize,
    query: ListQuery,
    name: impl Fn(&T) -> String,
    ask: impl Fn(ListQuery) -> F,
) -> Result<String, AppError>
where
    F: Future<Output = Result<Page<T>, AppError>>,
{
    let mut names = BTreeSet::new();
    let mut cursor = None;
    let mut pages = 0;
    loop {
        let page = ask(ListQuery {
            cursor: cursor.take(),
            limit: Some(limit),
            ..query.clone()
        })
        .await?;
        pages += 1;
        if page.items.len() > limit {
            sim.world().violated(
                Invariant::ListsNameOnce,
                format_args!("a page of {limit} has {} items", page.items.len()),
            );
        }
        for item in &page.items {
            let name = name(item);
            if !names.insert(name.clone()) {
                sim.world().violated(
                    Invariant::ListsNameOnce,
                    format_args!("a list names {name} on two pages"),
                );
            }
        }
        match page.next_cursor {
            Some(next) if pages < 12 => cursor = Some(next),
            _ => return Ok(format!("{} on {pages} pages", names.len())),
        }
    }
}

pub(super) async fn list(
    sim: &Sim,
    app: &App,
    of: u32,
    limit: usize,
    query: ListQuery,
) -> Result<String, AppError> {
    let me = caller();
    let me = &me;
    match of {
        0 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Execution| one.id.to_string(),
                |query| async move { app.executions(me, &query).await },
            )
            .await
        }
        1 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Job| one.id.to_string(),
                |query| async move { app.jobs(me, &query).await },
            )
            .await
        }
        2 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Deployment| one.id.to_string(),
                |query| async move { app.deployments(me, &query).await },
            )
            .await
        }
        3 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Template| one.name.clone(),
                |query| async move { app.templates(me, &query).await },
            )
            .await
        }
        4 => {
            to_the_end(
                sim,
                limit,
                query,
                |one: &slipway_model::Cluster| one.id.to_string(),
                |query| async move { app.clusters(me, &query).await },
            )
            .await
        }
        _ => {
            let queue = match of {
                5 => None,
                6 => Some("execute-step"),
                _ => Some("nobodys"),
            };
            let name = |one: &slipway_app::DeadLetterSummary| format!("{}/{}", one.queue, one.id);
            to_the_end(sim, limit, query, name, |query| async move {
                app.dead_letters(me, queue, &query).await
            })
            .await
        }
    }
}

/// Asks for the first page of a list with a query that makes no sense.
pub(super) async fn bad_list(sim: &Sim, app: &App, of: u32, wrong: u32) -> Result<String, AppError> {
    let mut query = ListQuery::default();
    match wrong {
        0 => query.status = Some("no-status".to_owned()),
        1 => query.limit = Some(0),
        2 => query.limit = Some(1000),
        _ => query.cursor = Some("zz".to_owned()),
    }
    let me = caller();
    let is_refused = match of {
        0 => app.executions(&me, &query).await.is_err(),
        1 => app.jobs(&me, &query).await.is_err(),
        2 => app.deployments(&me, &query).await.is_err(),
        // What follows has no status.
        _ if wrong == 0 => return Ok("nothing is wrong with it".to_owned()),
        3 => app.templates(&me, &query).await.is_err(),
        4 => app.clusters(&me, &query).await.is_err(),
        _ => app.dead_letters(&me, None, &query).await.is_err(),
    };
    if !is_refused {
        sim.world().violated(
            Invariant::NonsenseIsRefused,
            format_args!("list {of} answers {query:?}"),
        );
    }
    Ok("refused".to_owned())
}
