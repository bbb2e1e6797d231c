//! What bounds one HTTP/2 connection, and what each bound means when it is reached.

/// Limits of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct H2Limits {
    /// Concurrent streams; more are refused with REFUSED_STREAM.
    pub streams_max: u32,
    /// Request head as RFC 9113 counts it (names, values, 32 a field); more is answered 431 or
    /// ends the connection.
    pub head_list_bytes_max: u32,
    /// Body bytes of all streams that may be unreleased: the publisher's memory budget.
    pub connection_window_bytes: u32,
    /// The same for one stream.
    pub stream_window_bytes: u32,
    /// Output that waits to be taken; more stops reading and writing. Passed by at most one write
    /// (32 KiB).
    pub output_bytes_max: usize,
    /// Response bytes of all streams that may wait for the peer's windows; a piece that passes it
    /// resets its stream.
    pub queued_bytes_max: usize,
    /// RST_STREAM frames per second, and at once; more ends the connection with
    /// ENHANCE_YOUR_CALM. Cancelling a streaming response (SSE) does not count.
    pub resets_per_s_max: u32,
    /// SETTINGS, PING, PRIORITY, WINDOW_UPDATE, unknown and empty DATA frames per second, and at
    /// once, beyond those that real work explains; more ends the connection with
    /// ENHANCE_YOUR_CALM.
    pub control_frames_per_s_max: u32,
}

impl Default for H2Limits {
    fn default() -> Self {
        Self {
            streams_max: 1_000,
            head_list_bytes_max: 16 << 10,
            connection_window_bytes: 4 << 20,
            stream_window_bytes: 1 << 20,
            output_bytes_max: 64 << 10,
            queued_bytes_max: 4 << 20,
            resets_per_s_max: 200,
            control_frames_per_s_max: 200,
        }
    }
}

impl H2Limits {
    /// Refuses what the protocol does not allow.
    ///
    /// # Panics
    /// When a window is over 2^31-1, the connection window is below the 65,535 that every peer
    /// starts with, or a limit is zero: a fault of the configuration's bounds, not of a peer.
    pub fn check(&self) {
        assert!(self.streams_max > 0, "streams_max must not be zero");
        assert!(self.head_list_bytes_max > 0, "head_list_bytes_max must not be zero");
        assert!(self.output_bytes_max > 0, "output_bytes_max must not be zero");
        //= rfc9113#6.9.1
        // A window never exceeds 2^31-1.
        assert!(self.connection_window_bytes <= WINDOW_BYTES_MAX, "connection window over 2^31-1");
        assert!(self.stream_window_bytes <= WINDOW_BYTES_MAX, "stream window over 2^31-1");
        //= rfc9113#6.9.2
        // The connection window starts at 65,535 and only grows.
        assert!(self.connection_window_bytes >= 65_535, "connection window below 65,535");
        assert!(self.stream_window_bytes > 0, "a stream window of zero stops every body");
    }
}

const WINDOW_BYTES_MAX: u32 = (1 << 31) - 1;
