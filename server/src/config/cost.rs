//! What the server costs, as the operator says, and the file that its live figures are compared
//! with.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::path::PathBuf;

/// Prices, in one currency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cost {
    pub server_hour: Price,
    pub per_gb: Price,
    pub calibration: PathBuf,
}

/// An amount of money, kept in billionths so that configurations can be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price(u64);

impl Price {
    /// As a number.
    pub fn amount(self) -> f64 {
        self.0 as f64 / BILLION
    }

    /// Nothing is known.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }
}

impl TryFrom<f64> for Price {
    type Error = String;

    fn try_from(amount: f64) -> Result<Self, String> {
        // NaN and infinities are outside, too.
        if !(0.0..=PRICE_MAX).contains(&amount) {
            return Err(format!("give a price from 0 to {PRICE_MAX}"));
        }
        Ok(Self((amount * BILLION).round() as u64))
    }
}

impl Serialize for Price {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.amount())
    }
}

impl<'de> Deserialize<'de> for Price {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        f64::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

const BILLION: f64 = 1e9;
const PRICE_MAX: f64 = 1e6;

#[cfg(test)]
mod tests {
    use crate::config::{Sources, load};

    #[test]
    fn prices_are_read_from_anywhere_and_nonsense_is_refused_by_name() {
        let set = |set: &str| Sources { sets: vec![set.to_owned()], ..Sources::default() };
        for (text, amount) in [("0.4", 0.4), ("2", 2.0), ("0", 0.0), ("1e-3", 0.001)] {
            let loaded = load(&set(&format!("cost.server_hour={text}"))).unwrap();
            assert_eq!(loaded.config.cost.server_hour.amount(), amount);
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("shardcast.toml");
            std::fs::write(&file, format!("[cost]\nserver_hour = {text}\n")).unwrap();
            let again = load(&Sources { file: Some(file), ..Sources::default() }).unwrap();
            assert_eq!(again.config, loaded.config);
        }
        for text in ["-1", "nan", "inf", "1e7", "much", ""] {
            let error = load(&set(&format!("cost.per_gb={text}"))).expect_err(text).to_string();
            assert!(error.contains("cost.per_gb"), "{error}");
        }
    }
}
