//! Asking a SOCKS5 proxy for a tunnel (RFC 1928), with user and password where it wants them (RFC 1929).

use std::io;
use std::net::IpAddr;

use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use super::Trouble;
use crate::net::resolver::Resolver;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;

/// Where the tunnel is to lead.
#[derive(Debug, PartialEq)]
pub(super) struct Target {
    /// The type of the address, the address, the port: as they are written (RFC 1928, section 4).
    bytes: Vec<u8>,
}

impl Target {
    /// Names the destination; by its address where there is a resolver, otherwise by its name.
    pub(super) async fn find(
        host: &str,
        port: u16,
        looks_up: Option<&Resolver>,
    ) -> io::Result<Self> {
        if let Ok(address) = host.parse() {
            return Ok(Self::at(address, port));
        }
        let Some(resolver) = looks_up else {
            return Self::named(host, port);
        };
        let addresses = Vec::from_iter(resolver.addresses(host).await?);
        // A proxy takes one address and tries no second, and more of them reach IPv4.
        let best = addresses.iter().find(|address| address.is_ipv4());
        let best = best.or(addresses.first());
        best.map(|address| Self::at(address.ip(), port))
            .ok_or_else(|| io::Error::other("the name has no address"))
    }

    fn at(address: IpAddr, port: u16) -> Self {
        let mut bytes = Vec::new();
        match address {
            IpAddr::V4(address) => {
                bytes.push(1);
                bytes.extend(address.octets());
            }
            IpAddr::V6(address) => {
                bytes.push(4);
                bytes.extend(address.octets());
            }
        }
        bytes.extend(port.to_be_bytes());
        Self { bytes }
    }

    fn named(host: &str, port: u16) -> io::Result<Self> {
        let length = u8::try_from(host.len())
            .map_err(|_| io::Error::other("SOCKS5 takes names of at most 255 bytes"))?;
        let mut bytes = vec![3, length];
        bytes.extend(host.bytes());
        bytes.extend(port.to_be_bytes());
        Ok(Self { bytes })
    }
}

/// A proxy's answer.
#[derive(Debug, PartialEq)]
pub(super) enum Answer {
    Open,
    /// It accepts none of our ways to authenticate.
    NoMethod,
    WrongPassword,
    Refused(u8),
}

/// Asks for a tunnel, and reads nothing of what comes through it.
pub(super) async fn connect<S>(
    stream: &mut S,
    target: &Target,
    credentials: Option<&(Vec<u8>, Vec<u8>)>,
) -> Result<Answer, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let methods: &[u8] = match credentials {
        None => &[VERSION, 1, NO_AUTHENTICATION],
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
    };
    stream.write_all(methods).await?;
    stream.flush().await?;
    let [version, method] = read(stream).await?;
    if version != VERSION {
        return Err(Trouble::Nonsense(match version {
            b'H' => " (it speaks HTTP: use http:// in its URL)",
            _ => "",
        }));
    }
    match (method, credentials) {
        (NO_AUTHENTICATION, _) => {}
        (USER_AND_PASSWORD, Some((user, password))) => {
            if !authenticate(stream, user, password).await? {
                return Ok(Answer::WrongPassword);
            }
        }
        (NO_METHOD, _) => return Ok(Answer::NoMethod),
        _ => return Err(Trouble::Nonsense("")),
    }
    let request = [&[VERSION, CONNECT, 0], target.bytes.as_slice()].concat();
    stream.write_all(&request).await?;
    stream.flush().await?;
    read_reply(stream).await
}

/// Whether user and password are right.
async fn authenticate<S>(stream: &mut S, user: &[u8], password: &[u8]) -> Result<bool, Trouble>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut request = vec![1];
    for part in [user, password] {
        // Checked when the URL was taken apart.
        let length = u8::try_from(part.len()).map_err(io::Error::other)?;
        request.push(length);
        request.extend(part);
    }
    stream.write_all(&request).await?;
    stream.flush().await?;
    // Some proxies write SOCKS's version here, not the negotiation's.
    let [_version, status] = read(stream).await?;
    Ok(status == 0)
}

async fn read_reply<S>(stream: &mut S) -> Result<Answer, Trouble>
where
    S: AsyncRead + Unpin,
{
    let [version, reply, _reserved] = read(stream).await?;
    if version != VERSION {
        return Err(Trouble::Nonsense(""));
    }
    if reply != 0 {
        return Ok(Answer::Refused(reply));
    }
    // The address it connects from is of no use to us, but stands before the first byte of the destination's.
    let [address_type] = read(stream).await?;
    let length = match address_type {
        1 => 4,
        4 => 16,
        3 => {
            let [length] = read(stream).await?;
            usize::from(length)
        }
        _ => return Err(Trouble::Nonsense("")),
    };
    let mut address_and_port = vec![0; length + 2];
    stream.read_exact(&mut address_and_port).await?;
    Ok(Answer::Open)
}

async fn read<S, const N: usize>(stream: &mut S) -> io::Result<[u8; N]>
where
    S: AsyncRead + Unpin,
{
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// What a reply means (RFC 1928, section 6).
pub(super) fn reply_words(reply: u8) -> &'static str {
    match reply {
        1 => "general failure",
        2 => "its rules do not allow it",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused by the destination",
        6 => "time to live expired",
        7 => "command not supported",
        8 => "address type not supported",
        _ => "a reply that SOCKS5 does not know",
    }
}

