//! Where an agent is: a host and a port, and the addresses that the host has just now.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::net::Ipv6Addr;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::Deadline;
use crate::Error;
use crate::Result;
use crate::net::Resolver;
use crate::net::without_credentials;

/// How long an export waits for a fresh address while it has one that failed.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long after a question the next may be asked because an address failed.
const QUESTIONS_APART: Duration = Duration::from_secs(1);

/// Where an agent is for people: `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    host: String,
    port: u16,
}

impl Address {
    pub(super) fn parse(text: &str, default_port: u16) -> Result<Self> {
        let invalid = |why: &str| {
            let shown = without_credentials(text);
            Error::config(format!("invalid agent address \"{shown}\": {why}"))
        };
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || "/@?#\"".contains(c);
        if text.contains(is_odd) {
            return Err(invalid("write host:port, such as localhost:6831"));
        }
        let (host, port) = parts_of(text).map_err(invalid)?;
        let port = match port {
            None => default_port,
            Some(port) => port.parse().unwrap_or(0),
        };
        if port == 0 {
            return Err(invalid("the port must be a number from 1 to 65535"));
        }
        if host.is_empty() {
            return Err(invalid("the host is missing, write host:port"));
        }
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The address itself, where it is written as numbers.
    fn literal(&self) -> Option<SocketAddr> {
        let ip: IpAddr = self.host.parse().ok()?;
        Some(SocketAddr::new(ip, self.port))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

/// Divides `host:port`, `[v6]:port`, or either without a port.
fn parts_of(text: &str) -> Result<(&str, Option<&str>), &'static str> {
    const BRACKETS: &str = "write IPv6 addresses as [::1]:6831";

    let is_v6 = |host: &str| {
        let numbers = host
            .split_once('%')
            .map_or(host, |(numbers, _zone)| numbers);
        numbers.parse::<Ipv6Addr>().is_ok()
    };
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(BRACKETS)?;
        return match (is_v6(host), port.strip_prefix(':')) {
            (true, Some(port)) => Ok((host, Some(port))),
            (true, None) if port.is_empty() => Ok((host, None)),
            _ => Err(BRACKETS),
        };
    }
    if is_v6(text) {
        return Ok((text, None));
    }
    match text.split_once(':') {
        Some((_, port)) if port.contains(':') => Err(BRACKETS),
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((text, None)),
    }
}

/// Finds the addresses of a host; their ports mean nothing.
pub(super) trait Lookup: fmt::Debug + Send + Sync + 'static {
    fn ask(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>>;
}

impl Lookup for Resolver {
    fn ask(&self, host: &str) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> {
        let resolver = self.clone();
        let host = host.to_owned();
        Box::pin(async move { Ok(resolver.addresses(&host).await?.collect()) })
    }
}

/// Knows the addresses of an agent, and asks for them again from time to time.
pub(super) struct Whereabouts {
    address: Address,
    lookup: Box<dyn Lookup>,
    interval: Duration,
    known: Vec<SocketAddr>,
    current: usize,
    asked_at: Option<Instant>,
    question: Option<BoxFuture<'static, io::Result<Vec<SocketAddr>>>>,
    is_doubted: bool,
}

impl Whereabouts {
    pub(super) fn new(address: Address, lookup: Box<dyn Lookup>, interval: Duration) -> Self {
        Self {
            known: address.literal().into_iter().collect(),
            address,
            lookup,
            interval,
            current: 0,
            asked_at: None,
            question: None,
            is_doubted: false,
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// How many addresses are known.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// Turns to the next address, after the last to the first.
    pub(super) fn turn_to_next(&mut self) {
        self.current = (self.current + 1) % self.known.len().max(1);
    }

    /// Notes that the addresses may be wrong by now.
    pub(super) fn doubt(&mut self) {
        self.is_doubted = true;
    }

    /// The address to send to.
    ///
    /// Only where none is known, or where it failed, does this wait for an answer; otherwise a new address is used as soon
    /// as it is there.
    ///
    /// # Errors
    ///
    /// [`Unavailable`](crate::ErrorKind::Unavailable) or [`Timeout`](crate::ErrorKind::Timeout) when the host has never had an
    /// address.
    ///
    /// # Cancellation
    ///
    /// The question stays asked, and the next call takes the answer.
    pub(super) async fn current(&mut self, until: Deadline) -> Result<SocketAddr> {
        if self.question.is_none() && self.should_ask() {
            self.question = Some(self.lookup.ask(&self.address.host));
            self.asked_at = Some(Instant::now());
        }
        let is_known = !self.known.is_empty();
        let wait = match (is_known, self.is_doubted) {
            (false, _) => until,
            (true, true) => until.min(Deadline::after(PATIENCE)),
            (true, false) => Deadline::after(Duration::ZERO),
        };
        if let Some(question) = &mut self.question {
            match wait.run(question).await {
                Some(answer) => self.learn(answer)?,
                None if is_known => {}
                None => {
                    let message = format!("the address of {} is not known yet", self.address);
                    return Err(Error::timeout(message, until));
                }
            }
        }
        let current = self.known.get(self.current).copied();
        current.ok_or_else(|| Error::internal("an agent without an address"))
    }

    fn should_ask(&self) -> bool {
        if self.address.literal().is_some() {
            return false;
        }
        let (Some(asked_at), false) = (self.asked_at, self.known.is_empty()) else {
            return true;
        };
        let age = asked_at.elapsed();
        age >= self.interval || (self.is_doubted && age >= QUESTIONS_APART)
    }

    /// Takes an answer. Without a good one the old addresses stay: they may well work.
    fn learn(&mut self, answer: io::Result<Vec<SocketAddr>>) -> Result<()> {
        self.question = None;
        self.is_doubted = false;
        let nowhere = || Error::unavailable(format!("cannot find the agent {}", self.address));
        match answer {
            Ok(found) if !found.is_empty() => self.move_to(found),
            _ if !self.known.is_empty() => {}
            Ok(_) => return Err(nowhere().with_context("lookup", "no address")),
            Err(error) => return Err(nowhere().with_source(error)),
        }
        Ok(())
    }

    /// Takes new addresses, IPv4 first, and stays where it is if that is one of them.
    fn move_to(&mut self, found: Vec<SocketAddr>) {
        let before = self.known.get(self.current).copied();
        let (v4, v6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
        self.known = v4;
        self.known.extend(v6);
        for address in &mut self.known {
            address.set_port(self.address.port);
        }
        self.known.dedup();
        let stay = self.known.iter().position(|known| Some(*known) == before);
        self.current = stay.unwrap_or(0);
    }
}

impl fmt::Debug for Whereabouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Whereabouts")
            .field("address", &self.address)
            .field("known", &self.known)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}
