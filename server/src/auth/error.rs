//! Why a token was refused, and what each protocol says about it.

use proto::reason::CloseReason;

/// Why a token was refused. Holds nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// More bytes than `auth.token_bytes_max`.
    #[error("the token is larger than `auth.token_bytes_max`")]
    TooLarge,
    /// Not three parts of base64url with JSON in them, or a claim of the wrong type.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// No such algorithm here, or not for the key that it names.
    #[error("no configured key takes the token's algorithm; see `auth.algorithms` and its keys")]
    Algorithm,
    /// No key of that name.
    #[error("no configured key has the token's `kid`")]
    UnknownKey,
    /// No key of that name yet: the key set is being fetched.
    #[error("the signing key is being fetched; try again in a few seconds")]
    KeysPending,
    /// The signature fits no key.
    #[error("the token's signature fits no configured key")]
    Signature,
    /// `exp` has passed.
    #[error("the token has expired; get a new one")]
    Expired,
    /// `nbf` is still to come.
    #[error("the token is not valid yet; compare the clocks, or raise `auth.clock_skew_s`")]
    NotYetValid,
    /// `aud` is not ours.
    #[error("the token's `aud` is not one of `auth.audience`")]
    Audience,
    /// `iss` is not ours.
    #[error("the token's `iss` is not `auth.issuer`")]
    Issuer,
    /// There is no `sub`.
    #[error("the token has no `sub`; give the user's id there, or \"\" for nobody in particular")]
    NoSubject,
    /// A subscription token where a connection token belongs, or the other way round.
    #[error(
        "the token is of the other kind: one for a subscription has `channel`, one for a \
             connection has not"
    )]
    WrongKind,
    /// A subscription token of another user.
    #[error("the subscription token's `sub` is not the connection's user")]
    User,
    /// A subscription token for another channel.
    #[error("the subscription token is for another channel")]
    Channel,
}

impl TokenError {
    /// True if the same token may be taken in a moment.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::KeysPending)
    }

    /// True if a new token of the same user would do.
    pub fn is_expired(self) -> bool {
        matches!(self, Self::Expired)
    }

    /// The error code of Centrifugo's client protocol: 109 makes an SDK fetch a new token.
    pub fn error_code(self) -> u32 {
        match self {
            Self::Expired => 109,
            Self::KeysPending => 100,
            _ => 101,
        }
    }

    /// How a connection ends that cannot go on with this token; `None` where an error is answered
    /// and the client may try again on the same connection.
    pub fn close_reason(self) -> Option<CloseReason> {
        match self {
            Self::Expired | Self::KeysPending => None,
            _ => Some(CloseReason::InvalidToken),
        }
    }

    /// The HTTP status.
    pub fn http_status(self) -> u16 {
        if self.is_temporary() { 503 } else { 401 }
    }

    /// The stable code of a JSON error.
    pub fn code(self) -> &'static str {
        match self {
            Self::Expired => "token_expired",
            Self::KeysPending => "keys_pending",
            _ => "invalid_token",
        }
    }
}
