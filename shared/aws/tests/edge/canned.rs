//! A server that gives the answers it was given.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What was asked: head and body as they came.
pub(crate) type Requests = Arc<Mutex<Vec<String>>>;

/// Status and body of an answer.
pub(crate) type Answer = (u16, String);

/// Answers each request with what `answer` says to it. Returns the address, and what was asked so far.
pub(crate) async fn serve(
    answer: impl Fn(&str) -> Answer + Clone + Send + Sync + 'static,
) -> (String, Requests) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let requests = Requests::default();
    let seen = Arc::clone(&requests);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, seen) = (answer.clone(), Arc::clone(&seen));
            tokio::spawn(async move { converse(stream, answer, &seen).await });
        }
    });
    (address, requests)
}

/// One connection; it ends when the client hangs up.
async fn converse(mut stream: TcpStream, answer: impl Fn(&str) -> Answer, seen: &Requests) {
    let mut read = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let (head, length) = loop {
            let text = String::from_utf8_lossy(&read);
            if let Some(end) = text.find("\r\n\r\n") {
                break (end + 4, content_length(&text[..end]));
            }
            match stream.read(&mut buffer).await {
                Ok(more @ 1..) => read.extend_from_slice(&buffer[..more]),
                _ => return,
            }
        };
        while read.len() < head + length {
            match stream.read(&mut buffer).await {
                Ok(more @ 1..) => read.extend_from_slice(&buffer[..more]),
                _ => return,
            }
        }
        let request: Vec<u8> = read.drain(..head + length).collect();
        let request = String::from_utf8(request).unwrap();
        let (status, body) = answer(&request);
        seen.lock().unwrap().push(request);
        let text = format!(
            "HTTP/1.1 {status} Canned\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        if stream.write_all(text.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn content_length(head: &str) -> usize {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .map_or(0, |(_, value)| value.trim().parse().unwrap())
}
