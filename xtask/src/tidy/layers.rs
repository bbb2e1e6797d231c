//! Who may use whom: between packages, read from the manifests, and between the parts of a package,
//! read from the code.

use super::text::has_word;
use super::{File, Findings};

/// Runs both.
pub fn check(files: &[File], findings: &mut Findings) {
    for file in files.iter().filter(|file| file.path.ends_with("Cargo.toml")) {
        check_manifest(file, findings);
    }
    for file in files.iter().filter(|file| !file.is_test()) {
        check_walls(file, findings);
    }
}

/// The packages of the workspace that a package may depend on. Who is not listed may use all.
const MAY_USE: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("tuning", &[]),
    ("xtask", &[]),
    ("storage", &["proto"]),
    ("server", &["proto", "storage", "tuning"]),
];

const PACKAGES: &[&str] =
    &["proto", "server", "storage", "bench", "counts", "tuning", "tests", "fuzz", "xtask"];

fn check_manifest(file: &File, findings: &mut Findings) {
    let folder = file.path.strip_suffix("/Cargo.toml").unwrap_or_default();
    if folder.is_empty() {
        return;
    }
    let package = folder.rsplit('/').next().unwrap_or(folder);
    let allowed = MAY_USE.iter().find(|(name, _)| *name == package).map(|(_, allowed)| *allowed);
    for Dependency { name, line, inherited } in dependencies(&file.text) {
        if !inherited {
            let message =
                format!("`{name}` is not declared once, at the root; use `workspace = true`");
            findings.error(&file.path, line, &message);
        }
        let own = PACKAGES.contains(&name.as_str());
        if own && allowed.is_some_and(|allowed| !allowed.contains(&name.as_str())) {
            let message = format!("`{package}` must not depend on `{name}`");
            findings.error(&file.path, line, &message);
        }
    }
    let lints =
        file.text.contains("[lints]\nworkspace = true") || file.text.contains("[lints.rust]");
    if !lints {
        findings.error(&file.path, 0, "the workspace's lints are not inherited");
    }
}

struct Dependency {
    name: String,
    line: usize,
    /// Version and features come from the root.
    inherited: bool,
}

/// The dependencies of a manifest, of whichever kind; our manifests have one entry a line.
fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut inside = false;
    for (index, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            // [dependencies.name]
            if let Some((_, name)) = section.split_once("dependencies.") {
                let inherited = manifest.contains(&format!("{section}]\nworkspace = true"));
                found.push(Dependency { name: name.to_owned(), line: index + 1, inherited });
            }
        } else if inside
            && !line.starts_with('#')
            && let Some((key, value)) = line.split_once('=')
        {
            let name = key.trim().split('.').next().unwrap_or_default().to_owned();
            let inherited =
                key.trim().ends_with(".workspace") || value.contains("workspace = true");
            found.push(Dependency { name, line: index + 1, inherited });
        }
    }
    found
}

/// What a part of the tree must not name.
struct Wall {
    /// Paths that start like this ...
    around: &'static str,
    /// ... but not like one of these.
    except: &'static [&'static str],
    banned: &'static [&'static str],
    why: &'static str,
}

const SOCKETS_CLOCKS_THREADS: &[&str] = &[
    "std::net::Tcp",
    "std::net::Udp",
    "std::fs",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "tokio::net",
    "tokio::time",
    "tokio::spawn",
];

