//! Request targets and hosts: which form, which characters.

use super::HeadError;
use super::fields::Span;
use std::net::Ipv6Addr;

/// Where a target's parts stand in the head.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) whole: Span,
    /// Only of absolute-form and authority-form.
    pub(super) authority: Option<Span>,
    /// Empty for an absolute target without path.
    pub(super) path: Span,
    pub(super) query: Option<Span>,
}

impl Target {
    /// Takes a target apart. `start` is its place in the head.
    pub(super) fn parse(method: &[u8], target: &[u8], start: usize) -> Result<Self, HeadError> {
        let end = start + target.len();
        let whole = Span::new(start, end);
        match (method, target) {
            //= rfc9112#3.2.3
            // CONNECT and only CONNECT has the authority form.
            (b"CONNECT", _) if valid_host(target) => {
                Ok(Self { whole, authority: Some(whole), ..Self::default() })
            }
            (b"CONNECT", _) => Err(HeadError::Target),
            (_, [b'/', ..]) => Self::with_path(whole, None, target, start),
            //= rfc9112#3.2.4
            // The asterisk is for OPTIONS only.
            (b"OPTIONS", b"*") => Ok(Self { whole, path: whole, ..Self::default() }),
            _ => Self::absolute(whole, target, start),
        }
    }

    //= rfc9112#3.2.2
    // A server accepts the absolute form in requests; its authority replaces Host.
    fn absolute(whole: Span, target: &[u8], start: usize) -> Result<Self, HeadError> {
        let scheme = [&b"http://"[..], b"https://"]
            .into_iter()
            .find(|scheme| {
                target.get(..scheme.len()).is_some_and(|head| head.eq_ignore_ascii_case(scheme))
            })
            .ok_or(HeadError::Target)?;
        let rest = target.get(scheme.len()..).unwrap_or_default();
        let host_len = rest.iter().position(|b| matches!(b, b'/' | b'?')).unwrap_or(rest.len());
        let (host, tail) = rest.split_at_checked(host_len).ok_or(HeadError::Target)?;
        if !valid_host(host) {
            return Err(HeadError::Target);
        }
        let host_at = start + scheme.len();
        let authority = Some(Span::new(host_at, host_at + host_len));
        Self::with_path(whole, authority, tail, host_at + host_len)
    }

    fn with_path(
        whole: Span,
        authority: Option<Span>,
        tail: &[u8],
        start: usize,
    ) -> Result<Self, HeadError> {
        let path_len = memchr::memchr(b'?', tail).unwrap_or(tail.len());
        let path = tail.get(..path_len).unwrap_or_default();
        let query = tail.get(path_len + 1..);
        if !path.iter().all(|b| is_path_byte(*b)) || !query.is_none_or(valid_query) {
            return Err(HeadError::Target);
        }
        let path = Span::new(start, start + path_len);
        let query_at = start + path_len + 1;
        let query = query.map(|query| Span::new(query_at, query_at + query.len()));
        Ok(Self { whole, authority, path, query })
    }
}

fn valid_query(query: &[u8]) -> bool {
    query.iter().all(|b| is_query_byte(*b))
}

/// What a browser leaves as it is in a query: a fragment never reaches a server, the rest of the
/// excluded would end up in logs and pages.
const fn is_query_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b'#' | b'<' | b'>')
}

/// The same for a path (WHATWG URL, path percent-encode set). The backslash is excluded because
/// others take it for a slash.
const fn is_path_byte(byte: u8) -> bool {
    is_query_byte(byte) && !matches!(byte, b'?' | b'^' | b'`' | b'{' | b'}' | b'\\')
}

/// Is this `host [":" port]` with a non-empty host and nothing else (RFC 9110 section 7.2)?
pub fn valid_host(host: &[u8]) -> bool {
    let (name, port) = match host {
        [b'[', rest @ ..] => {
            let Some(end) = memchr::memchr(b']', rest) else { return false };
            let Some((literal, [_, port @ ..])) = rest.split_at_checked(end) else { return false };
            let literal = std::str::from_utf8(literal).unwrap_or_default();
            if literal.parse::<Ipv6Addr>().is_err() {
                return false;
            }
            (None, port)
        }
        _ => {
            let end = memchr::memchr(b':', host).unwrap_or(host.len());
            let Some((name, port)) = host.split_at_checked(end) else { return false };
            (Some(name), port)
        }
    };
    let port_is_valid = match port {
        [] | [b':'] => true,
        [b':', digits @ ..] => {
            digits.iter().all(u8::is_ascii_digit)
                && std::str::from_utf8(digits).is_ok_and(|digits| digits.parse::<u16>().is_ok())
        }
        _ => false,
    };
    port_is_valid && name.is_none_or(valid_name)
}

/// A registered name or an IPv4 address (RFC 3986 section 3.2.2), not empty.
fn valid_name(name: &[u8]) -> bool {
    let mut rest = name;
    while let [byte, after @ ..] = rest {
        rest = match (byte, after) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                after
            }
            (b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&'..=b',' | b';' | b'=', _) => after,
            _ if byte.is_ascii_alphanumeric() => after,
            _ => return false,
        };
    }
    !name.is_empty()
}
