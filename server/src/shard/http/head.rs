//! A request head as the routes see it, whichever HTTP version it came in.

/// Looks up header fields without regard to case.
pub trait Headers {
    /// The first value of a field; `name` is in lower case.
    fn get(&self, name: &str) -> Option<&[u8]>;
    /// Calls back with every field, names in lower case.
    fn each(&self, visit: &mut dyn FnMut(&str, &[u8]));
}

/// A plain list of fields, names in lower case.
pub type HeaderList = Vec<(String, Vec<u8>)>;

impl Headers for HeaderList {
    fn get(&self, name: &str) -> Option<&[u8]> {
        self.iter().find(|(field, _)| field == name).map(|(_, value)| &value[..])
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            visit(name, value);
        }
    }
}

impl Headers for http::HeaderMap {
    fn get(&self, name: &str) -> Option<&[u8]> {
        http::HeaderMap::get(self, name).map(http::HeaderValue::as_bytes)
    }

    fn each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in self {
            visit(name.as_str(), value.as_bytes());
        }
    }
}

/// A request head.
pub struct Head<'a> {
    /// As sent.
    pub method: &'a str,
    /// Still percent-encoded.
    pub path: &'a str,
    /// Without the question mark; empty if none.
    pub query: &'a str,
    /// Host field or `:authority`.
    pub host: Option<&'a str>,
    /// True behind TLS.
    pub secure: bool,
    /// The fields.
    pub headers: &'a dyn Headers,
}

impl Head<'_> {
    /// A field's value if it is visible ASCII.
    pub fn text(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.headers.get(name)?).ok()
    }
}
