//! The text of a token: three parts of base64url, a header, claims (RFC 7515, RFC 7519), in the
//! vocabulary of Centrifugo.
//!
//! Claims that are not known are ignored, as RFC 7519 wants; a known one of the wrong type, or
//! twice, makes the token malformed. References to keys in the header (`jku`, `x5u`, `jwk`) are not
//! known here, so they are never followed.

use super::algorithm::Algorithm;
use super::error::TokenError;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

/// The longest `kid`.
pub(super) const KID_BYTES_MAX: usize = 256;

/// A token taken apart, its signature not checked.
pub(super) struct Parts<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// Header and payload as they were signed.
    pub(super) signed: &'a [u8],
    pub(super) payload: &'a str,
    pub(super) signature: Vec<u8>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood (RFC 7515 section 4.1.11): none is.
    crit: Option<IgnoredAny>,
}

/// Takes a token apart.
pub(super) fn split(token: &str) -> Result<Parts<'_>, TokenError> {
    let malformed = TokenError::Malformed;
    let (signed, signature) = token.rsplit_once('.').ok_or(malformed("it has no three parts"))?;
    let (header, payload) = signed.split_once('.').ok_or(malformed("it has no three parts"))?;
    if payload.contains('.') {
        return Err(malformed("it has more than three parts"));
    }
    let header = decode(header)?;
    let header: Header = serde_json::from_slice(&header)
        .map_err(|_| malformed("its header is not JSON with `alg`"))?;
    if header.crit.is_some() {
        return Err(malformed("its header has `crit`"));
    }
    if header.kid.as_ref().is_some_and(|kid| kid.len() > KID_BYTES_MAX) {
        return Err(malformed("its `kid` is longer than 256 bytes"));
    }
    let algorithm = Algorithm::parse(&header.alg).ok_or(TokenError::Algorithm)?;
    let signature = decode(signature)?;
    Ok(Parts { algorithm, kid: header.kid, signed: signed.as_bytes(), payload, signature })
}

/// Base64url without padding, and only the one way to write it.
pub(super) fn decode(text: &str) -> Result<Vec<u8>, TokenError> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed("a part is not base64url"))
}

/// Everything that is known, of either kind of token.
#[derive(Deserialize)]
pub(super) struct Claims<'a> {
    pub(super) sub: Option<String>,
    pub(super) exp: Option<Date>,
    pub(super) nbf: Option<Date>,
    /// Only its type is looked at.
    #[serde(rename = "iat")]
    _iat: Option<Date>,
    pub(super) jti: Option<String>,
    pub(super) aud: Option<OneOrMore>,
    pub(super) iss: Option<String>,
    pub(super) expire_at: Option<Date>,
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    pub(super) b64info: Option<String>,
    #[serde(borrow)]
    pub(super) meta: Option<&'a RawValue>,
    pub(super) channel: Option<String>,
    pub(super) channels: Option<Vec<String>>,
    #[serde(borrow)]
    pub(super) subs: Option<Pairs<SubscriptionClaims<'a>>>,
    pub(super) caps: Option<Vec<CapabilityClaims>>,
    #[serde(rename = "override")]
    pub(super) overrides: Option<Overrides>,
}

/// The options of one channel in `subs`.
#[derive(Deserialize)]
pub(super) struct SubscriptionClaims<'a> {
    #[serde(borrow)]
    pub(super) info: Option<&'a RawValue>,
    pub(super) b64info: Option<String>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
    pub(super) b64data: Option<String>,
    #[serde(rename = "override")]
    pub(super) overrides: Option<Overrides>,
}

/// One entry of `caps`.
#[derive(Deserialize)]
pub(super) struct CapabilityClaims {
    pub(super) channels: Vec<String>,
    #[serde(rename = "match")]
    pub(super) matching: Option<String>,
    pub(super) allow: Vec<String>,
}

/// What a token changes of a namespace's options for one subscription; `None` leaves it. A misspelt
/// name is refused: it would show somebody who was to be hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overrides {
    /// The subscriber shows up in presence.
    #[serde(default, deserialize_with = "flag")]
    pub presence: Option<bool>,
    /// The subscriber hears who joins and leaves.
    #[serde(default, deserialize_with = "flag")]
    pub join_leave: Option<bool>,
    /// ... whether it asked or not.
    #[serde(default, deserialize_with = "flag")]
    pub force_push_join_leave: Option<bool>,
    /// The subscription's continuity is watched.
    #[serde(default, deserialize_with = "flag")]
    pub force_positioning: Option<bool>,
    /// The subscription can be recovered.
    #[serde(default, deserialize_with = "flag")]
    pub force_recovery: Option<bool>,
}

/// `{"value": true}`.
fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    #[derive(Deserialize)]
    struct Flag {
        value: bool,
    }
    Ok(Option::<Flag>::deserialize(deserializer)?.map(|flag| flag.value))
}

/// Raw JSON or base64, as bytes; `info` and `b64info`, `data` and `b64data`.
pub(super) fn raw_or_base64(
    raw: Option<&RawValue>,
    base64: Option<&str>,
) -> Result<Option<Bytes>, TokenError> {
    match (base64.filter(|text| !text.is_empty()), raw) {
        (Some(text), _) => {
            let bytes = STANDARD.decode(text);
            let bytes = bytes.map_err(|_| TokenError::Malformed("`b64info` is not base64"))?;
            Ok(Some(bytes.into()))
        }
        (None, Some(raw)) if raw.get() != "null" => Ok(Some(Bytes::from(raw.get().to_owned()))),
        (None, _) => Ok(None),
    }
}

/// Seconds since the Unix epoch; JSON numbers with a fraction are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Date(pub(super) i64);

/// 31 December 9999: what is later is "never" in all but name.
const DATE_MAX: i64 = 253_402_300_799;

impl<'de> Deserialize<'de> for Date {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = Date;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("seconds since 1970")
            }

            fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Date, E> {
                Ok(Date(seconds.clamp(-DATE_MAX, DATE_MAX)))
            }

            fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Date, E> {
                Ok(Date(i64::try_from(seconds).unwrap_or(DATE_MAX).min(DATE_MAX)))
            }

            fn visit_f64<E: de::Error>(self, seconds: f64) -> Result<Date, E> {
                if !seconds.is_finite() {
                    return Err(E::custom("not a finite number"));
                }
                // Saturates, which the clamp then bounds.
                Ok(Date((seconds.floor() as i64).clamp(-DATE_MAX, DATE_MAX)))
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}

/// A text or a list of texts.
pub(super) struct OneOrMore(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Texts;
        impl<'de> Visitor<'de> for Texts {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text or a list of texts")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore(vec![text.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore(texts))
            }
        }
        deserializer.deserialize_any(Texts)
    }
}

/// The most members of such an object.
const PAIRS_MAX: usize = 256;

/// An object as a list; a key that is there twice is an error.
pub(super) struct Pairs<T>(pub(super) Vec<(String, T)>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Pairs<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
            type Value = Pairs<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs<T>, A::Error> {
                let mut pairs: Vec<(String, T)> = Vec::new();
                while let Some((key, value)) = map.next_entry::<String, T>()? {
                    let twice = pairs.iter().any(|(other, _)| *other == key);
                    if twice || pairs.len() == PAIRS_MAX {
                        return Err(de::Error::custom("a key is there twice, or too many"));
                    }
                    pairs.push((key, value));
                }
                Ok(Pairs(pairs))
            }
        }
        deserializer.deserialize_map(Members(PhantomData))
    }
}
