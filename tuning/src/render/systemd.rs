//! The service's unit: started with what was asked for, from places that it can see.
//!
//! The unit hides the folders of people and of temporary files from the service. A program or a
//! file that is there now is named where it must be installed, and the unit says how. A file that
//! only its owner may read is given to the service as a credential, since the service's user is
//! made anew at each start.

use super::Subject;
use super::service::{DATA_DIR, Kind, Setting, file_name, is_hidden};
use std::collections::BTreeSet;
use std::fmt::Write;

/// For `/etc/systemd/system/shardcast.service`.
pub fn unit(of: &Subject) -> String {
    let mut out = of.head("/etc/systemd/system/shardcast.service");
    let plan = Plan::of(of);
    if !plan.installed.is_empty() {
        out.push_str(
            "#\n# To do first (ProtectHome= and PrivateTmp= hide the folders of people and of temporary \
             files):\n",
        );
        for line in &plan.installed {
            let _ = writeln!(out, "#   {line}");
        }
    }
    let mut words = vec![argument(&plan.program), "serve".to_owned()];
    words.extend(of.service.arguments.iter().map(|word| argument(word)));
    let _ = write!(
        out,
        "
[Unit]
Description=Shardcast: events from services to screens
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={command}
# Secrets and what else is to differ, for example: SHARDCAST_CONFIG=/etc/shardcast/shardcast.toml
EnvironmentFile=-/etc/shardcast/environment
{variables}{user}Restart=on-failure
RestartSec=1
# A drain takes up to drain_time_s (25), then the spool is synced.
TimeoutStopSec=60
",
        command = words.join(" "),
        variables = plan.variables,
        user = plan.user,
    );
    out.push_str(&service_lines(of));
    out.push_str(
        "
# Values that `apply` sets last until the next start of the machine; to set them here, too, as root
# and without a failure keeping the service from its start:
",
    );
    let connections = of.target.connections.to_string();
    let mut words = vec![argument(&plan.program)];
    words.extend(["tune", "apply", "--connections", &connections].map(str::to_owned));
    let more = of.service.target.iter().chain(&of.service.arguments);
    words.extend(more.map(|word| argument(word)));
    let _ = writeln!(out, "#ExecStartPre=-+{}", words.join(" "));
    out.push_str(HARDENING);
    out
}

/// Where everything is when the service starts.
#[derive(Debug, Default)]
struct Plan {
    program: String,
    /// Commands for whoever installs it.
    installed: Vec<String>,
    /// Lines that give the service its values.
    variables: String,
    /// Lines about its user and its own folder.
    user: String,
    /// Names of files that are taken.
    names: BTreeSet<String>,
    /// A folder must belong to a user who is there before the start.
    user_is_fixed: bool,
}

impl Plan {
    fn of(subject: &Subject) -> Self {
        let service = subject.service;
        let mut plan = Self { program: service.program.clone(), ..Self::default() };
        if is_hidden(&plan.program) {
            plan.install("-m 755", &service.program, PROGRAM);
            PROGRAM.clone_into(&mut plan.program);
        }
        let folder = service.value(DATA_DIR).filter(|folder| *folder != FOLDER);
        let own = folder.is_none_or(|folder| !plan.folder(DATA_DIR, folder));
        if own {
            plan.variables.push_str(&variable(DATA_DIR, FOLDER));
            plan.user.push_str("StateDirectory=shardcast\n");
        }
        for setting in service.settings.iter().filter(|setting| setting.name != DATA_DIR) {
            plan.add(setting);
        }
        for name in &service.secrets {
            let _ = writeln!(
                plan.variables,
                "# {name} was given and is not written here: put it into /etc/shardcast/environment."
            );
        }
        if subject.target.listen_ports.iter().any(|port| (1..PORT_OF_ALL).contains(port)) {
            plan.user.push_str("AmbientCapabilities=CAP_NET_BIND_SERVICE\n");
        }
        plan.user.push_str(if plan.user_is_fixed {
            "User=shardcast\n"
        } else {
            "DynamicUser=yes\n"
        });
        plan
    }

    fn install(&mut self, how: &str, from: &str, to: &str) {
        self.installed.push(format!("sudo install {how} {} {}", shell(from), shell(to)));
    }

