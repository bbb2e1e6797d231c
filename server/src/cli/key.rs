//! `shardcast key`.

use super::args::KeyArgs;
use super::{exit, fail};
use crate::auth::hash_of;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;
use rustix::rand::{GetRandomFlags, getrandom};
use std::io::Write;

pub(super) fn run(args: &KeyArgs) -> u8 {
    let mut random = [0_u8; KEY_BYTES];
    match getrandom(&mut random, GetRandomFlags::empty()) {
        Ok(KEY_BYTES) => {}
        _ => return fail(exit::INTERNAL, "the kernel gives no random bytes; try again"),
    }
    let key = format!("sc_{}", URL_SAFE_NO_PAD.encode(random));
    eprintln!(
        "{key}\n(shown this once: it goes to the service, and the table below to the server)"
    );
    // A reader that closed the pipe has what it wanted.
    let _ = std::io::stdout().lock().write_all(table(args, &key).as_bytes());
    exit::OK
}

/// The table for the configuration.
fn table(args: &KeyArgs, key: &str) -> String {
    let mut table = toml::Table::new();
    table.insert("name".to_owned(), args.name.clone().into());
    table.insert("hash".to_owned(), hash_of(key).into());
    table.insert("channels".to_owned(), args.channels.clone().into());
    let rights = args.allow.iter().filter_map(ValueEnum::to_possible_value);
    let rights: Vec<String> = rights.map(|right| right.get_name().to_owned()).collect();
    table.insert("allow".to_owned(), rights.into());
    let line = |key: &str| format!("{key} = {}", table[key]);
    let lines = ["name", "hash", "channels", "allow"].map(line).join("\n");
    let admin = if args.admin { "admin = true\n" } else { "" };
    // What is not in it is what a key is refused for most often.
    format!("\n[[api_keys]]\n{lines} # of publish, subscribe, history, presence\n{admin}")
}

/// As many as guessing has no hope against.
const KEY_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Right;
    use crate::config::{Sources, load};

    #[test]
    fn the_table_is_taken_by_the_configuration_and_its_key_by_the_table() {
        let args = KeyArgs {
            name: "o'b\"x".into(),
            channels: vec!["orders:*".into(), "x".into()],
            allow: vec![Right::History, Right::Presence],
            admin: true,
        };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("shardcast.toml");
        std::fs::write(&file, table(&args, "sc_key")).unwrap();
        let config = load(&Sources { file: Some(file), ..Sources::default() }).unwrap().config;
        let [key] = &config.api_keys[..] else { panic!("{:?}", config.api_keys) };
        assert_eq!((&key.name, &key.channels), (&args.name, &args.channels));
        assert_eq!((&key.allow, key.admin), (&args.allow, true));
        assert!(crate::auth::ApiKeys::new(vec![key.key().unwrap()]).find("sc_key").is_some());
    }
}
