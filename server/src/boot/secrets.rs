//! Secrets: random bits from the system's generator.

use super::BootError;
use crate::shard::Secrets;
use rustix::rand::{GetRandomFlags, getrandom};

/// 128 of them.
pub fn random() -> Result<u128, BootError> {
    let mut bytes = [0; 16];
    match getrandom(&mut bytes, GetRandomFlags::empty()) {
        Ok(16) => Ok(u128::from_le_bytes(bytes)),
        Ok(_) => Err(BootError::new("not enough random numbers", "check /dev/urandom")),
        Err(error) => {
            Err(BootError::new(format!("no random numbers: {error}"), "check /dev/urandom"))
        }
    }
}

/// What a shard draws secrets from. One that cannot be had is worse than a shard that stops.
pub fn source() -> Secrets {
    Box::new(|| random().expect("the system gave random numbers when the server started"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_two_are_alike() {
        let mut source = super::source();
        let drawn: std::collections::BTreeSet<u128> = (0..1_000).map(|_| source()).collect();
        assert_eq!(drawn.len(), 1_000);
        // Each bit is set in about half of them: 400 to 600 is six standard deviations.
        for bit in 0..128 {
            let set = drawn.iter().filter(|secret| *secret >> bit & 1 == 1).count();
            assert!((400..=600).contains(&set), "bit {bit} is set in {set} of 1,000");
        }
    }
}
