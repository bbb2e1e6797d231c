//! Keys that check signatures. A key knows which algorithms it is for, and its kind decides which
//! those can be: no header can make an RSA key a secret.

use super::algorithm::{Algorithm, AlgorithmSet};
use super::der;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use ring::{digest, hmac};
use rustls_pki_types::pem::{PemObject, SectionKind};
use std::fmt;

/// A key, and the name that a token's `kid` may give it.
pub struct Key {
    kid: Option<Box<str>>,
    algorithms: AlgorithmSet,
    material: Material,
}

enum Material {
    /// One for each hash.
    Hmac(Box<[hmac::Key; 3]>),
    Rsa(RsaPublicKeyComponents<Box<[u8]>>),
    EcP256(Box<[u8]>),
    EcP384(Box<[u8]>),
    Ed25519(Box<[u8]>),
}

impl fmt::Debug for Key {
    /// The kind and the name; never the material.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kind", &self.kind()).field("kid", &self.kid).finish()
    }
}

/// Why a key cannot be used, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error("a secret needs at least 32 bytes (RFC 7518); make one with `openssl rand -hex 32`")]
    SecretTooShort,
    #[error("this is a key file and no secret: name a public key in `auth.public_key_files`")]
    SecretIsPem,
    #[error(
        "there is no PEM public key in it; make it with `openssl pkey -in private.pem -pubout`"
    )]
    NoPublicKey,
    #[error(
        "it holds a private key, which has no business on this server; give it the public one: \
         `openssl pkey -in private.pem -pubout`"
    )]
    PrivateKey,
    #[error("it holds a certificate; take its key: `openssl x509 -in cert.pem -pubkey -noout`")]
    Certificate,
    #[error("the public key is of a kind that is not taken: use RSA, P-256, P-384 or Ed25519")]
    UnknownKind,
    #[error("an RSA key must have 2048 to 8192 bits and an odd exponent of at least 3")]
    RsaSize,
    #[error("the public key's length does not fit its kind")]
    Length,
    #[error("its algorithm does not fit its kind, or is not in `auth.algorithms`")]
    Algorithm,
}

/// The fewest bytes of a secret: what the shortest hash has (RFC 7518 section 3.2).
pub const SECRET_BYTES_MIN: usize = 32;

impl Key {
    /// A shared secret.
    pub fn secret(secret: &str) -> Result<Self, KeyError> {
        if secret.contains("-----BEGIN") {
            return Err(KeyError::SecretIsPem);
        }
        if secret.len() < SECRET_BYTES_MIN {
            return Err(KeyError::SecretTooShort);
        }
        let key = |algorithm| hmac::Key::new(algorithm, secret.as_bytes());
        let material =
            Box::new([key(hmac::HMAC_SHA256), key(hmac::HMAC_SHA384), key(hmac::HMAC_SHA512)]);
        Ok(Self::new(Material::Hmac(material), AlgorithmSet::HMAC))
    }

