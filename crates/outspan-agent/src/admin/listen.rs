//! Listens on what `--admin` names.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::address;
use crate::address::Unheard;

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

    /// Gives out the sockets for another runtime. They do not block.
    ///
    /// # Errors
    ///
    /// Returns an error if this runtime does not let go of one.
    pub(super) fn into_std(self) -> io::Result<Vec<std::net::TcpListener>> {
        self.listeners
            .into_iter()
            .map(TcpListener::into_std)
            .collect()
    }
}

/// Listens on every address of `HOST:PORT`, so that `localhost` is found over IPv4 and IPv6.
///
/// # Errors
///
/// Words for the user.
pub(super) async fn bind(address: &str) -> Result<Sockets, String> {
    let (host, port) = parse(address)?;
    let opened = address::open_each(host, port, |at| {
        let listener = address::listen(at)?;
        let at = listener.local_addr()?;
        Ok((listener, at))
    });
    let opened = opened.await.map_err(|unheard| match unheard {
        Unheard::Unknown(error) | Unheard::Closed(_, error) => cannot_listen(address, &error),
    })?;
    let (listeners, addresses) = opened.into_iter().unzip();
    Ok(Sockets {
        listeners,
        addresses,
    })
}

fn parse(address: &str) -> Result<(&str, u16), String> {
    let invalid = || {
        format!(
            "invalid --admin \"{address}\": use HOST:PORT, such as localhost:8888, or off for none"
        )
    };
    let (host, port) = address::host_and_port(address).map_err(|_| invalid())?;
    let has_odd_characters = host.contains(|c: char| c.is_whitespace() || "/@?#".contains(c));
    if host.is_empty() || has_odd_characters {
        return Err(invalid());
    }
    let port = port.ok_or_else(invalid)?;
    Ok((host, port))
}

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
        assert_eq!(sockets.addresses.len(), sockets.into_std().unwrap().len());
    }

    #[tokio::test]
    async fn an_address_of_another_machine_is_an_error() {
        let error = bind("192.0.2.1:0").await.unwrap_err();
        assert!(error.contains("cannot listen on 192.0.2.1:0"), "{error}");
    }
}
