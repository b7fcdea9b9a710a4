//! `slipway dlq …`

use serde_json::{Value, json};
use slipway_app::{DeadLetterSummary, DeadLetterView};

use super::Session;
use crate::{
    arguments::{DeadLetterCommand, RedriveArguments},
    client::{encode, read},
    failure::{Exit, Failure},
    output::{Table, time},
};

/// Characters of a reason that its line shows; `slipway dlq show` has all of it.
const SHOWN: usize = 80;

pub(super) fn run(session: &Session, command: &DeadLetterCommand) -> Result<Exit, Failure> {
    match command {
        DeadLetterCommand::List { queue } => {
            let items = Value::Array(letters(session, queue.as_deref())?);
            session.show(&items, |items| Ok(list(&read::<Vec<DeadLetterSummary>>(items)?)))?;
        }
        DeadLetterCommand::Show { id, queue } => {
            let found = choose(&summaries(session, queue.as_deref())?, id)?;
            let answer = session.client.get(&path(&found))?;
            session.show(&answer, |answer| Ok(details(&read(answer)?)))?;
        }
        DeadLetterCommand::Redrive(which) => return redrive(session, which),
    }
    Ok(Exit::Done)
}

fn letters(session: &Session, queue: Option<&str>) -> Result<Vec<Value>, Failure> {
    let filter = queue.map(|queue| format!("?queue={}", encode(queue)));
    session
        .client
        .get_all(&format!("/dead-letters{}", filter.unwrap_or_default()))
}

fn summaries(session: &Session, queue: Option<&str>) -> Result<Vec<DeadLetterSummary>, Failure> {
    letters(session, queue)?.iter().map(read).collect()
}

fn path(letter: &DeadLetterSummary) -> String {
    format!("/dead-letters/{}/{}", encode(&letter.queue), encode(&letter.id))
}

/// The one of that id.
fn choose(letters: &[DeadLetterSummary], id: &str) -> Result<DeadLetterSummary, Failure> {
    let mut found = letters.iter().filter(|letter| letter.id == id);
    match (found.next(), found.next()) {
        (Some(letter), None) => Ok(letter.clone()),
        (Some(one), Some(other)) => Err(Failure::misuse(format!(
            "both {} and {} have a dead letter '{id}'",
            one.queue, other.queue
        ))
        .next("name the queue with --queue")),
        (None, _) => Err(Failure::misuse(format!("there is no dead letter '{id}'"))
            .next("list them with `slipway dlq list`")),
    }
}

fn redrive(session: &Session, which: &RedriveArguments) -> Result<Exit, Failure> {
    let there = summaries(session, which.queue.as_deref())?;
    let chosen = if which.all {
        there
    } else {
        let chosen = which.ids.iter().map(|id| choose(&there, id));
        chosen.collect::<Result<_, _>>()?
    };
    let mut done = Vec::new();
    let mut failed = None;
    for letter in &chosen {
        match session
            .client
            .post(&format!("{}/redrive", path(letter)), &json!({}))
        {
            Ok(answer) => done.push(answer),
            // One that somebody else has just put back does not keep the others.
            Err(failure) => {
                failed.get_or_insert(failure);
            }
        }
    }
    session.show(&Value::Array(done), |done| {
        let done: Vec<DeadLetterSummary> = read(done)?;
        Ok(put_back(&done))
    })?;
    failed.map_or(Ok(Exit::Done), Err)
}

fn list(letters: &[DeadLetterSummary]) -> String {
    let mut table = Table::new(["QUEUE", "ID", "SINCE", "ABOUT", "REASON"]);
    for letter in letters {
        let mut reason: String = letter.reason.chars().take(SHOWN).collect();
        if reason.len() < letter.reason.len() {
            reason.push('…');
        }
        table.row([
            letter.queue.clone(),
            letter.id.clone(),
            time(letter.at),
            letter.about.to_string(),
            reason,
        ]);
    }
    if table.is_empty() {
        return "no dead letters".to_owned();
    }
    table.to_string()
}

fn details(letter: &DeadLetterView) -> String {
    let DeadLetterSummary {
        id,
        queue,
        at,
        reason,
        about,
    } = &letter.summary;
    let tenant = about.tenant().map(|tenant| format!("\ntenant:  {tenant}"));
    // A body that is JSON is shown as people read it.
    let body = match serde_json::from_str::<Value>(&letter.body) {
        Ok(json) => format!("{json:#}"),
        Err(_) => letter.body.clone(),
    };
    format!(
        "id:      {id}\nqueue:   {queue}\nsince:   {}\nabout:   {about}{}\nreason:  {reason}\n\n{body}",
        time(*at),
        tenant.unwrap_or_default(),
    )
}

fn put_back(letters: &[DeadLetterSummary]) -> String {
    if letters.is_empty() {
        return "put no dead letter back".to_owned();
    }
    let lines: Vec<String> = letters
        .iter()
        .map(|letter| format!("put back {} on {}: {}", letter.id, letter.queue, letter.about))
        .collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(queue: &str, id: &str) -> DeadLetterSummary {
        serde_json::from_value(json!({
            "id": id, "queue": queue, "at": "2023-11-14T22:13:20.123Z", "reason": "it does not answer",
            "about": {"kind": "job", "tenant": "local", "job_id": "8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b"},
        }))
        .unwrap()
    }

    #[test]
    fn a_letter_is_chosen_by_id_and_only_if_one_alone_has_it() {
        let letters = [
            letter("plan-dag", "1"),
            letter("deploy-helm", "2"),
            letter("plan-dag", "2"),
        ];
        assert_eq!(choose(&letters, "1").unwrap().queue, "plan-dag");
        let two = choose(&letters, "2").unwrap_err().to_string();
        assert!(
            two.contains("deploy-helm and plan-dag") && two.contains("--queue"),
            "{two}"
        );
        let none = choose(&letters, "3").unwrap_err().to_string();
        assert!(none.contains("slipway dlq list"), "{none}");
    }

    #[test]
    fn lists_and_details_say_what_a_letter_is_about() {
        let mut long = letter("deploy-helm", "7");
        long.reason = "because ".repeat(40);
        let shown = list(std::slice::from_ref(&long));
        assert!(
            shown.contains("job 8f14e45f-ceea-467f-a0e6-2f6f0f1f4a1b"),
            "{shown}"
        );
        assert!(shown.contains("2023-11-14T22:13:20Z"), "{shown}");
        assert!(shown.contains('…') && shown.lines().count() == 2, "{shown}");
        assert_eq!(list(&[]), "no dead letters");
        let view = DeadLetterView {
            summary: long.clone(),
            body: "not {JSON".to_owned(),
        };
        let shown = details(&view);
        assert!(
            shown.contains(&long.reason) && shown.ends_with("\n\nnot {JSON"),
            "{shown}"
        );
        assert!(shown.contains("tenant:  local"), "{shown}");
        assert_eq!(put_back(&[]), "put no dead letter back");
    }
}