    /// A folder that the server writes to; false if it cannot be the service's.
    fn folder(&mut self, name: &str, folder: &str) -> bool {
        if is_hidden(folder) {
            let _ = writeln!(
                self.variables,
                "# {name}={} was given, which the service does not see.",
                shell(folder)
            );
            return false;
        }
        if !self.user_is_fixed {
            self.installed.push(format!("sudo useradd --system --shell {NO_LOGIN} shardcast"));
            self.user_is_fixed = true;
        }
        let line = format!("sudo install -d -m 750 -o shardcast -g shardcast {}", shell(folder));
        self.installed.push(line);
        self.variables.push_str(&variable(name, folder));
        let _ = writeln!(self.variables, "ReadWritePaths={}", quoted(folder, false));
        true
    }

    fn add(&mut self, setting: &Setting) {
        let Setting { name, value, kind } = setting;
        match kind {
            Kind::Folder => {
                self.folder(name, value);
            }
            Kind::SecretFile => {
                let file = self.file(name, value);
                let credential = quoted(&format!("{file}:{value}"), false);
                let _ = writeln!(self.variables, "LoadCredential={credential}");
                self.variables.push_str(&variable(name, &format!("{CREDENTIALS}/{file}")));
            }
            Kind::File if is_hidden(value) => {
                let to = format!("/etc/shardcast/{}", self.file(name, value));
                self.install("-D -m 644", value, &to);
                self.variables.push_str(&variable(name, &to));
            }
            Kind::Text | Kind::File => self.variables.push_str(&variable(name, value)),
        }
    }

    /// What a file is called where it is installed; two of the same name are told apart.
    fn file(&mut self, name: &str, path: &str) -> String {
        let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let mut file = file_name(path).replace(|c: char| !known(c), "_");
        if self.names.contains(&file) {
            file = format!("{}-{file}", name.to_ascii_lowercase());
        }
        self.names.insert(file.clone());
        file
    }
}

/// Below it, ports are root's unless somebody changed that.
const PORT_OF_ALL: u16 = 1_024;
const PROGRAM: &str = "/usr/local/bin/shardcast";
const NO_LOGIN: &str = "/usr/sbin/nologin";
const FOLDER: &str = "/var/lib/shardcast";
/// Where systemd puts what `LoadCredential=` names.
const CREDENTIALS: &str = "/run/credentials/shardcast.service";

fn variable(name: &str, value: &str) -> String {
    format!("Environment={}\n", quoted(&format!("{name}={value}"), false))
}

/// A word of a command line, where `$` begins a variable.
fn argument(word: &str) -> String {
    quoted(word, true)
}

/// As systemd reads it back: `%` begins a specifier, a backslash an escape, quotes keep blanks.
fn quoted(text: &str, command: bool) -> String {
    let mut out = String::new();
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\'' | '\\' | ';' | '#');
    let mut quotes = text.is_empty() || !text.chars().all(plain);
    for c in text.chars() {
        match c {
            '%' => out.push_str("%%"),
            '$' if command => out.push_str("$$"),
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            c if c.is_ascii_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
        quotes |= c.is_whitespace();
    }
    if quotes { format!("\"{out}\"") } else { out }
}

/// A word for a shell.
fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    match word.chars().all(plain) {
        true => word.to_owned(),
        false => super::script::quoted(word).replace('\n', " "),
    }
}

/// What it can do without. io_uring is named, because `@system-service` does not have it
/// everywhere.
const HARDENING: &str = "
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
ProtectKernelTunables=yes
ProtectClock=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service io_uring_setup io_uring_enter io_uring_register
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
";

/// For `/etc/systemd/system/shardcast.service.d/10-tune.conf`.
pub fn drop_in(of: &Subject) -> String {
    let mut out = of.head("/etc/systemd/system/shardcast.service.d/10-tune.conf");
    out.push_str("\n[Service]\n");
    out.push_str(&service_lines(of));
    out
}

/// Without `CPUAffinity=`: the server pins its threads itself, and a mask that leaves out the CPUs
/// for interrupts would have the profile placed on what is left.
fn service_lines(of: &Subject) -> String {
    let mut out = format!("LimitNOFILE={}\n", of.nofile());
    let memlock = of.value_of("LimitMEMLOCK").unwrap_or("infinity");
    let _ = writeln!(out, "LimitMEMLOCK={memlock}");
    out.push_str(
        "# Quiet connections must not be swapped out, and the server not be the first to go.\n",
    );
    out.push_str("MemorySwapMax=0\nOOMScoreAdjust=-500\n");
    out
}
