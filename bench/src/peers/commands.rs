//! How each peer is started, and which version it is.

use super::axum_server::Kind;
use super::{Identity, Peer};
use crate::scenarios::Common;
use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The command, with configuration written to the folder where one is needed.
pub fn command(
    peer: Peer,
    common: &Common,
    folder: &Path,
    port: u16,
    identity: Option<&Identity>,
) -> Result<Command> {
    let words = identity.map(|it| [it.cert.clone(), it.key.clone()]);
    match peer {
        Peer::Uws => {
            let mut command = Command::new(installed(common, "bin/uws")?);
            command.arg(port.to_string()).args(words.into_iter().flatten());
            Ok(command)
        }
        Peer::Ws | Peer::SocketIo => {
            let script = if peer == Peer::Ws { "ws.mjs" } else { "socketio.mjs" };
            installed(common, "node/node_modules/ws/package.json")?;
            let mut command = Command::new("node");
            command.arg(installed(common, &format!("node/{script}"))?);
            command.arg(port.to_string()).args(words.into_iter().flatten());
            Ok(command)
        }
        Peer::Axum | Peer::AxumTuned | Peer::AxumBatched => Ok(axum(peer, port, identity)?),
        Peer::Nats => nats(common, folder, port, identity),
        Peer::Nchan => nchan(folder, port, identity),
        Peer::Centrifugo => centrifugo(common, folder, port, identity),
    }
}

fn axum(peer: Peer, port: u16, identity: Option<&Identity>) -> Result<Command> {
    let kind = match peer {
        Peer::AxumTuned => Kind::Tuned,
        Peer::AxumBatched => Kind::Batched,
        _ => Kind::Default,
    };
    let kind = kind.to_possible_value().context("every kind has a name")?;
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["axum", "--kind", kind.get_name(), "--port", &port.to_string()]);
    if let Some(identity) = identity {
        command.arg("--cert").arg(&identity.cert).arg("--key").arg(&identity.key);
    }
    Ok(command)
}

