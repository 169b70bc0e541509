//! The proxy that the environment asks for.
//!
//! `HTTPS_PROXY` is for encrypted destinations and for gRPC, `HTTP_PROXY` for the others, `ALL_PROXY` for those without one
//! of their own; each also in lower case. `NO_PROXY` lists what needs none, separated by commas: `*`; an address; a
//! network (`10.0.0.0/8`); a name, which stands for all names below it as well (`example.com`); only the names below
//! (`.example.com`, `*.example.com`); each but networks also with a port. These are the rules of Go's exporters;
//! `ALL_PROXY` is curl's. Destinations on this machine (`localhost`, loopback addresses) never need one.

use std::ffi::OsString;
use std::net::IpAddr;

use super::Proxy;
use crate::Result;

/// Finds the proxy for a destination; `tunnels` says that requests cannot be forwarded.
pub(super) fn find<L>(lookup: L, tunnels: bool, host: &str, port: u16) -> Result<Option<Proxy>>
where
    L: Fn(&str) -> Option<OsString>,
{
    let text = |name: &'static str| {
        let value = lookup(name)?.to_string_lossy().trim().to_owned();
        (!value.is_empty()).then_some((name, value))
    };
    let own = match tunnels {
        true => text("HTTPS_PROXY").or_else(|| text("https_proxy")),
        // A web server's scripts have each request header `Proxy` in HTTP_PROXY (CVE-2016-5385).
        false if lookup("REQUEST_METHOD").is_some() => text("http_proxy"),
        false => text("HTTP_PROXY").or_else(|| text("http_proxy")),
    };
    let all = || text("ALL_PROXY").or_else(|| text("all_proxy"));
    let Some((name, url)) = own.or_else(all) else {
        return Ok(None);
    };
    let exceptions = text("NO_PROXY").or_else(|| text("no_proxy"));
    let exceptions = exceptions.map(|(_, list)| list).unwrap_or_default();
    if needs_none(&exceptions, host, port) {
        return Ok(None);
    }
    let proxy = Proxy::parse(&url).map_err(|error| error.with_context("set by", name))?;
    Ok(Some(proxy))
}

fn needs_none(exceptions: &str, host: &str, port: u16) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host
        .parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical());
    if host == "localhost" || address.is_some_and(|address| address.is_loopback()) {
        return true;
    }
    exceptions
        .split(|c: char| c == ',' || c.is_whitespace())
        .any(|entry| match address {
            _ if entry == "*" => true,
            Some(address) => holds_address(entry, address, port),
            None => holds_name(entry, &host, port),
        })
}

fn holds_address(entry: &str, address: IpAddr, port: u16) -> bool {
    if let Some((network, bits)) = entry.split_once('/') {
        let network = network.parse().ok().zip(bits.parse().ok());
        return network.is_some_and(|(network, bits)| is_within(address, network, bits));
    }
    if let Ok(listed) = entry.parse::<IpAddr>() {
        return listed.to_canonical() == address;
    }
    let (listed, listed_port) = split_port(entry);
    let listed = listed
        .strip_prefix('[')
        .and_then(|listed| listed.strip_suffix(']'))
        .unwrap_or(listed);
    let listed = listed.parse().ok();
    let is_listed = listed.is_some_and(|listed: IpAddr| listed.to_canonical() == address);
    is_listed && is_port(listed_port, port)
}

fn holds_name(entry: &str, host: &str, port: u16) -> bool {
    let (listed, listed_port) = split_port(entry);
    let listed = listed.trim_end_matches('.').to_ascii_lowercase();
    if listed.is_empty() || !is_port(listed_port, port) {
        return false;
    }
    let below = listed.strip_prefix('*').unwrap_or(&listed);
    if below.starts_with('.') {
        return host.ends_with(below);
    }
    let parent = host.strip_suffix(&listed);
    parent.is_some_and(|parent| parent.is_empty() || parent.ends_with('.'))
}

fn split_port(entry: &str) -> (&str, Option<&str>) {
    match entry.rsplit_once(':') {
        // The colon of an IPv6 address in brackets.
        Some((_, end)) if end.ends_with(']') => (entry, None),
        Some((host, port)) => (host, Some(port)),
        None => (entry, None),
    }
}

fn is_port(listed: Option<&str>, port: u16) -> bool {
    listed.is_none_or(|listed| listed.parse() == Ok(port))
}

