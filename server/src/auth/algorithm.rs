//! Signature algorithms (RFC 7518 section 3.1, RFC 8037): those there are, and sets of them.

/// An algorithm. There is no `none`, and nothing that encrypts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
    EdDsa,
}

impl Algorithm {
    /// All of them, in the order of the enum.
    pub const ALL: [Self; 9] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// The name in a token's header.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// By its name, exactly as written. `Ed25519` is RFC 9864's name for what `EdDSA` is here.
    pub fn parse(name: &str) -> Option<Self> {
        if name == "Ed25519" {
            return Some(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }
}

/// A set of algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AlgorithmSet(u16);

impl AlgorithmSet {
    /// HMAC, for secrets.
    pub const HMAC: Self = Self::of(&[Algorithm::Hs256, Algorithm::Hs384, Algorithm::Hs512]);
    /// RSA with PKCS #1 v1.5.
    pub const RSA: Self = Self::of(&[Algorithm::Rs256, Algorithm::Rs384, Algorithm::Rs512]);
    /// Everything.
    pub const ALL: Self = Self::of(&Algorithm::ALL);

    /// A set of these.
    pub const fn of(algorithms: &[Algorithm]) -> Self {
        let (mut bits, mut at) = (0, 0);
        while at < algorithms.len() {
            bits |= 1 << algorithms[at] as u16;
            at += 1;
        }
        Self(bits)
    }

    /// What is in both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if it has this one.
    pub const fn has(self, algorithm: Algorithm) -> bool {
        self.0 & (1 << algorithm as u16) != 0
    }

    /// True if it has none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_exact_and_none_is_no_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
            assert!(AlgorithmSet::ALL.has(algorithm));
            assert!(AlgorithmSet::of(&[algorithm]).has(algorithm));
        }
        for bad in ["none", "None", "NONE", "nOnE", "", "hs256", "HS256 ", "PS256", "ES512"] {
            assert_eq!(Algorithm::parse(bad), None, "{bad}");
        }
        assert!(AlgorithmSet::HMAC.and(AlgorithmSet::RSA).is_empty());
    }
}