fn nats(common: &Common, folder: &Path, port: u16, identity: Option<&Identity>) -> Result<Command> {
    let program = installed(common, "python/bin/nats-server")?;
    let tls = identity.map_or("no_tls: true".to_owned(), |it| {
        format!("tls {{ cert_file: {:?}, key_file: {:?} }}", it.cert, it.key)
    });
    let client = crate::server_child::free_address()?.port();
    let text = format!(
        "listen: \"127.0.0.1:{client}\"\nping_interval: \"25s\"\nping_max: 2\nmax_connections: 20000\n\
         websocket {{ listen: \"127.0.0.1:{port}\"\n {tls}\n compression: false }}\n"
    );
    let file = folder.join("nats.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(program);
    command.arg("-c").arg(file);
    Ok(command)
}

fn nchan(folder: &Path, port: u16, identity: Option<&Identity>) -> Result<Command> {
    let program = on_path("nginx").context("apt-get install libnginx-mod-nchan")?;
    let module = Path::new("/usr/lib/nginx/modules/ngx_nchan_module.so");
    if !module.exists() {
        bail!("there is no {}: apt-get install libnginx-mod-nchan", module.display());
    }
    let (ssl, tls) = match identity {
        Some(it) => {
            (" ssl", format!("ssl_certificate {:?}; ssl_certificate_key {:?};", it.cert, it.key))
        }
        None => ("", String::new()),
    };
    let at = folder.display();
    let text = format!(
        "load_module {};\ndaemon off;\nmaster_process off;\npid {at}/nginx.pid;\n\
         error_log {at}/nginx.err;\nworker_rlimit_nofile 20000;\nevents {{ worker_connections 19000; }}\n\
         http {{ access_log off;\n nchan_max_reserved_memory 256m;\n\
         client_body_temp_path {at}/body; proxy_temp_path {at}/proxy; fastcgi_temp_path {at}/fcgi;\n\
         uwsgi_temp_path {at}/uwsgi; scgi_temp_path {at}/scgi;\n\
         server {{ listen 127.0.0.1:{port}{ssl} backlog=65535; {tls}\n\
         keepalive_requests 1000000000; keepalive_timeout 1h; tcp_nodelay on;\n\
         nchan_websocket_ping_interval 25; nchan_eventsource_ping_interval 25;\n\
         nchan_message_buffer_length 32; nchan_subscriber_first_message newest;\n\
         location ~ ^/pubsub/(.+)$ {{ nchan_pubsub websocket; nchan_channel_id $1; }}\n\
         location ~ ^/sub/(.+)$ {{ nchan_subscriber eventsource; nchan_channel_id $1; }}\n\
         location ~ ^/pub/(.+)$ {{ nchan_publisher http; nchan_channel_id $1; }} }} }}\n",
        module.display()
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, text)?;
    let mut command = Command::new(program);
    command.arg("-p").arg(folder).arg("-c").arg(file);
    Ok(command)
}

fn centrifugo(
    common: &Common,
    folder: &Path,
    port: u16,
    identity: Option<&Identity>,
) -> Result<Command> {
    let program = common.centrifugo().context(
        "there is no `centrifugo` on the PATH: install it from its releases, or name it with \
         --centrifugo",
    )?;
    let mut config = serde_json::json!({
        "http_server": { "address": "127.0.0.1", "port": port.to_string() },
        "client": {
            "allowed_origins": ["*"],
            "insecure": true,
            "ping_interval": "25s",
            "allow_anonymous_connect_without_token": true,
        },
        "channel": { "without_namespace": {
            "allow_subscribe_for_client": true, "allow_subscribe_for_anonymous": true,
            "allow_publish_for_client": true, "allow_publish_for_anonymous": true,
            "history_size": 1000, "history_ttl": "600s", "force_recovery": true,
        } },
    });
    if let Some(identity) = identity {
        config["http_server"]["tls"] = serde_json::json!({
            "enabled": true, "cert_pem_file": identity.cert, "key_pem_file": identity.key,
        });
    }
    let file = folder.join("centrifugo.json");
    fs::write(&file, config.to_string())?;
    let mut command = Command::new(program);
    command.arg("--config").arg(file);
    Ok(command)
}

/// A file that `cargo xtask bench` puts there.
fn installed(common: &Common, path: &str) -> Result<PathBuf> {
    let file = common.peers_folder()?.join(path);
    if !file.exists() {
        bail!("it is not installed (no {}): run `cargo xtask bench`", file.display());
    }
    Ok(file)
}

/// A program of the system.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    let mut found = std::env::split_paths(&path).chain(system).map(|dir| dir.join(program));
    found.find(|program| program.is_file())
}

/// What the report says about it.
pub fn version(peer: Peer, common: &Common) -> String {
    let folder = common.peers_folder().unwrap_or_default();
    let package = |name: &str| {
        let file = folder.join(format!("node/node_modules/{name}/package.json"));
        let json: serde_json::Value =
            serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or_default();
        json["version"].as_str().unwrap_or("?").to_owned()
    };
    let node = || said(Command::new("node").arg("--version"));
    match peer {
        Peer::Uws => "uWebSockets 20 of socketify 0.0.31 (libuv loop), driven from C".to_owned(),
        Peer::Ws => format!("ws {} on Node {}", package("ws"), node()),
        Peer::SocketIo => format!("socket.io {} on Node {}", package("socket.io"), node()),
        Peer::Nats => {
            let program = folder.join("python/bin/nats-server");
            said(Command::new(program).arg("--version"))
        }
        Peer::Axum => {
            "axum 0.8, tungstenite 0.29, tokio current_thread, default buffers".to_owned()
        }
        Peer::AxumTuned => "the same, read buffer 4 KiB, write buffer 0".to_owned(),
        Peer::AxumBatched => {
            "the same, read buffer 4 KiB, all that waits written before a flush".to_owned()
        }
        Peer::Nchan => {
            let program = on_path("nginx").unwrap_or_default();
            format!("nchan 1.3.6 of Debian in {}", said(Command::new(program).arg("-v")))
        }
        Peer::Centrifugo => {
            common.centrifugo().map_or_else(String::new, |it| said(Command::new(it).arg("version")))
        }
    }
}

/// The first line a program prints.
fn said(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "?".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("?").to_owned()
}