const WALLS: &[Wall] = &[
    Wall {
        around: "",
        except: &["server/src/uring/", "server/src/epoll/"],
        banned: &["unsafe"],
        why: "unsafe code lives in server/src/uring and server/src/epoll only",
    },
    Wall {
        around: "proto/src/",
        except: &[],
        banned: SOCKETS_CLOCKS_THREADS,
        why: "proto is sans-IO: bytes and the time come from the caller",
    },
    Wall {
        around: "server/src/shard/",
        except: &[],
        banned: SOCKETS_CLOCKS_THREADS,
        why: "the shard is a pure state machine: inputs and the time come from the reactor",
    },
    Wall {
        around: "server/src/shard/",
        except: &[],
        banned: &["crate::uring", "crate::epoll", "crate::reactor", "crate::boot", "tokio"],
        why: "the shard knows neither who drives it nor a runtime",
    },
    Wall {
        around: "server/src/uring/",
        except: &[],
        banned: &["crate::shard", "crate::reactor", "crate::control", "proto", "tokio"],
        why: "a driver moves bytes and does not know what they mean",
    },
    Wall {
        around: "server/src/epoll/",
        except: &[],
        banned: &["crate::shard", "crate::reactor", "crate::control", "proto", "tokio"],
        why: "a driver moves bytes and does not know what they mean",
    },
    Wall {
        around: "storage/src/",
        except: &["storage/src/clickhouse/", "storage/src/parquet/", "storage/src/sink/stop.rs"],
        banned: &["std::net::Tcp", "tokio"],
        why: "the spool knows files, not sockets; only sinks have clients, on threads of their own",
    },
];

fn check_walls(file: &File, findings: &mut Findings) {
    let Some(views) = &file.views else { return };
    for wall in WALLS {
        let excepted = wall.except.iter().any(|path| file.path.starts_with(path));
        if !file.path.starts_with(wall.around) || excepted {
            continue;
        }
        for (index, line) in code_before_tests(&views.code) {
            for banned in wall.banned.iter().filter(|banned| has_word(line, banned)) {
                let message = format!("`{banned}`: {}", wall.why);
                findings.error(&file.path, index + 1, &message);
            }
        }
    }
}

/// Numbered lines up to the tests at the end of a file.
fn code_before_tests(code: &str) -> impl Iterator<Item = (usize, &str)> {
    code.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errors(path: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check(&[File::new(path, text)], &mut findings);
        findings.errors
    }

    #[test]
    fn a_package_depends_only_downwards() {
        let manifest = |dependency: &str| {
            format!(
                "[package]\nname = \"x\"\n[dependencies]\n{dependency}\n[lints]\nworkspace = true\n"
            )
        };
        let check = |path: &str, dependency: &str, expected: usize| {
            let found = errors(path, &manifest(dependency));
            assert_eq!(found.len(), expected, "{path} {dependency}: {found:?}");
        };
        check("proto/Cargo.toml", "bytes.workspace = true", 0);
        check("proto/Cargo.toml", "storage.workspace = true", 1);
        check("storage/Cargo.toml", "proto = { workspace = true, features = [\"x\"] }", 0);
        check("storage/Cargo.toml", "server.workspace = true", 1);
        check("server/Cargo.toml", "tuning.workspace = true", 0);
        check("server/Cargo.toml", "bench.workspace = true", 1);
        check("tests/Cargo.toml", "server.workspace = true", 0);
        check("bench/Cargo.toml", "bytes = \"1\"", 1);
        check(
            "xtask/Cargo.toml",
            "[target.'cfg(unix)'.dev-dependencies]\nproto.workspace = true",
            1,
        );
        check("tuning/Cargo.toml", "[dependencies.proto]\nworkspace = true", 1);
    }

    #[test]
    fn a_wall_is_about_code_and_not_about_words() {
        let check = |path: &str, text: &str, expected: usize| {
            let found = errors(path, text);
            assert_eq!(found.len(), expected, "{path}: {found:?}");
        };
        check("server/src/mesh/a.rs", "unsafe { x() }", 1);
        check("server/src/uring/a.rs", "unsafe { x() }", 0);
        check("server/src/mesh/a.rs", "// unsafe\nf(\"unsafe\");", 0);
        check("proto/src/a.rs", "let now = std::time::Instant::now();", 1);
        check("proto/src/a.rs", "#[cfg(test)]\nmod tests { let now = Instant::now(); }", 0);
        check("server/src/shard/a.rs", "use crate::reactor::Turn;", 1);
        check("server/src/epoll/a.rs", "use proto::http1;", 1);
    }
}
