//! Calls to the outside, against a server of canned answers.

#![expect(clippy::unwrap_used, reason = "what tests share fails as tests do")]

use std::{collections::BTreeMap, error::Error, time::Duration};

use slipway_outside::{HttpOutside, Loopback};
use slipway_ports::{HttpCall, Outside, OutsideError, SecretString};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::oneshot,
};

/// Answers one connection with `answer`, and tells what it was asked. Without an answer it holds the connection.
async fn serve(answer: Option<Vec<u8>>) -> (String, oneshot::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (tell, told) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let mut buffer = [0; 4096];
        // Every call in these tests either has no body or one that ends with a full stop.
        while !request.ends_with(b"\r\n\r\n") && !request.ends_with(b".") {
            let length = stream.read(&mut buffer).await.unwrap();
            assert!(length > 0, "the caller went away");
            request.extend_from_slice(&buffer[..length]);
        }
        let _ = tell.send(String::from_utf8(request).unwrap());
        match answer {
            // The caller may hang up before it has read everything.
            Some(answer) => drop(stream.write_all(&answer).await),
            None => drop(stream.read(&mut buffer).await),
        }
    });
    (address, told)
}

fn call(url: &str) -> HttpCall {
    HttpCall {
        method: "GET".to_owned(),
        url: url.into(),
        headers: BTreeMap::new(),
        body: None,
        timeout: Duration::from_secs(20),
    }
}

async fn refusal(call: HttpCall) -> String {
    let answer = HttpOutside::new(Loopback::Reachable).unwrap().http(call).await;
    match answer.unwrap_err() {
        OutsideError::Refused(reason) => reason,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// Everything that an error would print anywhere.
fn text(error: &OutsideError) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}

#[tokio::test]
async fn method_headers_and_body_arrive_and_any_status_is_an_answer() {
    let answer = "HTTP/1.1 503 Busy\r\nX-Trace: 1\r\nX-Trace: 2\r\nContent-Length: 5\r\n\r\nlater";
    let (address, told) = serve(Some(answer.into())).await;
    let mut call = call(&format!("http://{address}/hook/T0/secret?x=1"));
    call.method = "POST".to_owned();
    call.headers = BTreeMap::from([("X-Token".to_owned(), SecretString::from("abc"))]);
    call.body = Some("Hello.".into());
    let answer = HttpOutside::new(Loopback::Reachable)
        .unwrap()
        .http(call)
        .await
        .unwrap();
    assert_eq!((answer.status, answer.body.as_str()), (503, "later"));
    assert_eq!(answer.headers["x-trace"], "1, 2");
    let request = told.await.unwrap();
    assert!(
        request.starts_with("POST /hook/T0/secret?x=1 HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(request.contains("\r\nx-token: abc\r\n"), "{request}");
    assert!(request.ends_with("\r\n\r\nHello."), "{request}");
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let answer = "HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/latest\r\nContent-Length: 0\r\n\r\n";
    let (address, _told) = serve(Some(answer.into())).await;
    let outside = HttpOutside::new(Loopback::Reachable).unwrap();
    let answer = outside.http(call(&format!("http://{address}/"))).await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.headers["location"], "http://169.254.169.254/latest");
}

#[tokio::test]
async fn a_long_body_is_cut_at_64_kib_between_characters() {
    // Three bytes each, and 65,536 is not a multiple of three.
    let mut answer = b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n".to_vec();
    answer.extend("€".repeat(100_000).into_bytes());
    let (address, _told) = serve(Some(answer)).await;
    let outside = HttpOutside::new(Loopback::Reachable).unwrap();
    let answer = outside.http(call(&format!("http://{address}/"))).await.unwrap();
    assert!(
        answer.body.len() > 65_530 && answer.body.len() <= 65_536,
        "{}",
        answer.body.len()
    );
    assert!(answer.body.chars().rev().skip(1).all(|c| c == '€'));
}

#[tokio::test]
async fn who_does_not_answer_in_time_is_named_without_the_secret() {
    let (address, _told) = serve(None).await;
    let mut slow = call(&format!("http://{address}/hook/s3cret"));
    slow.timeout = Duration::from_millis(100);
    let error = HttpOutside::new(Loopback::Reachable)
        .unwrap()
        .http(slow)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, OutsideError::NoAnswer { host, .. } if *host == address),
        "{error:?}"
    );
    assert!(!text(&error).contains("s3cret"), "{}", text(&error));
}

#[tokio::test]
async fn who_refuses_the_connection_is_named_without_the_secret() {
    let address = {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        listener.local_addr().unwrap().to_string()
    };
    let outside = HttpOutside::new(Loopback::Reachable).unwrap();
    let error = outside
        .http(call(&format!("http://{address}/s3cret")))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, OutsideError::NoAnswer { host, .. } if *host == address),
        "{error:?}"
    );
    assert!(!text(&error).contains("s3cret"), "{}", text(&error));
}

#[tokio::test]
async fn metadata_services_cannot_be_reached() {
    for url in [
        "http://169.254.169.254/latest/meta-data/",
        "http://169.254.170.2/v2/credentials",
        "http://2852039166/",
        "http://0xa9fea9fe/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://[::ffff:169.254.169.254]/",
    ] {
        let reason = refusal(call(url)).await;
        assert!(
            reason.contains("link-local or metadata address"),
            "{url}: {reason}"
        );
    }
}

#[tokio::test]
async fn the_machine_itself_cannot_be_reached_where_that_is_refused_not_even_by_name() {
    let (address, told) = serve(Some(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())).await;
    let port = address.rsplit(':').next().unwrap();
    let outside = HttpOutside::new(Loopback::Refused).unwrap();
    for host in [
        "127.0.0.1",
        "localhost",
        "0.0.0.0",
        "2130706433",
        "[::ffff:127.0.0.1]",
    ] {
        let error = outside
            .http(call(&format!("http://{host}:{port}/")))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, OutsideError::Refused(reason) if reason.contains("loopback address")),
            "{host}: {error}"
        );
    }
    drop(outside);
    assert!(told.is_empty(), "nothing was sent");
}

#[tokio::test]
async fn what_is_no_http_call_is_refused_without_the_secret() {
    for url in [
        "ftp://host/s3cret",
        "/relative/s3cret",
        "s3cret",
        "file:///etc/s3cret",
        "http://",
    ] {
        let reason = refusal(call(url)).await;
        assert!(reason.contains("expected an absolute URL"), "{url}: {reason}");
        assert!(!reason.contains("s3cret"), "{reason}");
    }
    let mut bad_method = call("http://127.0.0.1/");
    bad_method.method = "G E T".to_owned();
    assert!(
        refusal(bad_method)
            .await
            .contains("'G E T' is not an HTTP method")
    );

    let mut bad_header = call("http://127.0.0.1/");
    bad_header.headers = BTreeMap::from([("X-Token".to_owned(), SecretString::from("s3cret\r\nHost: x"))]);
    let reason = refusal(bad_header).await;
    assert!(
        reason.contains("'X-Token'") && !reason.contains("s3cret"),
        "{reason}"
    );
}

#[tokio::test]
async fn there_is_no_sns() {
    let outside = HttpOutside::new(Loopback::Reachable).unwrap();
    let error = outside
        .publish("arn:aws:sns:eu-central-1:1:t", "s", "m")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, OutsideError::Refused(reason) if reason.contains("use a webhook channel")),
        "{error}"
    );
}
