//! Which driver serves: io_uring where it works, epoll everywhere else.
//!
//! Decided once at start, before any shard exists, by building and using a ring of the sizes the
//! shards will ask for. `auto` falls back and says why; an explicit `uring` fails instead, because
//! who asked for it wants to know. The reason is for one log line and one metric.

use super::DriverSizes;
use crate::uring::{UringUnavailable, probe};
use std::fmt;
use std::str::FromStr;

/// The driver that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// `uring::UringDriver`.
    Uring,
    /// `epoll::EpollDriver`.
    Epoll,
}

impl Engine {
    /// As metrics and logs name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        }
    }
}

/// What the configuration asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EngineChoice {
    /// io_uring if a ring can be built and used here, otherwise epoll.
    #[default]
    Auto,
    /// io_uring or fail.
    Uring,
    /// epoll.
    Epoll,
}

impl fmt::Display for EngineChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Epoll => "epoll",
        })
    }
}

impl FromStr for EngineChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "epoll" => Ok(Self::Epoll),
            other => Err(format!("engine `{other}` is not one of auto, uring, epoll")),
        }
    }
}

/// Resolves the choice. With the engine comes, after a fallback, why io_uring is not used and what
/// would change that.
pub fn choose(
    choice: EngineChoice,
    sizes: &DriverSizes,
) -> Result<(Engine, Option<UringUnavailable>), UringUnavailable> {
    resolve(choice, || probe(sizes))
}

fn resolve(
    choice: EngineChoice,
    probe: impl FnOnce() -> Result<(), UringUnavailable>,
) -> Result<(Engine, Option<UringUnavailable>), UringUnavailable> {
    match choice {
        EngineChoice::Epoll => Ok((Engine::Epoll, None)),
        EngineChoice::Uring => probe().map(|()| (Engine::Uring, None)),
        EngineChoice::Auto => Ok(match probe() {
            Ok(()) => (Engine::Uring, None),
            Err(why) => (Engine::Epoll, Some(why)),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused() -> Result<(), UringUnavailable> {
        Err(UringUnavailable { cause: "refused".into(), remedy: "allow it".into() })
    }

    #[test]
    fn auto_falls_back_with_the_reason_and_an_explicit_choice_is_never_changed() {
        assert_eq!(resolve(EngineChoice::Auto, || Ok(())), Ok((Engine::Uring, None)));
        assert_eq!(
            resolve(EngineChoice::Auto, refused),
            Ok((Engine::Epoll, Some(refused().unwrap_err())))
        );
        assert_eq!(resolve(EngineChoice::Uring, refused), Err(refused().unwrap_err()));
        let unasked = || panic!("epoll never touches io_uring");
        assert_eq!(resolve(EngineChoice::Epoll, unasked), Ok((Engine::Epoll, None)));
    }

    #[test]
    fn the_names_read_back() {
        for choice in [EngineChoice::Auto, EngineChoice::Uring, EngineChoice::Epoll] {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        assert!("URING".parse::<EngineChoice>().is_err());
    }
}
