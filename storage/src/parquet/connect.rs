//! HTTP for the object store: hyper and rustls, as the rest of the program uses them.
//!
//! `object_store` can bring an HTTP client of its own (reqwest with aws-lc); this one costs less to
//! build, needs no crypto provider of the whole process, and remembers of the last answer what
//! `object_store` does not tell: its status and how long the store asks us to wait.
//! Threads: the sink's. Deliberately absent: proxies, redirects, HTTP/2, retries.

use super::config::ParquetConfig;
use crate::sink::tls;
use http_body_util::BodyExt;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpError, HttpErrorKind, HttpRequest, HttpRequestBody,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::{ClientOptions, client};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Less than what stores close after, so that a request rarely meets a closed connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// The longest wait that a store may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);

/// What the last answer said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Answer {
    /// The HTTP status; 0: there was no answer.
    pub status: u16,
    /// The header `Retry-After`, in its form with seconds.
    pub retry_after: Option<Duration>,
}

/// Makes the connections of one sink.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: rustls::ClientConfig,
    last: Arc<Mutex<Answer>>,
}

impl Connector {
    /// Reads the certificate authorities. The error says what is wrong with them.
    pub fn new(config: &ParquetConfig) -> Result<Self, String> {
        let https = !config.endpoint.starts_with("http://");
        let tls = tls::client_config(config.ca_file.as_deref(), https)?;
        Ok(Self { tls, last: Arc::default() })
    }

    /// Forgets the last answer.
    pub fn begin(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Answer::default();
    }

    /// The last answer since [`Connector::begin`].
    pub fn last(&self) -> Answer {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl client::HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        http.set_keepalive(Some(Duration::from_secs(60)));
        // The services that give machines their identity have no TLS, and `object_store` says so.
        let allow_http = options.get_config_value(&ClientConfigKey::AllowHttp);
        let builder = HttpsConnectorBuilder::new().with_tls_config(self.tls.clone());
        let builder = match allow_http.as_deref() {
            Some("true") => builder.https_or_http(),
            _ => builder.https_only(),
        };
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .build(builder.enable_http1().wrap_connector(http));
        Ok(HttpClient::new(Service { client, last: Arc::clone(&self.last) }))
    }
}

#[derive(Debug)]
struct Service {
    client: legacy::Client<HttpsConnector<HttpConnector>, HttpRequestBody>,
    last: Arc<Mutex<Answer>>,
}

#[async_trait::async_trait]
impl HttpService for Service {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let response = self.client.request(request).await.map_err(|error| {
            let connect = error.is_connect();
            let kind = if connect { HttpErrorKind::Connect } else { HttpErrorKind::Request };
            HttpError::new(kind, error)
        })?;
        let (parts, body) = response.into_parts();
        let seconds = parts.headers.get("retry-after").and_then(|value| value.to_str().ok());
        let seconds = seconds.and_then(|text| text.trim().parse().ok());
        let wait = seconds.map(|seconds| Duration::from_secs(seconds).min(RETRY_AFTER_MAX));
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Answer { status: parts.status.as_u16(), retry_after: wait };
        let body = body.map_err(|error| HttpError::new(HttpErrorKind::Interrupted, error));
        Ok(HttpResponse::from_parts(parts, HttpResponseBody::new(body)))
    }
}
