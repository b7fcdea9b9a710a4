//! The ends of containers' logs, in whole lines: secrets are taken out of them later, and of one that lies across a cut
//! the rest would not be found.

use slipway_ports::TargetError;

use super::ClusterTarget;
use crate::{client::encode, readiness::LogRequest};

/// So many bytes of the end are kept of a longer log at least, and at most twice as many.
const KEPT: usize = 64 << 10;

/// Longer lines are parted by container runtimes, by some after 8 KiB, and nodes count the parts as lines.
const PART: usize = 8 << 10;

impl ClusterTarget {
    /// The last whole lines of a container's log, so many at most; none if it cannot be had (yet). Not the beginning of
    /// these lines, which is what a node answers that is given a limit in bytes.
    pub(super) async fn log_end(
        &self,
        request: &LogRequest,
        lines: usize,
    ) -> Result<Option<String>, TargetError> {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}/log?container={}&previous={}&tailLines={}",
            encode(&request.namespace),
            encode(&request.pod),
            encode(&request.container),
            request.previous,
            lines + 1,
        );
        let end = self.kubernetes.end_of_text(&path, KEPT).await?;
        Ok(end.map(|(text, is_cut)| whole_lines(&text, is_cut, lines)))
    }
}

/// What was read, without a line whose beginning may be missing: because the text was cut, or because one line more was
/// asked for than is wanted, and there may be more still.
fn whole_lines(text: &str, is_cut: bool, lines: usize) -> String {
    let entries: usize = text.lines().map(|line| 1 + line.len() / PART).sum();
    if !is_cut && entries <= lines {
        return text.to_owned();
    }
    match text.split_once('\n') {
        Some((_, rest)) if !rest.trim().is_empty() => rest.to_owned(),
        _ => format!("(its last line is longer than {} KiB)\n", text.len() >> 10),
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::client::Kubernetes;

    /// What a node answers: the last `tailLines` lines of a log, and of these the first `limitBytes`.
    fn answer(request: &str, log: &[u8]) -> Vec<u8> {
        let asked = |name: &str| -> Option<usize> {
            let (_, rest) = request.split_once(&format!("{name}="))?;
            rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
        };
        let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
        let first = lines
            .len()
            .saturating_sub(asked("tailLines").unwrap_or(usize::MAX));
        let mut text = lines[first..].concat();
        text.truncate(asked("limitBytes").unwrap_or(usize::MAX).min(text.len()));
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            text.len()
        );
        [head.into_bytes(), text].concat()
    }

    async fn serve(listener: TcpListener, log: Vec<u8>) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let request = request(&mut stream).await;
            stream.write_all(&answer(&request, &log)).await.unwrap();
        }
    }

    async fn request(stream: &mut TcpStream) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(stream.read_u8().await.unwrap());
        }
        String::from_utf8(bytes).unwrap()
    }

    /// What is read of a log.
    async fn read(log: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let kubeconfig = format!(
            "{{apiVersion: v1, kind: Config, current-context: c, contexts: [{{name: c, context: {{cluster: c, user: u}}}}], \
             clusters: [{{name: c, cluster: {{server: \"http://{}\"}}}}], users: [{{name: u, user: {{token: t}}}}]}}",
            listener.local_addr().unwrap()
        );
        let (kubernetes, kubeconfig) = Kubernetes::connect(&kubeconfig, None).unwrap();
        let target = ClusterTarget {
            helm: None,
            kubernetes,
            kubeconfig,
            gate: None,
        };
        let asked = LogRequest {
            namespace: "ns".to_owned(),
            pod: "web-1".to_owned(),
            container: "web".to_owned(),
            previous: false,
        };
        tokio::select! {
            () = serve(listener, log) => unreachable!("it serves on"),
            end = target.log_end(&asked, 40) => end.unwrap().unwrap(),
        }
    }

    #[tokio::test]
    async fn the_end_of_a_log_is_read_however_long_its_lines_are() {
        for length in [30, 300, 3_000] {
            let line = "x".repeat(length);
            let log = format!("{}fatal: the end\n", format!("{line}\n").repeat(60));
            let end = read(log.into_bytes()).await;
            assert!(
                end.ends_with(&format!("{line}\nfatal: the end\n")),
                "{length}: {} bytes",
                end.len()
            );
            assert!(end.len() <= 2 * KEPT);
        }
    }

    #[tokio::test]
    async fn what_is_no_text_hides_no_log() {
        // As a program writes that knows of no UTF-8.
        let end = read(b"caf\xe9\nfatal: the end\n".to_vec()).await;
        assert_eq!(end, "caf\u{fffd}\nfatal: the end\n");
    }

    #[test]
    fn a_line_whose_beginning_may_be_missing_is_left_out() {
        let lines = |count: usize| "line\n".repeat(count);
        assert_eq!(whole_lines(&lines(40), false, 40), lines(40), "the whole log");
        assert_eq!(
            whole_lines(&lines(41), false, 40),
            lines(40),
            "the first one may be a part"
        );
        assert_eq!(whole_lines(&lines(3), true, 40), lines(2));
        // 41 parts of lines.
        let long = format!("rest of one\n{}\nfatal", "x".repeat(39 * PART));
        assert!(whole_lines(&long, false, 40).starts_with("xxx"));
        let endless = "x".repeat(KEPT);
        assert_eq!(
            whole_lines(&endless, true, 40),
            "(its last line is longer than 64 KiB)\n"
        );
        assert_eq!(whole_lines("fatal", false, 40), "fatal");
        assert_eq!(whole_lines("", false, 40), "");
    }
}
