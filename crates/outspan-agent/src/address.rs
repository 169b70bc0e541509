//! Addresses to listen on: how they are written, found and opened.

use std::fmt;
use std::io;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// How long finding the addresses of a name may take.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);

/// How many connections the kernel keeps for us until we take them; more than a fleet opens at once after a restart.
const BACKLOG: u32 = 1024;

/// Says why an address is not listened on.
#[derive(Debug)]
pub(crate) enum Unheard {
    /// The host's addresses are not known.
    Unknown(io::Error),
    /// This one cannot be opened.
    Closed(SocketAddr, io::Error),
}

/// Opens every address of a host, those of IPv4 first.
///
/// `localhost` is 127.0.0.1 and, where this machine has it, ::1. With port 0 only the first address is opened, so that
/// there is one port to tell.
///
/// # Errors
///
/// Which address it is, and why. Those that this machine does not have are passed over behind one that it has.
pub(crate) async fn open_each<S>(
    host: &str,
    port: u16,
    open: impl Fn(SocketAddr) -> io::Result<S>,
) -> Result<Vec<S>, Unheard> {
    let addresses = addresses(host, port).await.map_err(Unheard::Unknown)?;
    let mut opened = Vec::new();
    for (position, address) in addresses.into_iter().enumerate() {
        match open(address) {
            Ok(socket) => opened.push(socket),
            Err(error) if position > 0 && is_absent(&error) => {}
            Err(error) => return Err(Unheard::Closed(address, error)),
        }
    }
    Ok(opened)
}

/// Listens for connections.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    // Lets a new agent listen while connections of the one before it are still remembered. Elsewhere than on Unix it
    // would let two agents listen at the same time.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// The addresses of a host, at least one.
async fn addresses(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = match host.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) if host.eq_ignore_ascii_case("localhost") => vec![
            SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
            SocketAddr::new(Ipv6Addr::LOCALHOST.into(), port),
        ],
        Err(_) => {
            let found = timeout(LOOKUP_LIMIT, tokio::net::lookup_host((host, port))).await;
            let late = |_| io::Error::new(ErrorKind::TimedOut, "the name was not found in time");
            found.map_err(late)??.collect()
        }
    };
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if port == 0 {
        addresses.truncate(1);
    }
    match addresses.is_empty() {
        true => Err(io::Error::new(
            ErrorKind::NotFound,
            "the name has no address",
        )),
        false => Ok(addresses),
    }
}

/// Whether the error means that this machine does not have the address, rather than that somebody else has it.
fn is_absent(error: &io::Error) -> bool {
    !matches!(
        error.kind(),
        ErrorKind::AddrInUse | ErrorKind::PermissionDenied
    )
}

/// Takes `HOST` or `HOST:PORT` apart. An IPv6 address loses its brackets.
///
/// # Errors
///
/// Words for the user.
pub(crate) fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), String> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or("the bracket of the IPv6 address is not closed, as in grpc://[::1]:4317")?;
            if host.parse::<Ipv6Addr>().is_err() {
                return Err(format!("\"{host}\" is no IPv6 address"));
            }
            (
                host,
                after
                    .strip_prefix(':')
                    .or((!after.is_empty()).then_some(after)),
            )
        }
        None => match authority.split_once(':') {
            Some((_, port)) if port.contains(':') => {
                return Err(format!(
                    "an IPv6 address stands in brackets, as in grpc://[{authority}]"
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        Some(port) => Some(port.parse().map_err(|_| {
            format!("invalid port \"{port}\": use 1 to 65535, or 0 for one that is free")
        })?),
        None => None,
    };
    Ok((host, port))
}

/// Shows a host as it stands in a URL.
pub(crate) struct Bracketed<'a>(pub(crate) &'a str);

impl fmt::Display for Bracketed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.contains(':') {
            true => write!(f, "[{}]", self.0),
            false => f.write_str(self.0),
        }
    }
}
