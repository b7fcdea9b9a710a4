//! Ends that were decided, and of which only the first half was written: whoever comes next ends the job just so.

use slipway_model::{FailureKind, Job, JobStatus, Message, Queue};

use crate::{
    losing::{deploying, world},
    world::{World, admin},
};

/// Plays a job once for each write of its record, which the store then refuses, until there is no such write; `arrange`
/// says what goes wrong. Before the job is worked on again everything is well. Hands the ended job to `check` wherever it did
/// not succeed all the same.
async fn each_lost_end(arrange: impl AsyncFn(&World, &Message), check: impl Fn(usize, &Job)) {
    let mut held = 0;
    for others in 0.. {
        let world = world().await;
        let (_, message) = deploying(&world).await;
        let Message::Job { job, .. } = &message else {
            panic!("{message:?} is no job's")
        };
        arrange(&world, &message).await;
        world.flaky.refuse_put("j", others);
        let queue = Queue::DeployHelm;
        let died = world.app.handle(&queue, message.clone()).await.is_err();
        {
            // Whoever comes next would find all well.
            let mut cloud = world.cluster.cloud();
            cloud.broken.clear();
            cloud.failing.clear();
        }
        world.app.handle(&queue, message.clone()).await.unwrap();
        world.settle().await;
        let ended = world.app.job(&admin(), &job.to_string()).await.unwrap();
        assert!(ended.status.is_terminal(), "{others}: {ended:?}");
        // It succeeds only where nobody had found yet why it should not.
        if died && ended.status != JobStatus::Succeeded {
            held += 1;
            check(others, &ended);
        }
        let is_there = world.cluster.cloud().installed.contains_key("a");
        assert_eq!(
            is_there,
            ended.status == JobStatus::Succeeded,
            "{others}: {ended:?}"
        );
        if !died {
            break;
        }
    }
    assert!(held > 1, "ends were decided and not said {held} times");
}

#[tokio::test]
async fn what_was_made_is_taken_away_for_the_reason_that_was_found_first() {
    each_lost_end(
        async |world, _| {
            let broken = ("collect a".to_owned(), "it is not there".to_owned());
            world.cluster.cloud().broken.extend([broken]);
        },
        |others, ended| {
            assert_eq!(
                (ended.error_message.as_deref(), ended.failure_kind),
                (Some("it is not there"), Some(FailureKind::Permanent)),
                "{others}"
            );
        },
    )
    .await;
}

#[tokio::test]
async fn an_install_that_came_to_no_revision_says_why_too() {
    each_lost_end(
        async |world, _| {
            let mut cloud = world.cluster.cloud();
            cloud
                .hooks
                .insert("a pre-install".to_owned(), vec!["migrate".to_owned()]);
            cloud.failing.insert("migrate".to_owned());
        },
        |others, ended| {
            let why = ended.error_message.as_deref().unwrap_or_default();
            assert!(
                ended.status == JobStatus::Failed && why.contains("migrate"),
                "{others}: {ended:?}"
            );
        },
    )
    .await;
}
