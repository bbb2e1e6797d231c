//! As much of DER (ITU-T X.690) as a public key needs: sequences, identifiers, integers, bit
//! strings. Definite lengths only; every length is checked against what is there.

/// Reads elements from the front of a slice.
pub(super) struct Reader<'a>(&'a [u8]);

pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The content of the next element, which must have this tag.
    pub(super) fn element(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (&own_tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => (usize::from(*rest.first()?), rest.get(1..)?),
            0x82 => (usize::from(u16::from_be_bytes(*rest.first_chunk()?)), rest.get(2..)?),
            // Keys are far below 64 KiB.
            _ => return None,
        };
        let content = rest.get(..length)?;
        self.0 = rest.get(length..)?;
        (own_tag == tag).then_some(content)
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.0.is_empty()
    }
}

/// The parts of a SubjectPublicKeyInfo (RFC 5280 section 4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PublicKeyInfo<'a> {
    /// The algorithm's identifier.
    pub(super) identifier: &'a [u8],
    /// The identifier in its parameters, if they are one.
    pub(super) parameters: Option<&'a [u8]>,
    pub(super) key: &'a [u8],
}

pub(super) fn public_key_info(der: &[u8]) -> Option<PublicKeyInfo<'_>> {
    let mut outer = Reader::new(der);
    let mut info = Reader::new(outer.element(SEQUENCE)?);
    let mut algorithm = Reader::new(info.element(SEQUENCE)?);
    let identifier = algorithm.element(OBJECT_IDENTIFIER)?;
    let parameters = algorithm.element(OBJECT_IDENTIFIER);
    // The first byte counts unused bits: there are none in a key.
    let (0, key) = info.element(BIT_STRING)?.split_first().map(|(unused, key)| (*unused, key))?
    else {
        return None;
    };
    (outer.is_at_end() && info.is_at_end()).then_some(PublicKeyInfo { identifier, parameters, key })
}

/// Modulus and exponent of an RSAPublicKey (RFC 8017 appendix A.1.1), without leading zeros.
pub(super) fn rsa_public_key(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut outer = Reader::new(der);
    let mut key = Reader::new(outer.element(SEQUENCE)?);
    let (modulus, exponent) = (key.element(INTEGER)?, key.element(INTEGER)?);
    let whole = outer.is_at_end() && key.is_at_end();
    whole.then(|| (without_zeros(modulus), without_zeros(exponent)))
}

/// Without the zero bytes in front.
pub(super) fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_is_not_there_ends_the_reading() {
        let cases: [&[u8]; 9] = [
            &[],
            &[0x30],
            &[0x30, 1],
            &[0x30, 0x81],
            &[0x30, 0x82, 1],
            &[0x30, 0x82, 1, 0, 0],
            &[0x30, 0x80, 0, 0],
            &[0x30, 0x84, 0, 0, 0, 0],
            &[0x31, 0],
        ];
        for bytes in cases {
            assert_eq!(Reader::new(bytes).element(SEQUENCE), None, "{bytes:?}");
            assert_eq!(public_key_info(bytes), None);
            assert_eq!(rsa_public_key(bytes), None);
        }
        assert_eq!(Reader::new(&[0x30, 1, 7, 9]).element(SEQUENCE), Some(&[7][..]));
        let key = [0x30, 7, 2, 2, 0, 9, 2, 1, 3];
        assert_eq!(rsa_public_key(&key), Some((&[9][..], &[3][..])));
        let unused_bits = [0x30, 9, 0x30, 3, 6, 1, 5, 3, 2, 1, 7];
        assert_eq!(public_key_info(&unused_bits), None);
    }
}