    /// The public key in a PEM file.
    pub fn public_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let mut error = KeyError::NoPublicKey;
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let Ok((kind, der)) = section else { return Err(KeyError::NoPublicKey) };
            error = match kind {
                SectionKind::PublicKey => return Self::public_der(&der),
                SectionKind::RsaPrivateKey
                | SectionKind::PrivateKey
                | SectionKind::EcPrivateKey => {
                    return Err(KeyError::PrivateKey);
                }
                SectionKind::Certificate => KeyError::Certificate,
                _ => error,
            };
        }
        Err(error)
    }

    fn public_der(der: &[u8]) -> Result<Self, KeyError> {
        let info = der::public_key_info(der).ok_or(KeyError::NoPublicKey)?;
        let key = info.key;
        match (info.identifier, info.parameters) {
            (OID_RSA, _) => {
                let (n, e) = der::rsa_public_key(key).ok_or(KeyError::NoPublicKey)?;
                Self::rsa(n, e)
            }
            (OID_EC, Some(OID_P256)) => Self::p256(key),
            (OID_EC, Some(OID_P384)) => Self::p384(key),
            (OID_ED25519, None) => Self::ed25519(key),
            _ => Err(KeyError::UnknownKind),
        }
    }

    /// An RSA key of a modulus and an exponent, big-endian.
    pub fn rsa(n: &[u8], e: &[u8]) -> Result<Self, KeyError> {
        let (n, e) = (der::without_zeros(n), der::without_zeros(e));
        let bits = n.first().map_or(0, |first| n.len() * 8 - first.leading_zeros() as usize);
        // The exponents that `ring` takes: odd, 3 to 2^33 - 1.
        let e_ok = match e {
            [one] => *one >= 3 && one % 2 == 1,
            [.., last] => last % 2 == 1 && (e.len() < 5 || (e.len() == 5 && e[0] < 2)),
            [] => false,
        };
        if !(2_048..=8_192).contains(&bits) || !e_ok {
            return Err(KeyError::RsaSize);
        }
        let material = Material::Rsa(RsaPublicKeyComponents { n: n.into(), e: e.into() });
        Ok(Self::new(material, AlgorithmSet::RSA))
    }

    /// A point of P-256, uncompressed.
    pub fn p256(point: &[u8]) -> Result<Self, KeyError> {
        let material = Material::EcP256(uncompressed(point, 32)?);
        Ok(Self::new(material, AlgorithmSet::of(&[Algorithm::Es256])))
    }

    /// A point of P-384, uncompressed.
    pub fn p384(point: &[u8]) -> Result<Self, KeyError> {
        let material = Material::EcP384(uncompressed(point, 48)?);
        Ok(Self::new(material, AlgorithmSet::of(&[Algorithm::Es384])))
    }

    /// An Ed25519 key.
    pub fn ed25519(key: &[u8]) -> Result<Self, KeyError> {
        if key.len() != 32 {
            return Err(KeyError::Length);
        }
        Ok(Self::new(Material::Ed25519(key.into()), AlgorithmSet::of(&[Algorithm::EdDsa])))
    }

    fn new(material: Material, algorithms: AlgorithmSet) -> Self {
        Self { kid: None, algorithms, material }
    }

    /// The same key under a name.
    #[must_use]
    pub fn named(mut self, kid: Option<&str>) -> Self {
        self.kid = kid.map(Into::into);
        self
    }

    /// The same key for these algorithms only.
    pub fn only(mut self, algorithms: AlgorithmSet) -> Result<Self, KeyError> {
        self.algorithms = self.algorithms.and(algorithms);
        if self.algorithms.is_empty() { Err(KeyError::Algorithm) } else { Ok(self) }
    }

    /// Its name.
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// True if it may check signatures of an algorithm.
    pub fn takes(&self, algorithm: Algorithm) -> bool {
        self.algorithms.has(algorithm)
    }

    /// What kind of key it is, for logs.
    pub fn kind(&self) -> &'static str {
        match self.material {
            Material::Hmac(_) => "secret",
            Material::Rsa(_) => "RSA",
            Material::EcP256(_) => "P-256",
            Material::EcP384(_) => "P-384",
            Material::Ed25519(_) => "Ed25519",
        }
    }

    /// True if `signature` is this key's over `message`. The algorithm must be one that it takes.
    pub(super) fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if !self.takes(algorithm) {
            return false;
        }
        match (&self.material, algorithm) {
            (Material::Hmac(keys), Algorithm::Hs256) => mac(&keys[0], message, signature),
            (Material::Hmac(keys), Algorithm::Hs384) => mac(&keys[1], message, signature),
            (Material::Hmac(keys), Algorithm::Hs512) => mac(&keys[2], message, signature),
            (Material::Rsa(key), Algorithm::Rs256) => {
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA256, message, signature).is_ok()
            }
            (Material::Rsa(key), Algorithm::Rs384) => {
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA384, message, signature).is_ok()
            }
            (Material::Rsa(key), Algorithm::Rs512) => {
                key.verify(&signature::RSA_PKCS1_2048_8192_SHA512, message, signature).is_ok()
            }
            (Material::EcP256(point), Algorithm::Es256) => {
                curve(&signature::ECDSA_P256_SHA256_FIXED, point, message, signature)
            }
            (Material::EcP384(point), Algorithm::Es384) => {
                curve(&signature::ECDSA_P384_SHA384_FIXED, point, message, signature)
            }
            (Material::Ed25519(key), Algorithm::EdDsa) => {
                curve(&signature::ED25519, key, message, signature)
            }
            _ => false,
        }
    }
}

/// In constant time, by the library.
fn mac(key: &hmac::Key, message: &[u8], signature: &[u8]) -> bool {
    hmac::verify(key, message, signature).is_ok()
}

fn curve(
    algorithm: &'static dyn signature::VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
}

fn uncompressed(point: &[u8], coordinate_bytes: usize) -> Result<Box<[u8]>, KeyError> {
    let fits = point.len() == 1 + 2 * coordinate_bytes && point.first() == Some(&4);
    if fits { Ok(point.into()) } else { Err(KeyError::Length) }
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// rsaEncryption, 1.2.840.113549.1.1.1.
const OID_RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
/// id-ecPublicKey, 1.2.840.10045.2.1.
const OID_EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
/// prime256v1, 1.2.840.10045.3.1.7.
const OID_P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
/// secp384r1, 1.3.132.0.34.
const OID_P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
/// id-Ed25519, 1.3.101.112.
const OID_ED25519: &[u8] = &[0x2b, 0x65, 0x70];
