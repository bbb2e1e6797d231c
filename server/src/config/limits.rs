//! Every limit of the server, in one place. The memory budget of a shard is a sum over these.

use serde::{Deserialize, Serialize};

/// Limits that a configuration may change. Units are in the names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections over all shards; 0 derives it from descriptors and memory.
    pub connections_max: u32,
    /// Memory the process may plan with, in bytes; 0 takes the cgroup's or the machine's.
    pub memory_bytes_max: u64,
    /// One message or event payload, in bytes.
    pub message_bytes_max: u32,
    /// A JSON array, JSON object or CloudEvents batch body, in bytes (NDJSON streams without this
    /// limit).
    pub body_bytes_max: u32,
    /// Request line and headers, in bytes.
    pub head_bytes_max: u32,
    /// Header fields in a request.
    pub headers_max: u16,
    /// Seconds from accept (or the previous answer) to the end of a request head.
    pub head_timeout_s: u32,
    /// Seconds without a byte while a body is expected.
    pub body_idle_timeout_s: u32,
    /// Seconds an idle keep-alive connection is kept.
    pub keep_alive_s: u32,
    /// Bytes of events that may wait for one subscriber.
    pub outbox_bytes_max: u32,
    /// Bytes not sent yet that the kernel may hold for one connection on top of that; 0 leaves it
    /// to the kernel.
    pub unsent_bytes_max: u32,
    /// Bytes the kernel may hold for one connection, sent or not; 0 leaves it to the kernel.
    pub send_buffer_bytes: u32,
    /// Channels one connection may subscribe to.
    pub channels_per_connection_max: u16,
    /// Channels over all shards.
    pub channels_max: u32,
    /// Bytes of history over all shards.
    pub history_bytes_max: u64,
    /// Events that a client of the client protocol gets from the spool when it recovers.
    pub recovery_events_max: u32,
    /// Bytes of them.
    pub recovery_bytes_max: u32,
    /// Ids remembered per channel for deduplication.
    pub dedupe_ids_max: u32,
    /// Seconds an id is remembered.
    pub dedupe_age_s: u32,
    /// Bytes of dedupe windows over all shards.
    pub dedupe_bytes_max: u64,
    /// Clients listed as members of one channel.
    pub presence_members_max: u32,
    /// Bytes of members over all shards.
    pub presence_bytes_max: u64,
    /// Commands that one client of the client protocol may send per second; 0: as many as it likes.
    pub client_commands_per_s_max: u32,
    /// Commands that all clients of one address may send per second; 0: as many as they like.
    pub address_commands_per_s_max: u32,
    /// Connections that one address may make per second; 0: as many as it likes.
    pub address_connects_per_s_max: u32,
    /// HTTP/2 connections over all shards (each is budgeted apart: they are heavy).
    pub h2_connections_max: u32,
    /// Buffers that a shard receives into.
    pub receive_buffers_max: u16,
    /// Concurrent streams on one HTTP/2 connection.
    pub h2_streams_max: u32,
    /// Seconds between heartbeats to an idle subscriber.
    pub heartbeat_s: u32,
    /// Seconds a peer may take to answer a ping.
    pub pong_timeout_s: u32,
    /// Seconds a publish may wait for a full lane before it is answered with 503.
    pub publish_wait_s: u32,
    pub stored_wait_s: u32,
    /// Seconds a count or a top over stored events may take before it is answered with 503.
    pub query_time_s: u32,
    /// Fragments of one WebSocket message.
    pub ws_fragments_max: u32,
    /// Ping and pong frames a WebSocket peer may send per second.
    pub ws_control_frames_per_s_max: u32,
    /// WebSocket messages of so many bytes and more are compressed for clients that offer it; 0
    /// declines all offers.
    pub ws_deflate_bytes_min: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_max: 0,
            memory_bytes_max: 0,
            message_bytes_max: 1 << 20,
            body_bytes_max: 16 << 20,
            head_bytes_max: 16 << 10,
            headers_max: 100,
            head_timeout_s: 10,
            body_idle_timeout_s: 30,
            keep_alive_s: 75,
            outbox_bytes_max: 1 << 20,
            unsent_bytes_max: 128 << 10,
            send_buffer_bytes: 0,
            channels_per_connection_max: 256,
            channels_max: 1_000_000,
            history_bytes_max: 256 << 20,
            recovery_events_max: 10_000,
            recovery_bytes_max: 512 << 10,
            dedupe_ids_max: 100_000,
            dedupe_age_s: 600,
            dedupe_bytes_max: 128 << 20,
            presence_members_max: 10_000,
            presence_bytes_max: 64 << 20,
            client_commands_per_s_max: 200,
            address_commands_per_s_max: 20_000,
            address_connects_per_s_max: 1_000,
            h2_connections_max: 1_000,
            // The kernel goes round them, so all are touched and resident whatever the load: 4 MiB.
            // With 1,024 they were more than half of what 15,000 idle connections took.
            receive_buffers_max: 256,
            h2_streams_max: 1_000,
            heartbeat_s: 25,
            pong_timeout_s: 15,
            publish_wait_s: 5,
            stored_wait_s: 30,
            query_time_s: 5,
            ws_fragments_max: 1_024,
            ws_control_frames_per_s_max: 100,
            ws_deflate_bytes_min: 256,
        }
    }
}
