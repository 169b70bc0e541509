//! Listens on what `--admin` names.

use std::io;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::lookup_host;
use tokio::time::timeout;

/// How long finding the addresses of a name may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// Addresses of one name at most; `localhost` has two.
const ADDRESSES_MAX: usize = 4;

/// Holds sockets that listen; at least one.
#[derive(Debug)]
pub(super) struct Sockets {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// The address to show: that of IPv4 where there are several.
    pub(super) fn first(&self) -> SocketAddr {
        let first = self.addresses.first();
        *first.expect("made with at least one")
    }

    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(super) fn into_all(self) -> Vec<TcpListener> {
        self.listeners
    }
}

/// Listens on every address of `HOST:PORT`, so that `localhost` is found over IPv4 and IPv6.
///
/// # Errors
///
/// Words for the user.
pub(super) async fn bind(address: &str) -> Result<Sockets, String> {
    let (host, port) = parse(address)?;
    let found = find(host, port)
        .await
        .map_err(|e| cannot_listen(address, &e))?;
    let mut sockets = Sockets {
        listeners: Vec::new(),
        addresses: Vec::new(),
    };
    let mut not_here = None;
    for ip in found {
        // A free port that was taken for the first address is used for the others as well.
        let taken = sockets.addresses.first().map(SocketAddr::port);
        match listen(SocketAddr::new(ip, taken.unwrap_or(port))).await {
            Ok((listener, at)) => {
                sockets.listeners.push(listener);
                sockets.addresses.push(at);
            }
            // Many machines name an IPv6 address and have none.
            Err(error) if is_not_here(&error) => not_here = Some(error),
            // Nobody chose this port, so it does not matter who has it on the other address.
            Err(_) if port == 0 && taken.is_some() => {}
            Err(error) => return Err(cannot_listen(address, &error)),
        }
    }
    match not_here {
        Some(error) if sockets.listeners.is_empty() => Err(cannot_listen(address, &error)),
        _ => Ok(sockets),
    }
}

fn parse(address: &str) -> Result<(&str, u16), String> {
    let invalid = || {
        format!(
            "invalid --admin \"{address}\": use HOST:PORT, such as localhost:8888, or off for none"
        )
    };
    let (host, port) = address.rsplit_once(':').ok_or_else(invalid)?;
    let inside = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let host = match inside {
        Some(ipv6) => ipv6,
        None if host.contains(':') => return Err(invalid()),
        None => host,
    };
    let has_odd_characters = host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
    if host.is_empty() || has_odd_characters {
        return Err(invalid());
    }
    let port = port.parse().map_err(|_| invalid())?;
    Ok((host, port))
}

/// The addresses of a host, those of IPv4 first.
async fn find(host: &str, port: u16) -> io::Result<Vec<IpAddr>> {
    let found = timeout(LOOKUP_LIMIT, lookup_host((host, port)))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the name was not found in time"))??;
    let mut found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
    found.sort_unstable();
    found.dedup();
    found.truncate(ADDRESSES_MAX);
    match found.is_empty() {
        true => Err(io::Error::new(
            io::ErrorKind::NotFound,
            "the name has no address",
        )),
        false => Ok(found),
    }
}

async fn listen(address: SocketAddr) -> io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(address).await?;
    let at = listener.local_addr()?;
    Ok((listener, at))
}

fn is_not_here(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// Linux's number for an address family that the machine does not have; `std` has no kind for it.
const EAFNOSUPPORT: i32 = 97;

fn cannot_listen(address: &str, error: &io::Error) -> String {
    format!(
        "cannot listen on {address} for --admin: {error}; \
         name another address with --admin HOST:PORT, or --admin off for none"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port() {
        assert_eq!(parse("localhost:8888"), Ok(("localhost", 8888)));
        assert_eq!(parse("[::1]:0"), Ok(("::1", 0)));
        assert_eq!(parse("0.0.0.0:65535"), Ok(("0.0.0.0", 65535)));
        for wrong in [
            "",
            "on",
            "localhost",
            "localhost:",
            ":8888",
            "::1:8888",
            "localhost:65536",
            "localhost:-1",
            "http://localhost:8888",
            "user@localhost:8888",
            "local host:8888",
        ] {
            let error = parse(wrong).unwrap_err();
            assert!(error.contains(&format!("--admin \"{wrong}\"")), "{error}");
            assert!(error.contains("localhost:8888"), "{error}");
        }
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_an_error_that_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap().to_string();
        let error = bind(&address).await.unwrap_err();
        for part in [&address, "--admin HOST:PORT", "--admin off"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[tokio::test]
    async fn localhost_is_listened_on_over_ipv4_with_one_port_for_all() {
        let sockets = bind("localhost:0").await.unwrap();
        assert!(sockets.first().is_ipv4(), "{sockets:?}");
        assert_ne!(sockets.first().port(), 0);
        for address in sockets.addresses() {
            assert_eq!(address.port(), sockets.first().port());
            assert!(address.ip().is_loopback());
        }
        assert_eq!(sockets.addresses.len(), sockets.into_all().len());
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error() {
        let error = bind("192.0.2.1:0").await.unwrap_err();
        assert!(error.contains("cannot listen on 192.0.2.1:0"), "{error}");
    }
}
