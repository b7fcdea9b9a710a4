//! The history of a deployment as a stream.

use serde_json::{Value, json};
use slipway_tests::{Server, Template, text};

#[test]
fn a_stream_goes_on_where_the_last_one_ended() {
    let mut server = Server::start();
    server.add_render();
    server.publish(&Template::named("watched").helm("agent", "charts/agent-runtime", &json!({})));
    let _ = server.create("watched", "local");
    let mut stream = server.stream("/deployments/watched/events", None);
    let (first, entry) = stream.next_event();
    assert_eq!(entry["type"], "created", "{entry}");
    assert_eq!(text(&entry, "id"), first);
    // What happens from now on comes over the open stream.
    server.begin("watched");
    let mut live = vec![];
    while live
        .last()
        .is_none_or(|(_, entry): &(String, Value)| entry["type"] != "workflow_completed")
    {
        live.push(stream.next_event());
    }
    drop(stream);
    let _ = server.running("watched", 60);

    // Another one goes on in the middle, and says the same.
    let middle = live.len() / 2;
    let mut stream = server.stream("/deployments/watched/events", Some(&live[middle].0));
    for expected in &live[middle + 1..] {
        assert_eq!(&stream.next_event(), expected);
    }
    drop(stream);
    let page = server
        .get(&format!("/deployments/watched/events?cursor={first}&limit=3"))
        .expect(200);
    let page: Vec<Value> = page["items"].as_array().unwrap().clone();
    let expected: Vec<Value> = live[..3].iter().map(|(_, entry)| entry.clone()).collect();
    assert_eq!(page, expected);

    let strange = server
        .call(
            "GET",
            "/deployments/watched/events",
            &[("last-event-id", "zzz")],
            None,
        )
        .unwrap();
    assert!([200, 400].contains(&strange.status), "{}", strange.text);
    let _ = server.get("/deployments/nobody/events").expect_problem(404);
    // Open streams do not keep it from ending.
    let stream = server.stream("/deployments/watched/events", None);
    server.stop();
    drop(stream);
}
