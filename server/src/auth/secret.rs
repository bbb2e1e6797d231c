//! Text that is never shown.

use serde::{Deserialize, Serialize, Serializer};
use std::fmt;

/// A secret, a token or a key. Debug output and serialisation hide it; there is no `Display`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

/// What is shown instead.
const HIDDEN: &str = "(not shown)";

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself: only for the comparison or signature that it is there for.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "(empty)" } else { HIDDEN })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0.is_empty() { "" } else { HIDDEN })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_up_nowhere() {
        let secret = Secret::new("hunter2-canary");
        let shown = format!("{secret:?} {:#?}", Some(&secret));
        let json = serde_json::to_string(&secret).unwrap();
        assert!(!shown.contains("canary") && !json.contains("canary"), "{shown} {json}");
        assert_eq!(secret.reveal(), "hunter2-canary");
    }
}
