//! Values that have the right type and still make no sense. Each problem names the limit and what
//! to do; the caller adds the field's value and where it was set.

use super::{Config, Deliver, Namespace, Parquet, ReadFrom};
use crate::mesh::SHARDS_MAX;
use crate::shard::floods::Network;
use std::net::SocketAddr;

/// One value that cannot stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) path: String,
    pub(super) message: String,
}

/// Everything that is wrong with a configuration.
pub(super) fn problems(config: &Config) -> Vec<Problem> {
    let mut found = Found(Vec::new());
    found.addresses(config);
    found.origins(config);
    found.auth(config);
    found.tls(config);
    found.ranges(config);
    found.relations(config);
    found.storage(config);
    found.parquet(&config.storage.parquet);
    found.namespaces(config);
    found.0
}

struct Found(Vec<Problem>);

impl Found {
    fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.0.push(Problem { path: path.into(), message: message.into() });
    }

    /// Safe by default: without authentication only this machine is served.
    fn addresses(&mut self, config: &Config) {
        if config.listen.is_empty() || config.listen.len() > LISTENERS_MAX {
            self.add("listen", format!("give 1 to {LISTENERS_MAX} addresses"));
        }
        for (index, address) in config.listen.iter().enumerate() {
            let open = !config.allow_anonymous && !config.authenticates();
            if !is_loopback(address) && open {
                self.add(
                    "listen",
                    format!(
                        "{address} can be reached from other machines and no authentication is \
                         configured, so anybody could publish and subscribe; set a key in `auth` or \
                         `api_keys`, listen on 127.0.0.1, or say --allow-anonymous if that is what \
                         you want"
                    ),
                );
            }
            if address.port() != 0 && config.listen[..index].contains(address) {
                self.add("listen", format!("{address} is there twice; remove one"));
            }
        }
        let admin = config.admin_listen;
        let token = !config.admin_token.is_empty()
            || !config.admin_token_file.as_os_str().is_empty()
            || config.api_keys.iter().any(|key| key.admin);
        if !is_loopback(&admin) && !token {
            self.add(
                "admin_listen",
                "whoever reaches the admin listener can read metrics and drain the server; keep it \
                 on 127.0.0.1, or give it a token: `openssl rand -hex 32 > admin.token` and \
                 admin_token_file = \"admin.token\"",
            );
        }
        let clash = |listen: &SocketAddr| {
            let wildcard = listen.ip().is_unspecified() || admin.ip().is_unspecified();
            listen.port() == admin.port() && (listen.ip() == admin.ip() || wildcard)
        };
        if admin.port() != 0 && config.listen.iter().any(clash) {
            self.add("admin_listen", "`listen` has this port too; give it another one");
        }
    }

    fn origins(&mut self, config: &Config) {
        let name = &config.server_name;
        if name.len() > 255 || name.bytes().any(|byte| !byte.is_ascii_graphic()) {
            self.add("server_name", "it is a label value: at most 255 printable ASCII characters");
        }
        for network in &config.shared_addresses {
            if Network::parse(network).is_none() {
                let text = "is neither an address nor a network such as `10.0.0.0/8` or `fd00::/8`";
                self.add("shared_addresses", format!("{network:?} {text}"));
            }
        }
        for origin in &config.allowed_origins {
            if !is_web_origin(origin) {
                self.add(
                    "allowed_origins",
                    format!(
                        "{origin:?} is not an origin as browsers send it; write scheme, host and \
                         port without a path, in lower case, such as `https://app.example.com`, or \
                         `https://*.example.com` for all below a name"
                    ),
                );
            }
        }
    }

    fn auth(&mut self, config: &Config) {
        for (path, message) in super::auth::problems(config) {
            self.add(path, message);
        }
    }

    fn tls(&mut self, config: &Config) {
        let (cert, key) = (config.tls.is_on(), !config.tls.key.as_os_str().is_empty());
        if cert && !key {
            self.add("tls.key", "`tls.cert` is set; set the key that belongs to it (--tls-key)");
        }
        if key && !cert {
            self.add("tls.cert", "`tls.key` is set; set its certificate chain (--tls-cert)");
        }
    }

    fn ranges(&mut self, config: &Config) {
        let mut range = |path: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                self.add(path, format!("the value must be from {min} to {max}"));
            }
        };
        let (limits, spool, sse) = (&config.limits, &config.spool, &config.sse);
        let u = u64::from;
        range("shards", u(config.shards), 0, SHARDS_MAX as u64);
        range("drain_time_s", u(config.drain_time_s), 0, 3_600);
        range("limits.connections_max", u(limits.connections_max), 0, 16_000_000);
        if limits.memory_bytes_max != 0 {
            range("limits.memory_bytes_max", limits.memory_bytes_max, 64 << 20, 1 << 50);
        }
        range("limits.message_bytes_max", u(limits.message_bytes_max), 1, 256 << 20);
        range("limits.body_bytes_max", u(limits.body_bytes_max), 1, 1 << 30);
        range("limits.head_bytes_max", u(limits.head_bytes_max), 1 << 10, (1 << 16) - 1);
        range("limits.headers_max", u(u32::from(limits.headers_max)), 16, 1_000);
        range("limits.head_timeout_s", u(limits.head_timeout_s), 1, 300);
        range("limits.body_idle_timeout_s", u(limits.body_idle_timeout_s), 1, 3_600);
        range("limits.keep_alive_s", u(limits.keep_alive_s), 1, 3_600);
        range("limits.outbox_bytes_max", u(limits.outbox_bytes_max), 1 << 10, 1 << 30);
        if limits.unsent_bytes_max != 0 {
            range("limits.unsent_bytes_max", u(limits.unsent_bytes_max), 4 << 10, 1 << 30);
        }
        range("limits.receive_buffers_max", u64::from(limits.receive_buffers_max), 64, 16_384);
        if limits.send_buffer_bytes != 0 {
            range("limits.send_buffer_bytes", u(limits.send_buffer_bytes), 4 << 10, 1 << 30);
        }
        let channels = u(u32::from(limits.channels_per_connection_max));
        range("limits.channels_per_connection_max", channels, 1, 1_024);
        range("limits.channels_max", u(limits.channels_max), 1, 100_000_000);
        range("limits.history_bytes_max", limits.history_bytes_max, 0, 1 << 50);
        range("limits.recovery_events_max", u(limits.recovery_events_max), 0, 100_000);
        range("limits.recovery_bytes_max", u(limits.recovery_bytes_max), 0, 64 << 20);
        range("limits.dedupe_ids_max", u(limits.dedupe_ids_max), 0, 100_000_000);
        range("limits.dedupe_age_s", u(limits.dedupe_age_s), 0, 7 * 86_400);
        range("limits.dedupe_bytes_max", limits.dedupe_bytes_max, 0, 1 << 50);
        let own = u(limits.client_commands_per_s_max);
        range("limits.client_commands_per_s_max", own, 0, 1_000_000);
        let commands = u(limits.address_commands_per_s_max);
        range("limits.address_commands_per_s_max", commands, 0, 100_000_000);
        let connects = u(limits.address_connects_per_s_max);
        range("limits.address_connects_per_s_max", connects, 0, 100_000_000);
        range("limits.h2_connections_max", u(limits.h2_connections_max), 0, 1_000_000);
        range("limits.h2_streams_max", u(limits.h2_streams_max), 1, 100_000);
        range("limits.heartbeat_s", u(limits.heartbeat_s), 1, 3_600);
        range("limits.pong_timeout_s", u(limits.pong_timeout_s), 1, 300);
        range("limits.publish_wait_s", u(limits.publish_wait_s), 0, 60);
        range("limits.stored_wait_s", u(limits.stored_wait_s), 1, 3_600);
        range("limits.query_time_s", u(limits.query_time_s), 1, 60);
        range("limits.ws_fragments_max", u(limits.ws_fragments_max), 1, 1_000_000);
        let pings = u(limits.ws_control_frames_per_s_max);
        range("limits.ws_control_frames_per_s_max", pings, 1, 1_000_000);
        range("limits.ws_deflate_bytes_min", u(limits.ws_deflate_bytes_min), 0, 1 << 30);
        range("spool.segment_bytes", spool.segment_bytes, 1 << 20, 4 << 30);
        range("spool.retention_age_s", spool.retention_age_s, 1, 100 * 366 * 86_400);
        range("spool.checkpoint_bytes", spool.checkpoint_bytes, 1 << 20, 1 << 40);
        range("sse.channels_max", u(u32::from(sse.channels_max)), 1, 1_024);
        range("sse.retry_ms_max", u(sse.retry_ms_max), 1, 600_000);
    }

    /// Pairs of values of which one bounds the other.
    fn relations(&mut self, config: &Config) {
        let (limits, spool, sse) = (&config.limits, &config.spool, &config.sse);
        let mut at_most = |path: &str, value: u64, other: &str, bound: u64| {
            if value > bound {
                let message = format!("the value must be at most {bound}, because of `{other}`");
                self.add(path, format!("{message}; lower it, or raise `{other}`"));
            }
        };
        let message_bytes = u64::from(limits.message_bytes_max);
        let body_bytes = u64::from(limits.body_bytes_max);
        at_most("limits.message_bytes_max", message_bytes, "limits.body_bytes_max", body_bytes);
        // A record (the event and at most as much again around it) must fit into a segment.
        let half_segment = spool.segment_bytes / 2;
        at_most("limits.message_bytes_max", message_bytes, "spool.segment_bytes", half_segment);
        at_most("spool.segment_bytes", spool.segment_bytes, "spool.bytes_max", spool.bytes_max / 2);
        at_most("spool.retention_bytes", spool.retention_bytes, "spool.bytes_max", spool.bytes_max);
        let recover = spool.recover_bytes_max;
        at_most(
            "spool.checkpoint_bytes",
            spool.checkpoint_bytes,
            "spool.recover_bytes_max",
            recover,
        );
        let retry_max = u64::from(sse.retry_ms_max);
        at_most("sse.retry_ms_min", u64::from(sse.retry_ms_min), "sse.retry_ms_max", retry_max);
        let channels_max = u64::from(limits.channels_per_connection_max);
        let other = "limits.channels_per_connection_max";
        at_most("sse.channels_max", u64::from(sse.channels_max), other, channels_max);
    }

    fn storage(&mut self, config: &Config) {
        let (storage, click_house) = (&config.storage, &config.storage.clickhouse);
        let mut range = |path: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                self.add(path, format!("the value must be from {min} to {max}"));
            }
        };
        let u = u64::from;
        range("storage.feed_bytes_max", storage.feed_bytes_max, 1 << 20, 8 << 30);
        range("storage.lag_s_max", u(storage.lag_s_max), 1, 86_400);
        range("storage.clickhouse.batch_rows", u(click_house.batch_rows), 1, 1_000_000);
        range("storage.clickhouse.batch_bytes", click_house.batch_bytes, 1 << 10, 1 << 30);
        range("storage.clickhouse.batch_ms", u(click_house.batch_ms), 0, 60_000);
        range("storage.clickhouse.insert_timeout_s", u(click_house.insert_timeout_s), 1, 3_600);
        range("storage.clickhouse.reconcile_s", u(click_house.reconcile_s), 0, 86_400);
        range("storage.clickhouse.delete_after_days", u(click_house.delete_after_days), 0, 36_500);
        if storage.read == ReadFrom::ClickHouse && !click_house.is_on() {
            self.add("storage.read", "set `storage.clickhouse.url`, or read from `embedded`");
        }
        if !click_house.is_on() {
            return;
        }
        if !click_house.password_file.as_os_str().is_empty() && click_house.user.is_empty() {
            self.add("storage.clickhouse.user", "`password_file` is set; name its user");
        }
        if let Err(error) = click_house.sink_config_without_secrets().validate() {
            self.add(format!("storage.clickhouse.{}", error.key), error.what);
        }
    }

    fn parquet(&mut self, parquet: &Parquet) {
        let before = self.0.len();
        let mut range = |path: &str, value: u64, min: u64, max: u64| {
            if !(min..=max).contains(&value) {
                self.add(path, format!("the value must be from {min} to {max}"));
            }
        };
        let u = u64::from;
        range("storage.parquet.file_bytes", parquet.file_bytes, 1 << 20, 4 << 30);
        range("storage.parquet.retention_days", u(parquet.retention_days), 0, 36_500);
        range("storage.parquet.seal_s", u(parquet.seal_s), 1, 86_400);
        range("storage.parquet.request_timeout_s", u(parquet.request_timeout_s), 1, 3_600);
        if !parquet.is_on() {
            return;
        }
        let secret = !parquet.secret_key_file.as_os_str().is_empty();
        if secret && parquet.access_key.is_empty() {
            self.add("storage.parquet.access_key", "`secret_key_file` is set; name its key");
        }
        if !secret && !parquet.access_key.is_empty() {
            let message = "`access_key` is set; write its secret into a file and name that";
            self.add("storage.parquet.secret_key_file", message);
        }
        if self.0.len() == before
            && let Err(error) = parquet.sink_config_without_secrets().validate()
        {
            self.add(format!("storage.parquet.{}", error.key), error.what);
        }
    }

    fn namespaces(&mut self, config: &Config) {
        if config.namespaces.len() > NAMESPACES_MAX {
            self.add("namespaces", format!("at most {NAMESPACES_MAX} namespaces"));
        }
        for (name, namespace) in &config.namespaces {
            let at = format!("namespaces.{name}");
            let legal = |byte: u8| byte.is_ascii_graphic() && byte != b':' && byte != b'.';
            if name.is_empty() || name.len() > 64 || !name.bytes().all(legal) {
                self.add(
                    format!("{at}.store"),
                    format!(
                        "{name:?} cannot name a namespace: 1 to 64 printable ASCII characters \
                             without colon, dot and space"
                    ),
                );
            }
            let Namespace { deliver, store, history_size, history_age_s, .. } = namespace;
            if *deliver == Deliver::Durable && !store {
                self.add(
                    format!("{at}.deliver"),
                    "events that are not stored never become durable, so nobody would see them; \
                     set store = true or deliver = \"live\"",
                );
            }
            if *history_size > HISTORY_SIZE_MAX {
                let message = format!("the value must be at most {HISTORY_SIZE_MAX}");
                self.add(format!("{at}.history_size"), message);
            }
            if *history_age_s > HISTORY_AGE_S_MAX {
                let message = format!("the value must be at most {HISTORY_AGE_S_MAX} (30 days)");
                self.add(format!("{at}.history_age_s"), message);
            }
        }
    }
}

fn is_loopback(address: &SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Scheme, `://`, host and maybe a port: the serialisation of RFC 6454 section 6.2, in lower case.
fn is_web_origin(text: &str) -> bool {
    let Some((scheme, host)) = text.split_once("://") else { return false };
    let scheme_ok = !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_lowercase());
    // All below a name, which must have a dot of its own: not all below `com`.
    let host = match host.strip_prefix("*.") {
        Some(name) if name.contains('.') => name,
        Some(_) => return false,
        None => host,
    };
    let host_byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:[]_".contains(&b);
    scheme_ok && !host.is_empty() && host.len() <= 255 && host.bytes().all(host_byte)
}

const LISTENERS_MAX: usize = 16;
const NAMESPACES_MAX: usize = 10_000;
const HISTORY_SIZE_MAX: u32 = 1_000_000;
const HISTORY_AGE_S_MAX: u32 = 30 * 86_400;
