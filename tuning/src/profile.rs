//! Core profiles: which threads run on which cores, and how large pools are, for a kind of machine.
//!
//! A profile is a TOML file. Five are embedded; a path to another works the same. `serve --profile`
//! and `tune --profile` read the same one: `[cores]` becomes a [`CoreMap`] on the topology found,
//! `[config]` is a layer of the configuration, above the defaults and below everything else.
//!
//! Placing is a pure function of topology, limits and profile. Tested in `map.rs` and on the trees
//! of `tests/`.

mod draw;
mod map;
mod place;

pub use draw::draw;
pub use map::CoreMap;
pub use place::{place, place_at};

use serde::Deserialize;
use std::fmt::Write;
use std::path::Path;

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What it is called.
    pub name: String,
    /// What it is for, in a line.
    pub summary: String,
    /// How cores are shared out.
    pub cores: Cores,
    /// Keys of the configuration by their dotted names. The server refuses those it does not know.
    #[serde(default)]
    pub config: toml::Table,
}

/// How cores are shared out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cores {
    /// CPUs from which on anything is kept from the shards; 0 is never.
    pub reserve_from: u32,
    /// One shard for each physical core; its other threads stay free.
    pub whole_cores: bool,
    /// Where there are two kinds of cores, shards on the fast ones only.
    pub fast_only: bool,
    /// CPUs for the control thread.
    pub control: u32,
    /// CPUs for the storage threads; 0 shares those of control.
    pub storage: u32,
    /// One CPU in so many for interrupts; 0 leaves them on the shards' CPUs, queue by queue.
    pub irq_one_in: u32,
}

impl Profile {
    /// The one by this name.
    pub fn named(name: &str) -> Option<Self> {
        let (_, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        Some(Self::parse(text).expect("the embedded profiles are valid; a test parses them"))
    }

    /// The names of those embedded.
    pub fn names() -> impl Iterator<Item = &'static str> {
        EMBEDDED.iter().map(|(name, _)| *name)
    }

    /// The file of an embedded one, comments and all.
    pub fn source(name: &str) -> Option<&'static str> {
        EMBEDDED.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
    }

    /// An embedded one by its name, or a file by its path.
    pub fn load(name_or_path: &str) -> Result<Self, String> {
        if let Some(profile) = Self::named(name_or_path) {
            return Ok(profile);
        }
        let names: Vec<&str> = Self::names().collect();
        if !name_or_path.contains(['/', '.']) {
            let names = names.join(", ");
            return Err(format!(
                "there is no profile `{name_or_path}`: it is one of {names}, or the path of a TOML file"
            ));
        }
        let text = std::fs::read_to_string(Path::new(name_or_path))
            .map_err(|error| format!("cannot read the profile {name_or_path}: {error}"))?;
        Self::parse(&text).map_err(|error| {
            format!(
                "{name_or_path}: {error}; `shardcast tune profile show large --source` prints one \
                     to start from"
            )
        })
    }

    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    /// All of them, a line each.
    pub fn list() -> String {
        let mut out = String::new();
        for name in Self::names() {
            let profile = Self::named(name).expect("it is embedded");
            let _ = writeln!(out, "  {:<13} {}", profile.name, profile.summary);
        }
        out
    }
}

const EMBEDDED: &[(&str, &str)] = &[
    ("small", include_str!("profile/small.toml")),
    ("standard", include_str!("profile/standard.toml")),
    ("large", include_str!("profile/large.toml")),
    ("edge", include_str!("profile/edge.toml")),
    ("ingest-heavy", include_str!("profile/ingest-heavy.toml")),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_profile_is_what_it_is_called() {
        for name in Profile::names() {
            let profile = Profile::parse(Profile::source(name).unwrap()).unwrap();
            assert_eq!(profile.name, name);
            assert!(
                !profile.config.values().any(|value| value.is_table()),
                "{name}: quote the keys"
            );
        }
    }

    #[test]
    fn a_profile_that_is_wrong_says_what_is_known() {
        let error = Profile::load("huge").unwrap_err();
        assert!(error.contains("small, standard, large, edge, ingest-heavy"), "{error}");
        assert!(Profile::load("./no-such-file.toml").unwrap_err().contains("cannot read"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("mine.toml");
        let own = Profile::source("large").unwrap().replace("whole_cores", "whole_coresx");
        std::fs::write(&path, own).unwrap();
        let error = Profile::load(path.to_str().unwrap()).unwrap_err();
        assert!(error.contains("whole_coresx"), "{error}");
    }
}