#[cfg(test)]
mod tests {
    use futures_executor::block_on;
    use tokio::io::duplex;

    use super::*;

    const ADDRESS: &[u8] = &[1, 127, 0, 0, 1, 0, 80];

    fn ask(
        answer: &[u8],
        credentials: Option<(&str, &str)>,
    ) -> (Vec<u8>, Result<Answer, Trouble>, Vec<u8>) {
        let credentials = credentials.map(|(user, password)| (user.into(), password.into()));
        block_on(async {
            let target = Target::find("c", 4317, None).await.unwrap();
            let (mut ours, mut theirs) = duplex(4096);
            theirs.write_all(answer).await.unwrap();
            theirs.shutdown().await.unwrap();
            let result = connect(&mut ours, &target, credentials.as_ref()).await;
            let (mut left, mut said) = (Vec::new(), Vec::new());
            ours.read_to_end(&mut left).await.unwrap();
            drop(ours);
            theirs.read_to_end(&mut said).await.unwrap();
            (said, result, left)
        })
    }

    #[test]
    fn a_tunnel_is_asked_for_and_nothing_behind_the_answer_is_read() {
        let answer = [&[5, 0, 5, 0, 0], ADDRESS, b"first words"].concat();
        let (said, result, left) = ask(&answer, None);
        assert_eq!(said, b"\x05\x01\x00\x05\x01\x00\x03\x01c\x10\xdd");
        assert_eq!(result.unwrap(), Answer::Open);
        assert_eq!(left, b"first words");
    }

    #[test]
    fn the_proxy_s_address_may_have_any_form() {
        let v6 = [&[4][..], &[0; 18]].concat();
        for address in [ADDRESS, &v6, &[3, 2, b'p', b'q', 0, 1]] {
            let answer = [&[5, 0, 5, 0, 0], address, b"x"].concat();
            let (_, result, left) = ask(&answer, None);
            assert_eq!((result.unwrap(), left), (Answer::Open, b"x".to_vec()));
        }
    }

    #[test]
    fn each_reply_has_words_of_its_own() {
        let words: Vec<_> = (0..=9).map(reply_words).collect();
        let known = [
            "failure",
            "rules",
            "network unreachable",
            "host unreachable",
            "refused",
            "time to live",
            "command",
            "address type",
        ];
        for (reply, known) in (1..).zip(known) {
            assert!(words[reply].contains(known), "{reply}: {}", words[reply]);
        }
        assert!(words[0].contains("does not know") && words[9] == words[0]);
    }

    #[test]
    fn user_and_password_are_given_when_asked_for() {
        let answer = [&[5, 2, 1, 0, 5, 0, 0], ADDRESS].concat();
        let (said, result, _) = ask(&answer, Some(("me", "pass")));
        assert!(
            said.starts_with(b"\x05\x02\x00\x02\x01\x02me\x04pass\x05\x01"),
            "{said:?}"
        );
        assert_eq!(result.unwrap(), Answer::Open);
        let (said, _, _) = ask(&[5, 0, 5, 5, 0], Some(("me", "pass")));
        assert!(!said.windows(4).any(|window| window == b"pass"));
    }

    #[test]
    fn refusals_are_told_apart() {
        let me = Some(("me", "pass"));
        assert_eq!(ask(&[5, 255], None).1.unwrap(), Answer::NoMethod);
        assert_eq!(ask(&[5, 2, 1, 1], me).1.unwrap(), Answer::WrongPassword);
        assert_eq!(ask(&[5, 0, 5, 5, 0], None).1.unwrap(), Answer::Refused(5));
        for nonsense in [
            &[4, 0][..],
            b"HTTP/1.1 400",
            &[5, 1],
            &[5, 2],
            &[5, 0, 4, 0, 0],
            &[5, 0, 5, 0, 0, 9],
        ] {
            let result = ask(nonsense, None).1;
            assert!(matches!(result, Err(Trouble::Nonsense(_))), "{result:?}");
        }
        for short in [&[][..], &[5], &[5, 0], &[5, 0, 5, 0, 0, 1, 127]] {
            let result = ask(short, None).1;
            assert!(matches!(result, Err(Trouble::Broken(_))), "{result:?}");
        }
    }

    #[test]
    fn names_are_looked_up_here_or_there() {
        let resolver = Resolver::new();
        let find = |host: &str, looks_up| block_on(Target::find(host, 80, looks_up));
        assert_eq!(find("::1", None).unwrap().bytes[..2], [4, 0]);
        assert_eq!(
            find("10.0.0.1", None).unwrap().bytes,
            [1, 10, 0, 0, 1, 0, 80]
        );
        assert_eq!(find("localhost", None).unwrap().bytes[..3], [3, 9, b'l']);
        let local = find("localhost", Some(&resolver)).unwrap();
        assert_eq!(local.bytes, [1, 127, 0, 0, 1, 0, 80]);
        assert!(find("no\0name", Some(&resolver)).is_err());
        assert!(find(&"x".repeat(256), None).is_err());
    }
}
