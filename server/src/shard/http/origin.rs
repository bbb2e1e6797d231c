//! Who may speak to us from a browser: the Host and Origin rules, and the CORS answer.
//!
//! An Origin is absent (not a browser), same-origin, or on the allow-list, exactly or below a name
//! there; everything else is refused with 403, on subscribe and on publish. Nothing here is ever
//! answered with `*` or with leave to send cookies: whoever asks shows a token. Without
//! authentication on loopback the Host must be a loopback name (a rebound DNS name is not) and
//! loopback origins of any port are admitted: a dev server on another port works, a foreign page
//! cannot publish.

use super::guard::is_loopback_host;
use super::head::Head;
use super::response::Response;

/// The rules, from the configuration.
#[derive(Debug, Clone, Default)]
pub struct OriginRules {
    /// Origins, `scheme://host[:port]`, lower case; `scheme://*.name[:port]` is all below a name.
    pub allowed: Vec<String>,
    /// True when the server serves loopback without authentication.
    pub loopback_only: bool,
}

/// The origin to name in `Access-Control-Allow-Origin`, if the request is cross-origin.
pub type CorsOrigin = Option<String>;

impl OriginRules {
    /// Checks a request. `Err` is the whole 403.
    pub fn check(&self, head: &Head<'_>) -> Result<CorsOrigin, Response> {
        let host = head.host.unwrap_or_default();
        if self.loopback_only && !host.is_empty() && !is_loopback_host(host) {
            return Err(Response::error(
                403,
                "host_not_allowed",
                "this server serves loopback only; use localhost or 127.0.0.1 as the host",
            ));
        }
        let Some(origin) = head.text("origin") else { return Ok(None) };
        let mut origins = 0;
        head.headers.each(&mut |name, _| origins += u32::from(name == "origin"));
        let origin = origin.to_ascii_lowercase();
        if origins > 1 {
            return Err(refused(&origin));
        }
        let Some((scheme, authority)) = split_origin(&origin) else { return Err(refused(&origin)) };
        let own_scheme = if head.secure { "https" } else { "http" };
        let same = scheme == own_scheme
            && without_default_port(scheme, authority)
                == without_default_port(scheme, &host.to_ascii_lowercase());
        if same {
            return Ok(None);
        }
        let listed = self.allowed.iter().any(|allowed| is_like(allowed, &origin));
        if listed || (self.loopback_only && is_loopback_host(authority)) {
            return Ok(Some(origin));
        }
        Err(refused(&origin))
    }
}

/// Adds the CORS fields for a cross-origin request that was admitted.
pub fn add_cors(response: &mut Response, origin: &CorsOrigin) {
    if let Some(origin) = origin {
        response.headers.push(("access-control-allow-origin", origin.clone().into()));
        response.headers.push(("vary", "Origin".into()));
        response.headers.push(("access-control-expose-headers", EXPOSED.into()));
    }
}

/// The answer to a preflight (Fetch standard, section CORS protocol).
pub fn preflight() -> Response {
    Response::empty(204)
        .with("access-control-allow-methods", "GET, POST")
        .with(
            "access-control-allow-headers",
            "authorization, x-api-key, content-type, last-event-id, if-none-match, traceparent, \
             ce-id, ce-source, ce-type, ce-specversion, ce-time, ce-subject, ce-dataschema",
        )
        .with("access-control-max-age", "600")
}

const EXPOSED: &str = "ETag, Retry-After, WWW-Authenticate";

/// An entry of the list against an origin, which is scheme and authority and nothing more.
fn is_like(allowed: &str, origin: &str) -> bool {
    let Some((scheme, name)) = allowed.split_once("://*.") else { return allowed == origin };
    let below = origin.strip_prefix(scheme).and_then(|rest| rest.strip_prefix("://"));
    let labels = below.and_then(|host| host.strip_suffix(name)?.strip_suffix('.'));
    labels.is_some_and(|labels| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        labels.split('.').all(|label| !label.is_empty() && label.bytes().all(legal))
    })
}

fn refused(origin: &str) -> Response {
    // It cannot be listed: every such page has the same origin, whoever wrote it.
    if origin == "null" {
        let message = "origin null is not allowed: the page is a file or in a sandboxed frame; serve \
                       it over HTTP, for example with `python3 -m http.server 8080`";
        return Response::error(403, "origin_not_allowed", message);
    }
    let shown: String = origin.chars().take(100).filter(|c| !c.is_control()).collect();
    let message = format!(
        "origin {shown} is not allowed; add it to `allowed_origins` if pages from there may connect"
    );
    Response::error(403, "origin_not_allowed", &message)
}