fn is_within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (a, b, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits().into(), b.to_bits().into(), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits(), b.to_bits(), 128),
        _ => return false,
    };
    let Some(rest) = u32::checked_sub(width, bits) else {
        return false;
    };
    // A network of 0 bits of IPv6 leaves nothing to compare, and no shift is that wide.
    u128::checked_shr(a ^ b, rest).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(variables: &[(&str, &str)], tunnels: bool, host: &str) -> Option<String> {
        let lookup = |name: &str| {
            let variable = variables.iter().find(|(known, _)| *known == name);
            variable.map(|(_, value)| OsString::from(value))
        };
        let proxy = find(lookup, tunnels, host, 4317).unwrap();
        proxy.map(|proxy| proxy.to_string())
    }

    #[test]
    fn the_destination_s_scheme_picks_the_variable() {
        let both = [("HTTP_PROXY", "plain:1"), ("HTTPS_PROXY", "tunnel:2")];
        assert_eq!(found(&both, false, "c").unwrap(), "proxy http://plain:1");
        assert_eq!(found(&both, true, "c").unwrap(), "proxy http://tunnel:2");
        assert_eq!(found(&both[..1], true, "c"), None);
        assert_eq!(found(&both[1..], false, "c"), None);
        assert_eq!(found(&[], false, "c"), None);
    }

    #[test]
    fn capitals_win_and_empty_ones_count_as_unset() {
        for (upper, lower, tunnels) in [
            ("HTTP_PROXY", "http_proxy", false),
            ("HTTPS_PROXY", "https_proxy", true),
            ("ALL_PROXY", "all_proxy", true),
            ("ALL_PROXY", "all_proxy", false),
        ] {
            let both = [(upper, "upper:1"), (lower, "lower:1")];
            assert_eq!(found(&both, tunnels, "c").unwrap(), "proxy http://upper:1");
            assert_eq!(
                found(&both[1..], tunnels, "c").unwrap(),
                "proxy http://lower:1"
            );
            let one = [(upper, " "), (lower, "lower:1")];
            assert_eq!(found(&one, tunnels, "c").unwrap(), "proxy http://lower:1");
        }
    }

    #[test]
    fn the_one_for_all_is_for_those_without_their_own() {
        let all = [("ALL_PROXY", "socks5://all:1"), ("HTTPS_PROXY", "own:1")];
        assert_eq!(found(&all, true, "c").unwrap(), "proxy http://own:1");
        assert_eq!(found(&all, false, "c").unwrap(), "proxy socks5://all:1");
    }

    #[test]
    fn a_request_header_cannot_set_the_proxy_of_a_script() {
        let script = [
            ("HTTP_PROXY", "evil:1"),
            ("http_proxy", "good:1"),
            ("HTTPS_PROXY", "tunnel:1"),
            ("REQUEST_METHOD", "GET"),
        ];
        assert_eq!(found(&script, false, "c").unwrap(), "proxy http://good:1");
        assert_eq!(found(&script, true, "c").unwrap(), "proxy http://tunnel:1");
        let script = [("HTTP_PROXY", "evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(found(&script, false, "c"), None);
    }

    #[test]
    fn exceptions_are_read_from_either_variable() {
        let proxy = ("ALL_PROXY", "p:1");
        assert_eq!(found(&[proxy, ("NO_PROXY", "c")], true, "c"), None);
        assert_eq!(found(&[proxy, ("no_proxy", "c")], true, "c"), None);
        assert!(found(&[proxy, ("NO_PROXY", "d"), ("no_proxy", "c")], true, "c").is_some());
    }

    #[test]
    fn what_is_no_proxy_is_an_error_that_names_its_variable() {
        let lookup = |name: &str| (name == "https_proxy").then(|| "htp://u:hunter2@p".into());
        let error = find(lookup, true, "c", 1).err().unwrap().to_string();
        assert!(
            error.contains("https_proxy") && error.contains("htp://"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
        // Where it is not asked, it is not in the way.
        assert!(find(lookup, false, "c", 1).unwrap().is_none());
        assert!(find(lookup, true, "localhost", 1).unwrap().is_none());
    }

    #[test]
    fn this_machine_needs_no_proxy() {
        for host in [
            "localhost",
            "LOCALHOST",
            "localhost.",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
        ] {
            assert!(needs_none("", host, 80), "{host}");
        }
        for host in ["localhost.example.com", "128.0.0.1", "::2", "c"] {
            assert!(!needs_none("", host, 80), "{host}");
        }
    }

    #[test]
    fn exceptions_hold_what_they_say_and_no_more() {
        const HELD: &[(&str, &str)] = &[
            ("*", "anything"),
            ("*", "8.8.8.8"),
            ("x, *", "anything"),
            ("example.com", "example.com"),
            ("example.com", "EXAMPLE.com."),
            ("Example.Com.", "example.com"),
            ("example.com", "a.b.example.com"),
            (".example.com", "a.example.com"),
            ("*.example.com", "a.example.com"),
            ("a,,b , example.com", "example.com"),
            ("a b\texample.com", "example.com"),
            ("example.com:4317", "a.example.com"),
            ("10.0.0.1", "10.0.0.1"),
            ("10.0.0.1:4317", "10.0.0.1"),
            ("10.0.0.0/8", "10.255.0.1"),
            ("10.1.2.3/8", "10.255.0.1"),
            ("10.0.0.1/32", "10.0.0.1"),
            ("0.0.0.0/0", "8.8.8.8"),
            ("::/0", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4317", "2001:db8::1"),
            ("10.0.0.1", "::ffff:10.0.0.1"),
        ];
        const NOT_HELD: &[(&str, &str)] = &[
            ("", "example.com"),
            (",", "example.com"),
            (".", "example.com"),
            ("example.com", "notexample.com"),
            ("example.com", "example.com.org"),
            (".example.com", "example.com"),
            ("*.example.com", "example.com"),
            ("example.com:80", "example.com"),
            ("example.com:x", "example.com"),
            (":4317", "example.com"),
            ("a*", "abc"),
            ("10.0.0.1", "10.0.0.10"),
            ("10.0.0.1:80", "10.0.0.1"),
            ("10.0.0.0/8", "11.0.0.1"),
            ("10.0.0.0/33", "10.0.0.0"),
            ("10.0.0.0/-1", "10.0.0.0"),
            ("10.0.0.0/", "10.0.0.0"),
            ("0.0.0.0/0", "2001:db8::1"),
            ("::/0", "8.8.8.8"),
            ("2001:db8::/32", "2001:db9::1"),
            ("0.0.1", "10.0.0.1"),
            ("é.com", "com"),
        ];
        for (list, host) in HELD {
            assert!(needs_none(list, host, 4317), "{list} holds {host}");
        }
        for (list, host) in NOT_HELD {
            assert!(!needs_none(list, host, 4317), "{list} does not hold {host}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_list_can_be_asked(list in r"[a-z0-9:/.,*\[\] é-]{0,30}", host in r"[a-z0-9:.\[\]é-]{0,20}") {
            needs_none(&list, &host, 80);
        }
    }
}
