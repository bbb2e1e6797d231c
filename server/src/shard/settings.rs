//! What shards need of the configuration, distilled once and shared by all of them.

use super::floods::Addresses;
use super::http::origin::OriginRules;
use crate::auth::Auth;
use crate::config::limits::Limits;
use crate::config::namespace::{Access, Namespace};
use bytes::Bytes;
use proto::tls::TlsConfig;
use std::collections::HashMap;
use std::sync::Arc;

/// A file of the page that the shards serve.
#[derive(Debug, Clone)]
pub struct PageFile {
    /// Media type.
    pub content_type: &'static str,
    /// The content.
    pub body: Bytes,
    /// Names the content: the file never changes under this URL.
    pub immutable: bool,
}

/// The files of the page, by path without the leading slash.
pub type Page = HashMap<String, PageFile>;

/// See the module.
pub struct Settings {
    /// Namespaces by name; `default` is the first.
    namespaces: Vec<(String, Namespace)>,
    /// Every limit.
    pub limits: Limits,
    /// Connections of one shard; more are refused.
    pub connections_max: u32,
    /// Slots for HTTP/2 connections of one shard.
    pub h2_connections_max: u32,
    /// Unfinished heads and messages of one shard, in bytes; the connection that goes over ends.
    pub partial_input_bytes_max: usize,
    /// All outboxes of one shard, in bytes; over it the largest are closed as slow.
    pub outbox_pool_bytes: usize,
    /// Copies that one turn of a shard makes for its sends, in bytes; over it connections wait for
    /// the next turn.
    pub frame_bytes_max: usize,
    /// Buffered request bodies of one shard, in bytes; over it requests get 503.
    pub body_pool_bytes: usize,
    /// Members of the channels at home on one shard, in bytes; over it clients are not listed.
    pub presence_pool_bytes: usize,
    /// Counts and tops under way at once on one shard; more wait.
    pub queries_max: usize,
    /// Who may do what; `None`: everybody what the namespaces permit.
    pub auth: Option<Arc<Auth>>,
    /// What the clients of each address ask for.
    pub addresses: Addresses,
    /// Host and Origin rules.
    pub origins: OriginRules,
    /// Channels of one SSE stream.
    pub sse_channels_max: u16,
    /// Bounds of the jittered `retry:` of SSE streams.
    pub sse_retry_ms: (u32, u32),
    /// Encryption for the listener, if configured.
    pub tls: Option<TlsConfig>,
    /// The page at `/`.
    pub page: Page,
    /// What this server is called where there may be several.
    pub node_name: String,
    /// What no other run of a server is called.
    pub run_name: String,
}

impl Settings {
    /// Puts the namespaces in order. `default` must be among them.
    pub fn new(namespaces: impl IntoIterator<Item = (String, Namespace)>, limits: Limits) -> Self {
        let mut namespaces: Vec<_> = namespaces.into_iter().collect();
        let default = proto::channel::DEFAULT_NAMESPACE;
        let at = namespaces.iter().position(|(name, _)| name == default);
        namespaces.swap(0, at.expect("the default namespace always exists"));
        Self {
            namespaces,
            limits,
            connections_max: 10_000,
            h2_connections_max: 1_000,
            partial_input_bytes_max: 64 << 20,
            outbox_pool_bytes: 256 << 20,
            frame_bytes_max: 64 << 20,
            body_pool_bytes: 256 << 20,
            presence_pool_bytes: 32 << 20,
            queries_max: 2,
            auth: None,
            addresses: Addresses::default(),
            origins: OriginRules::default(),
            sse_channels_max: 16,
            sse_retry_ms: (1_000, 5_000),
            tls: None,
            page: Page::new(),
            node_name: "shardcast".to_owned(),
            run_name: "run".to_owned(),
        }
    }

    /// True if some namespace takes events from clients that show nothing.
    pub fn anonymous_publish(&self) -> bool {
        let takes = |namespace: &Namespace| {
            namespace.publish && namespace.client_publish == Access::Anonymous
        };
        self.namespaces.iter().any(|(_, namespace)| takes(namespace))
    }

    /// The index of a channel's namespace.
    pub fn namespace_of(&self, channel: &str) -> u16 {
        let Some(name) = proto::channel::namespace(channel) else { return 0 };
        let found = self.namespaces.iter().position(|(known, _)| known == name);
        found.unwrap_or(0) as u16
    }

    /// A channel's namespace.
    pub fn namespace(&self, channel: &str) -> &Namespace {
        &self.namespaces[usize::from(self.namespace_of(channel))].1
    }

    /// The name of a channel's namespace.
    pub fn namespace_name(&self, channel: &str) -> &str {
        &self.namespaces[usize::from(self.namespace_of(channel))].0
    }

    /// The namespace at an index.
    pub fn namespace_at(&self, index: u16) -> &Namespace {
        &self.namespaces[usize::from(index)].1
    }
}