/// `scheme://authority` of http or https, nothing more: `null`, paths and credentials are refused.
fn split_origin(origin: &str) -> Option<(&str, &str)> {
    let (scheme, authority) = origin.split_once("://")?;
    let plain = !authority.is_empty() && !authority.contains(['/', '@', '?', '#', ' ', '\\', ',']);
    (plain && matches!(scheme, "http" | "https")).then_some((scheme, authority))
}

fn without_default_port<'a>(scheme: &str, authority: &'a str) -> &'a str {
    let port = if scheme == "https" { ":443" } else { ":80" };
    authority.strip_suffix(port).unwrap_or(authority)
}

#[cfg(test)]
mod tests {
    use super::super::head::{Head, HeaderList};
    use super::*;

    fn check(host: &str, origin: Option<&str>, loopback_only: bool) -> Result<CorsOrigin, u16> {
        let fields: HeaderList =
            origin.map(|o| vec![("origin".to_owned(), o.as_bytes().to_vec())]).unwrap_or_default();
        let head = Head {
            method: "GET",
            path: "/v1/sse",
            query: "",
            host: Some(host),
            secure: false,
            headers: &fields,
        };
        let allowed = ["https://app.example", "https://*.wild.example", "http://*.port.example:81"];
        let rules = OriginRules { allowed: allowed.map(str::to_owned).to_vec(), loopback_only };
        rules.check(&head).map_err(|response| response.status)
    }

    #[test]
    fn only_absent_same_and_listed_origins_pass() {
        let host = "shard.example";
        assert_eq!(check(host, None, false), Ok(None));
        assert_eq!(check(host, Some("http://shard.example"), false), Ok(None));
        assert_eq!(check(host, Some("http://shard.example:80"), false), Ok(None));
        let listed = Some("https://app.example".to_owned());
        assert_eq!(check(host, Some("https://app.example"), false), Ok(listed));
        for bad in [
            "null",
            "https://app.example.evil.com",
            "https://evilapp.example",
            "https://app.example:8443",
            "http://app.example",
            "https://app.example/",
            "https://app.example@evil.com",
            "https://shard.example",
            "http://localhost:5173",
            "",
        ] {
            assert_eq!(check(host, Some(bad), false), Err(403), "{bad}");
        }
    }

    #[test]
    fn a_pattern_is_all_below_a_name_and_nothing_beside_it() {
        for good in [
            "https://a.wild.example",
            "https://a.b-c.wild.example",
            "https://A.Wild.example",
            "http://x.port.example:81",
        ] {
            let admitted = check("shard.example", Some(good), false);
            assert_eq!(admitted, Ok(Some(good.to_ascii_lowercase())), "{good}");
        }
        for bad in [
            "https://wild.example",
            "https://.wild.example",
            "https://a..wild.example",
            "https://evilwild.example",
            "http://a.wild.example",
            "https://a.wild.example:8443",
            "https://a.wild.example.evil.com",
            "https://evil.com:1.wild.example",
            "https://evil.com/.wild.example",
            "https://evil.com@a.wild.example",
            "https://*.wild.example",
            "http://x.port.example",
        ] {
            assert_eq!(check("shard.example", Some(bad), false), Err(403), "{bad}");
        }
    }

    #[test]
    fn a_rebound_name_never_reaches_a_loopback_server() {
        assert_eq!(check("localhost:8000", None, true), Ok(None));
        assert_eq!(check("127.0.0.1:8000", None, true), Ok(None));
        assert_eq!(check("[::1]:8000", None, true), Ok(None));
        assert_eq!(check("evil.example:8000", None, true), Err(403));
        assert_eq!(check("127.0.0.1.evil.example", None, true), Err(403));
        assert_eq!(check("localhost:8000@evil.example", None, true), Err(403));
        let dev = "http://localhost:5173";
        assert_eq!(check("127.0.0.1:8000", Some(dev), true), Ok(Some(dev.to_owned())));
        assert_eq!(check("127.0.0.1:8000", Some("https://evil.example"), true), Err(403));
        assert_eq!(check("127.0.0.1:8000", Some("null"), true), Err(403));
    }
}
