//! Who may ask: names and origins, without authentication.
//!
//! A browser on this machine sends requests to loopback for any page it shows. A page cannot forge
//! `Host` or `Origin`, so a request that reaches loopback under another name (DNS rebinding) or
//! from another origin is recognised by them. The admin listener asks here too.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// True for the value of a Host field that names this machine's loopback: `localhost`, 127.0.0.0/8
/// and `[::1]`, with any port or none.
pub fn is_loopback_host(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => {
            let Some((address, port)) = rest.split_once(']') else { return false };
            let port_ok = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
            return port_ok && address.parse::<Ipv6Addr>().is_ok_and(is_loopback);
        }
        None => match host.split_once(':') {
            Some((name, port)) if is_port(port) => name,
            Some(_) => return false,
            None => host,
        },
    };
    name.strip_suffix('.').unwrap_or(name).eq_ignore_ascii_case("localhost")
        || name.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

/// True for the value of an Origin field whose host is loopback, whatever scheme and port.
pub fn is_loopback_origin(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(is_loopback_host)
}

/// Loopback, also when an IPv6 socket shows an IPv4 peer.
pub fn is_loopback(address: impl Into<IpAddr>) -> bool {
    address.into().to_canonical().is_loopback()
}

fn is_port(text: &str) -> bool {
    !text.is_empty() && text.len() <= 5 && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_pass_as_host() {
        for good in [
            "localhost",
            "LocalHost:9000",
            "localhost.:9000",
            "127.0.0.1",
            "127.0.0.1:9000",
            "127.9.9.9",
            "[::1]",
            "[::1]:9000",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback_host(good), "{good}");
        }
        for bad in [
            "",
            "localhost.evil.example",
            "evil.example",
            "127.0.0.1.evil.example",
            "127.1",
            "localhost:",
            "localhost:x",
            "localhost:80:80",
            "[::1",
            "[::1]x",
            "[::2]",
            "::1",
            "0.0.0.0",
            "10.0.0.1",
            "localhost@evil.example",
            " localhost",
            "2130706433",
            "0x7f.0.0.1",
            "[::1]:",
            "localhost:123456",
        ] {
            assert!(!is_loopback_host(bad), "{bad}");
        }
    }

    #[test]
    fn only_loopback_origins_pass() {
        for good in ["http://localhost:5173", "https://127.0.0.1", "http://[::1]:3000"] {
            assert!(is_loopback_origin(good), "{good}");
        }
        for bad in ["null", "localhost", "http://evil.example", "file://", "http://localhost/x"] {
            assert!(!is_loopback_origin(bad), "{bad}");
        }
    }
}
