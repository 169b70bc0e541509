//! Asking an HTTP proxy for a tunnel (RFC 9110, section 9.3.6).

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use super::Trouble;
use crate::Secret;

/// How much a proxy may say before its tunnel begins: what web servers commonly take of headers.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// How much of a proxy's reason is worth showing.
const REASON_CHARS_MAX: usize = 100;

/// A proxy's answer.
#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: String,
}

/// Asks for a tunnel to `target` (`host:port`), and reads nothing of what comes through it.
pub(super) async fn connect<S>(
    stream: &mut S,
    target: &str,
    authorization: Option<&Secret>,
) -> Result<Answer, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let authorization = match authorization {
        Some(basic) => format!("Proxy-Authorization: {}\r\n", basic.expose()),
        None => String::new(),
    };
    let request = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n{authorization}\r\n");
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    let mut room = HEAD_BYTES_MAX;
    loop {
        let head = read_head(stream, &mut room).await?;
        let answer = read_status(&head).ok_or(Trouble::Nonsense(""))?;
        // Interim answers (RFC 9110, section 15.2) stand before the one that counts.
        if !(100..200).contains(&answer.status) {
            return Ok(answer);
        }
    }
}

/// Reads as far as the empty line, byte by byte, because the destination's words begin right behind it.
async fn read_head<S>(stream: &mut S, room: &mut usize) -> Result<Vec<u8>, Trouble>
where
    S: AsyncRead + Unpin,
{
    let mut head = Vec::new();
    while !(head.ends_with(b"\r\n\r\n") || head.ends_with(b"\n\n")) {
        if *room == 0 {
            return Err(Trouble::TooLong(HEAD_BYTES_MAX));
        }
        *room -= 1;
        head.push(stream.read_u8().await?);
        if !may_begin_with(&head) {
            return Err(Trouble::Nonsense(match head.first() {
                // A TLS alert.
                Some(0x15) => " (it expects TLS: use https:// in its URL)",
                // A version of SOCKS.
                Some(0x04 | 0x05) => " (it speaks SOCKS: use socks5:// in its URL)",
                _ => "",
            }));
        }
    }
    Ok(head)
}

fn may_begin_with(head: &[u8]) -> bool {
    const BEGIN: &[u8] = b"HTTP/1.";
    let length = head.len().min(BEGIN.len());
    head.get(..length) == BEGIN.get(..length)
}

/// Reads `HTTP/1.1 200 Connection established`.
fn read_status(head: &[u8]) -> Option<Answer> {
    let line = head.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let (_version, rest) = line.trim_end().split_once(' ')?;
    let (status, reason) = rest.split_once(' ').unwrap_or((rest, ""));
    let is_status = status.len() == 3 && status.bytes().all(|byte| byte.is_ascii_digit());
    let status = status.parse().ok().filter(|_| is_status)?;
    let reason = reason.chars().filter(|c| !c.is_control());
    Some(Answer {
        status,
        reason: reason.take(REASON_CHARS_MAX).collect(),
    })
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use tokio::io::duplex;

    use super::*;

    /// What we say to a proxy, what we make of its answer, and what is left to read.
    fn ask(
        answer: &[u8],
        authorization: Option<&str>,
    ) -> (String, Result<Answer, Trouble>, String) {
        block_on(async {
            let (mut ours, mut theirs) = duplex(64 * 1024);
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            let secret = authorization.map(Secret::new);
            let result = connect(&mut ours, "c:4317", secret.as_ref()).await;
            let (mut left, mut said) = (Vec::new(), String::new());
            ours.read_to_end(&mut left).await.unwrap();
            drop(ours);
            theirs.read_to_string(&mut said).await.unwrap();
            (said, result, String::from_utf8_lossy(&left).into_owned())
        })
    }

    #[test]
    fn a_tunnel_is_asked_for_and_nothing_behind_the_answer_is_read() {
        let answer = b"HTTP/1.1 200 Connection established\r\nVia: p\r\n\r\nfirst words";
        let (said, result, left) = ask(answer, None);
        assert_eq!(said, "CONNECT c:4317 HTTP/1.1\r\nHost: c:4317\r\n\r\n");
        assert_eq!(result.unwrap().status, 200);
        assert_eq!(left, "first words");
    }

    #[test]
    fn credentials_go_along() {
        let (said, _, _) = ask(b"HTTP/1.0 200\n\n", Some("Basic eDp5"));
        assert!(said.contains("\r\nProxy-Authorization: Basic eDp5\r\n\r\n"));
    }

    #[test]
    fn the_answer_that_counts_is_told() {
        let refused = |status, reason: &str| Answer {
            status,
            reason: reason.into(),
        };
        let (_, result, _) = ask(b"HTTP/1.1 407 Who\x1b are you\r\n\r\n", None);
        assert_eq!(result.unwrap(), refused(407, "Who are you"));
        let (_, result, _) = ask(b"HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 502\r\n\r\n", None);
        assert_eq!(result.unwrap(), refused(502, ""));
        let long = format!("HTTP/1.1 500 {}\r\n\r\n", "x".repeat(1000));
        let (_, result, _) = ask(long.as_bytes(), None);
        assert_eq!(result.unwrap(), refused(500, &"x".repeat(REASON_CHARS_MAX)));
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_bounded() {
        for nonsense in [
            &b"SSH-2.0-OpenSSH"[..],
            b"HTTP/2 200\r\n\r\n",
            b"HTTP/1.1\r\n\r\n",
            b"HTTP/1.1 +20 x\r\n\r\n",
            b"HTTP/1.1 2000 x\r\n\r\n",
            b"\x15\x03\x01\x00\x02\x02",
            b"\x05\xff",
        ] {
            let (_, result, _) = ask(nonsense, None);
            assert!(matches!(result, Err(Trouble::Nonsense(_))), "{result:?}");
        }
        for short in [&b""[..], b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\n"] {
            let (_, result, _) = ask(short, None);
            assert!(matches!(result, Err(Trouble::Broken(_))), "{result:?}");
        }
        let endless = [&b"HTTP/1.1 200 OK\r\n"[..], &[b'x'; 2 * HEAD_BYTES_MAX]].concat();
        let (_, result, left) = ask(&endless, None);
        assert!(matches!(result, Err(Trouble::TooLong(_))), "{result:?}");
        assert_eq!(left.len(), endless.len() - HEAD_BYTES_MAX);
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(1000);
        let (_, result, _) = ask(&interim, None);
        assert!(matches!(result, Err(Trouble::TooLong(_))), "{result:?}");
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_us_panic(answer in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            drop(ask(&answer, None).1);
            let head = [b"HTTP/1.1 ", &answer[..], b"\r\n\r\n"].concat();
            drop(read_status(&head));
        }
    }
}
