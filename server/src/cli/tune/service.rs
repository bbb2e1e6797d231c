//! What `tune render` writes into a unit or a pod: every value that somebody gave, in a form that
//! `serve` reads the same way.

use super::args::TargetFlags;
use crate::config::layers::{self, Loaded};
use crate::config::{Origin, schema};
use std::path::Path;
use toml::Value;
use tuning::profile::Profile;
use tuning::render::{Kind, Service, Setting};

/// The service that these flags ask for. `loaded` is the configuration they make.
pub(super) fn service(flags: &TargetFlags, loaded: &Loaded) -> Service {
    let program = std::env::current_exe().unwrap_or_else(|_| "/usr/local/bin/shardcast".into());
    let program = program.to_string_lossy().into_owned();
    let mut service = Service { program, ..Service::default() };
    if let Some(file) = flags.flags.sources().file {
        let (name, value) = ("SHARDCAST_CONFIG".to_owned(), absolute(&file.to_string_lossy()));
        service.settings.push(Setting { name, value, kind: Kind::File });
    }
    let here =
        |origin: &Origin| matches!(origin, Origin::Environment(_) | Origin::Set | Origin::Flag(_));
    for (path, value, origin) in &loaded.values {
        // What is relative in the file is relative to where `serve` is started.
        if here(origin) || is_relative(path, value, origin) {
            add(&mut service, path, value);
        }
    }
    for (path, given) in [
        ("limits.memory_bytes_max", flags.memory),
        ("limits.heartbeat_s", flags.heartbeat.map(u64::from)),
    ] {
        if let Some(given) = given {
            service.settings.retain(|setting| Some(&setting.name) != variable(path).as_ref());
            add(&mut service, path, &Value::Integer(i64::try_from(given).unwrap_or(i64::MAX)));
        }
    }
    for (flag, given) in [
        ("--lb-timeout", flags.lb_timeout.map(u64::from)),
        ("--connects-per-s", flags.connects_per_s),
    ] {
        if let Some(given) = given {
            service.target.extend([flag.to_owned(), given.to_string()]);
        }
    }
    service
}

fn is_relative(path: &str, value: &Value, origin: &Origin) -> bool {
    let Origin::File { .. } = origin else { return false };
    let named = value.as_str().unwrap_or_default();
    kind(path, named) != Kind::Text && Path::new(named).is_relative()
}

fn add(service: &mut Service, path: &str, value: &Value) {
    let Some(mut text) = layers::text_of(value) else { return };
    let name = variable(path);
    if schema::is_secret(path) {
        service.secrets.extend(name);
        return;
    }
    let kind = kind(path, &text);
    if kind != Kind::Text {
        text = absolute(&text);
    } else if path.ends_with("_files") {
        text = text.split(',').map(absolute).collect::<Vec<_>>().join(",");
    }
    match name {
        Some(name) => service.settings.push(Setting { name, value: text, kind }),
        None => service.arguments.extend(["--set".to_owned(), format!("{path}={text}")]),
    }
}

/// The variable for a key, if there is one that means it.
fn variable(path: &str) -> Option<String> {
    let name = format!("SHARDCAST_{}", path.replace('.', "__").to_ascii_uppercase());
    let sound = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    (sound && layers::path_of(&name).as_deref() == Some(path)).then_some(name)
}

/// What a key's value is.
fn kind(path: &str, value: &str) -> Kind {
    match path.rsplit('.').next().unwrap_or(path) {
        _ if value.is_empty() => Kind::Text,
        "profile" if Profile::named(value).is_none() => Kind::File,
        "ca_file" | "jwks_ca_file" | "cert" | "calibration" => Kind::File,
        "key" => Kind::SecretFile,
        name if name.ends_with("_file") => Kind::SecretFile,
        "data_dir" => Kind::Folder,
        "location" if !value.contains("://") => Kind::Folder,
        _ => Kind::Text,
    }
}

/// From the root: a service does not run where this does.
fn absolute(path: &str) -> String {
    let path = Path::new(path);
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let path = path.canonicalize().unwrap_or(path);
    path.to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::args::ConfigFlags;
    use crate::config::{Sources, load};

    fn of(sets: &[&str]) -> (Service, Loaded) {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let loaded = load(&Sources { sets: sets.clone(), ..Sources::default() }).unwrap();
        let flags = TargetFlags {
            flags: ConfigFlags { set: sets, ..ConfigFlags::default() },
            ..TargetFlags::default()
        };
        (service(&flags, &loaded), loaded)
    }

    /// Read back as `serve` reads them, the values are those that were given.
    #[test]
    fn every_value_that_was_given_is_read_back() {
        let (service, loaded) = of(&[
            "listen=0.0.0.0:8000,[::1]:8001",
            "allow_anonymous=true",
            "shards=3",
            "server_name=100%-of-$c",
            "limits.connections_max=77",
            "cost.server_hour=0.25",
            "namespaces.orders.store=false",
            "namespaces.Big-One.history_size=5",
        ]);
        let mut again = load(&Sources {
            environment: service
                .settings
                .iter()
                .map(|it| (it.name.clone(), it.value.clone()))
                .collect(),
            sets: service.arguments.iter().filter(|word| *word != "--set").cloned().collect(),
            ..Sources::default()
        })
        .unwrap();
        assert_eq!(again.config, loaded.config);
        assert_eq!(service.arguments, ["--set", "namespaces.Big-One.history_size=5"]);
        again.config.shards = 4;
        assert_ne!(again.config, loaded.config);
    }

    #[test]
    fn files_are_named_from_the_root_and_secrets_are_not_written() {
        let (service, _) = of(&[
            "tls.cert=a/cert.pem",
            "tls.key=a/key.pem",
            "admin_token=0123456789abcdef0123456789abcdef",
        ]);
        let here = std::env::current_dir().unwrap().canonicalize().unwrap();
        let file = |name: &str| here.join(name).display().to_string();
        assert_eq!(service.value("SHARDCAST_TLS__CERT"), Some(file("a/cert.pem").as_str()));
        assert_eq!(service.value("SHARDCAST_TLS__KEY"), Some(file("a/key.pem").as_str()));
        let kinds: Vec<Kind> = service.settings.iter().map(|it| it.kind).collect();
        assert_eq!(kinds, [Kind::File, Kind::SecretFile]);
        assert_eq!(service.secrets, ["SHARDCAST_ADMIN_TOKEN"]);
        assert!(!format!("{service:?}").contains("0123456789abcdef"));
    }
}
