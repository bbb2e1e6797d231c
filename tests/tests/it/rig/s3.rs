//! An object store that speaks S3, in a process of its own: moto, which keeps everything in
//! memory and refuses to overwrite when asked to. It takes any credentials and checks no signature.

use super::child::client;
use super::clickhouse::first_line;
use super::message::exchange;
use super::{Answer, CAP};
use std::net::SocketAddr;
use std::process::{Child, Stdio};

/// What a client is configured with; all of it is made up.
pub const REGION: &str = "us-east-1";
pub const ACCESS_KEY: &str = "test";
pub const SECRET_KEY: &str = "test";

/// A running store. When it goes out of scope it is killed, and what it held is gone.
pub struct S3 {
    child: Child,
    address: SocketAddr,
}

impl S3 {
    /// An empty one on a free port.
    pub fn start() -> Self {
        let mut command = client("s3_server.py");
        // What somebody's own account is, it must not see.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command.env("AWS_ACCESS_KEY_ID", ACCESS_KEY).env("AWS_SECRET_ACCESS_KEY", SECRET_KEY);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("python3, which `cargo xtask test` installs");
        let said = child.stderr.take().expect("piped");
        let line = first_line(said, |line| line.contains("Running on http://"));
        let address = line.as_deref().and_then(|line| line.split("http://").nth(1)?.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            let _ = child.wait();
            panic!("moto said no address in {CAP:?} ({line:?}): try `cargo xtask test` again");
        };
        Self { child, address }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// As clients take it: the endpoint, with the bucket in the path.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Makes a bucket; names have three letters at least.
    pub fn create_bucket(&self, name: &str) {
        let answer = self.request(("PUT", &format!("/{name}")), "", b"");
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// The keys of a bucket in order, all of them or those with a prefix.
    pub fn list(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        loop {
            let after = keys.last().map_or("", String::as_str);
            let query =
                format!("list-type=2&prefix={}&start-after={}", quoted(prefix), quoted(after));
            let answer = self.request(("GET", &format!("/{bucket}?{query}")), "", b"");
            assert_eq!(answer.status, 200, "{answer:?}");
            let text = answer.text();
            let found = text.split("<Key>").skip(1).filter_map(|rest| rest.split_once("</Key>"));
            keys.extend(found.map(|(key, _)| unescaped(key)));
            if !text.contains("<IsTruncated>true</IsTruncated>") {
                return keys;
            }
        }
    }

    /// An object's bytes, if it exists.
    pub fn get(&self, bucket: &str, key: &str) -> Option<Vec<u8>> {
        let answer = self.request(("GET", &format!("/{bucket}/{}", quoted(key))), "", b"");
        assert!(matches!(answer.status, 200 | 404), "{answer:?}");
        (answer.status == 200).then_some(answer.body)
    }

    /// Puts an object unless there is one; the answer's status is 200 or 412.
    pub fn put_if_absent(&self, bucket: &str, key: &str, body: &[u8]) -> Answer {
        let target = format!("/{bucket}/{}", quoted(key));
        self.request(("PUT", &target), "If-None-Match: *\r\n", body)
    }

    fn request(&self, target: (&str, &str), headers: &str, body: &[u8]) -> Answer {
        // The scope in it is how moto knows which service is meant.
        let headers = format!(
            "Authorization: AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20200101/{REGION}/s3/aws4_request, \
             SignedHeaders=host, Signature=0\r\n{headers}"
        );
        exchange(self.address, target, &headers, body).expect("moto answers")
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// As it stands in a path or a query.
fn quoted(key: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/' => {
            char::from(byte).to_string()
        }
        other => format!("%{other:02X}"),
    };
    key.bytes().map(byte).collect()
}

/// As XML has it.
fn unescaped(text: &str) -> String {
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"");
    text.replace("&#x27;", "'").replace("&#39;", "'").replace("&amp;", "&")
}
