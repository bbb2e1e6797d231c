//! The numbers of Centrifugo's client protocol: errors in replies, unsubscribe pushes, disconnects.
//!
//! One row a code: its number, its text, and, where this server sends it to end something, why and
//! what to do then; the reference page is generated from that. Numbers and texts are
//! those that its SDKs and servers know (centrifugal/centrifuge `errors.go`, `unsubscribe.go`,
//! `disconnect.go`); [`DisconnectCode::Shed`] and [`DisconnectCode::Idle`] are ours, from the range
//! left to applications.
//!
//! Invariant: no text is empty and none is valid JSON. centrifuge-js runs `JSON.parse` over a close
//! reason first and takes `reconnect` from what that gives, and it looks at terminal codes only if
//! there is a reason.
//!
//! Deliberately absent: why *this* server closes a connection of any protocol ([`crate::reason`]);
//! [`DisconnectCode::from_reason`] says it in this protocol's words.

use crate::reason::CloseReason;

/// Declares a table: the enumeration with its numbers, the list of all, and the texts.
macro_rules! codes {
    (
        $(#[$meta:meta])*
        $name:ident {
            $(
                $(#[$doc:meta])*
                $variant:ident = $number:literal $text:literal $(=> $help:literal)?,
            )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u16)]
        pub enum $name { $($(#[$doc])* $variant = $number,)* }

        impl $name {
            /// Every code, in the order of the numbers.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The number on the wire.
            pub const fn code(self) -> u16 {
                self as u16
            }

            /// The text that goes with it: never empty, never JSON.
            pub const fn text(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Why this server says it, and what to do then; empty if it does not by itself.
            pub const fn help(self) -> &'static str {
                match self { $(Self::$variant => concat!("" $(, $help)?),)* }
            }

            /// Reads a number from the wire.
            pub fn from_code(code: u32) -> Option<Self> {
                Self::ALL.iter().copied().find(|known| u32::from(known.code()) == code)
            }
        }
    };
}

codes! {
    /// Why a command failed; the connection goes on, except after a failed `connect`.
    ErrorCode {
        /// A fault of the server; try again.
        Internal = 100 "internal server error",
        /// Credentials are missing.
        Unauthorized = 101 "unauthorized",
        /// The channel's namespace does not exist.
        UnknownChannel = 102 "unknown channel",
        /// Not for this user.
        PermissionDenied = 103 "permission denied",
        /// No such command, or no such RPC method.
        MethodNotFound = 104 "method not found",
        /// The connection is subscribed already.
        AlreadySubscribed = 105 "already subscribed",
        /// A count or a size is over its limit.
        LimitExceeded = 106 "limit exceeded",
        /// The command was read but makes no sense; trying again does not either.
        BadRequest = 107 "bad request",
        /// The feature is not switched on.
        NotAvailable = 108 "not available",
        /// The token has expired: the SDK fetches a new one.
        TokenExpired = 109 "token expired",
        /// The connection or subscription has expired without a token being involved.
        Expired = 110 "expired",
        /// Over a rate; try again later.
        TooManyRequests = 111 "too many requests",
        /// What the history query or the recovery asked for is not kept any more.
        UnrecoverablePosition = 112 "unrecoverable position",
        /// Another page of the same pagination is under way.
        ConcurrentPagination = 113 "concurrent pagination",
    }
}

impl ErrorCode {
    /// True if the SDK should try the same command again by itself.
    pub const fn is_temporary(self) -> bool {
        matches!(self, Self::Internal | Self::TooManyRequests)
    }
}

codes! {
    /// Why the server ended a subscription.
    UnsubscribeCode {
        /// Somebody asked for it through the server API.
        Server = 2000 "server unsubscribe" => "the server API's `unsubscribe` asked for it; subscribe \
            again if that is wanted",
        /// A hole was found in what the subscription was sent.
        InsufficientState = 2500 "insufficient state",
        /// The subscription's token ran out and was not refreshed.
        Expired = 2501 "subscription expired" => "the subscription's token ran out and was not \
            refreshed; give the subscription a `getToken` that fetches a new one",
        /// What the client holds is not valid any more.
        StateInvalidated = 2502 "state invalidated",
    }
}

impl UnsubscribeCode {
    /// True if the SDK subscribes again by itself.
    pub const fn resubscribes(self) -> bool {
        self.code() >= 2500
    }
}

codes! {
    /// Why the server ended a connection.
    DisconnectCode {
        /// The peer closed first.
        ConnectionClosed = 3000 "connection closed",
        /// Drain: come back, somewhere else or in a moment.
        Shutdown = 3001 "shutdown" => "the server drains; nothing to do, another one or the next run \
            takes the client",
        /// A fault of the server.
        ServerError = 3004 "internal server error" => "a fault of the server; read its log",
        /// The connection's token ran out and was not refreshed.
        Expired = 3005 "connection expired" => "the token ran out and was not refreshed, or the server \
            API's `refresh` ended the connection; give the client a `getToken`",
        /// A subscription's token ran out and was not refreshed.
        SubscriptionExpired = 3006 "subscription expired" => "the `expire_at` of a subscription that \
            the server API made has passed; the backend subscribes the client again, or does not",
        /// The outbox is over its budget: the client reads too slowly.
        Slow = 3008 "slow" => "the client reads too slowly; publish less to it, ask for deltas, raise \
            `limits.outbox_bytes_max`, or let the namespace drop (`outbox_policy`)",
        /// Writing to the connection failed.
        WriteError = 3009 "write error",
        /// A hole was found in what this connection was sent.
        InsufficientState = 3010 "insufficient state" => "continuity could not be proved; nothing to \
            do, the client recovers",
        /// Somebody asked for it through the server API, and wants the client back.
        ForceReconnect = 3011 "force reconnect" => "no `connect` came within `limits.head_timeout_s`; \
            connect as soon as the socket is open",
        /// No pong within its time.
        NoPong = 3012 "no pong" => "a ping was not answered within `limits.pong_timeout_s`: the \
            network is gone, or the page was suspended",
        /// Over a rate.
        TooManyRequests = 3013 "too many requests" => "the server is short of memory for what waits, \
            or a rate was passed before `connect` was answered; send less, or raise `limits`",
        /// What the client holds is not valid any more.
        StateInvalidated = 3014 "state invalidated",
        /// The token is not one of ours.
        InvalidToken = 3500 "invalid token" => "the connection's token is not valid here, or a \
            subscription's is somebody else's or for another channel; the close text says what is wrong \
            with it",
        /// Bytes that cannot be read, or commands out of order.
        BadRequest = 3501 "bad request" => "what came cannot be read, is over \
            `limits.message_bytes_max`, or came before `connect`; the close text may say more. Mend the \
            client, or raise the limit",
        /// No `connect` within its time.
        Stale = 3502 "stale",
        /// Somebody asked for it through the server API.
        ForceDisconnect = 3503 "force disconnect" => "the server API's `disconnect` asked for it, \
            without a code of its own",
        /// The user has too many connections.
        ConnectionLimit = 3504 "connection limit",
        /// The connection wants too many channels.
        ChannelLimit = 3505 "channel limit" => "the token names more channels than \
            `limits.channels_per_connection_max`; name fewer, or raise it",
        /// The data cannot be sent in the connection's encoding.
        InappropriateProtocol = 3506 "inappropriate protocol",
        /// The user may not be here.
        PermissionDenied = 3507 "permission denied",
        /// What was asked without an id, so that no error can be sent, is not switched on.
        NotAvailable = 3508 "not available",
        /// Too many commands failed.
        TooManyErrors = 3509 "too many errors" => "the client went on sending after many errors 111; \
            send less, or raise `limits.client_commands_per_s_max`",
        /// The server sheds load: come back later.
        Shed = 4000 "load shed, come back later",
        /// The user did nothing for too long: the application reconnects at the next activity.
        Idle = 4501 "idle",
    }
}

impl DisconnectCode {
    /// True if the SDK gives up instead of reconnecting.
    pub const fn is_terminal(self) -> bool {
        is_terminal(self.code())
    }

    /// A reason of this server in the words of this protocol. Where a reason has a code of this
    /// protocol already, it is the same one.
    pub const fn from_reason(reason: CloseReason) -> Self {
        match reason {
            CloseReason::Shutdown => Self::Shutdown,
            CloseReason::Slow => Self::Slow,
            CloseReason::InsufficientState => Self::InsufficientState,
            CloseReason::Overload => Self::TooManyRequests,
            CloseReason::NoPong => Self::NoPong,
            CloseReason::Timeout => Self::ForceReconnect,
            CloseReason::ProtocolError
            | CloseReason::InvalidUtf8
            | CloseReason::MessageTooBig
            | CloseReason::PolicyViolation => Self::BadRequest,
            CloseReason::Expired => Self::Expired,
            CloseReason::InvalidToken => Self::InvalidToken,
            CloseReason::Normal => Self::ConnectionClosed,
            CloseReason::Internal => Self::ServerError,
        }
    }
}

/// What every SDK does with a close code: true if it does not reconnect. 1009 is WebSocket's own
/// "message too big", which would only be sent again.
pub const fn is_terminal(code: u16) -> bool {
    matches!(code, 3500..4000 | 4500..5000 | 1009)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reason::REASONS;
    use crate::ws::{CLOSE_REASON_BYTES_MAX, is_close_code};
    use serde_json::Value;

    fn safe(text: &str) {
        assert!(!text.is_empty() && text.len() <= CLOSE_REASON_BYTES_MAX, "{text}");
        assert!(serde_json::from_str::<Value>(text).is_err(), "{text}");
    }

    #[test]
    fn every_text_is_safe_in_a_close_frame_and_numbers_read_back() {
        for code in ErrorCode::ALL {
            safe(code.text());
            assert_eq!(ErrorCode::from_code(code.code().into()), Some(*code));
        }
        for code in UnsubscribeCode::ALL {
            safe(code.text());
            assert_eq!(UnsubscribeCode::from_code(code.code().into()), Some(*code));
            assert_eq!(code.resubscribes(), *code != UnsubscribeCode::Server);
        }
        for code in DisconnectCode::ALL {
            safe(code.text());
            assert_eq!(DisconnectCode::from_code(code.code().into()), Some(*code));
            assert!(is_close_code(code.code()));
        }
        assert_eq!(ErrorCode::from_code(0), None);
    }

    #[test]
    fn a_terminal_code_is_one_that_the_sdks_do_not_reconnect_after() {
        let check = |code, expected| assert_eq!(is_terminal(code), expected, "{code}");
        check(1000, false);
        check(1009, true);
        check(3499, false);
        check(3500, true);
        check(3999, true);
        check(4000, false);
        check(4499, false);
        check(4500, true);
        check(4999, true);
        assert!(DisconnectCode::Idle.is_terminal() && !DisconnectCode::Shed.is_terminal());
    }

    #[test]
    fn the_two_tables_agree_where_they_meet() {
        for row in REASONS {
            let code = DisconnectCode::from_reason(row.reason);
            // After the peer's own close nothing is told to anybody.
            let normal = row.reason == CloseReason::Normal;
            assert!(normal || code.is_terminal() != row.resumable, "{row:?}");
            // What ends a connection is explained on the reference page.
            assert_eq!(code.help().is_empty(), normal, "{row:?}");
            if row.ws_code >= 3000 {
                assert_eq!(code.code(), row.ws_code, "{row:?}");
            }
        }
    }
}
