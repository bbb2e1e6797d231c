//! What a target requires as files to review and install: for sysctl, systemd, a shell, Kubernetes,
//! a container runtime.
//!
//! Pure functions from findings to text. What is required and there already is written down, too,
//! as a comment, so that a file says the whole requirement. Nothing is installed here.

mod kubernetes;
mod script;
mod seccomp;

pub use kubernetes::kubernetes;
pub use script::script;
pub use seccomp::seccomp;

use crate::action::Action;
use crate::check::{Finding, Severity};
use crate::target::Target;
use crate::text::count;
use std::fmt::Write;

/// What is rendered.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    pub target: &'a Target,
    pub findings: &'a [Finding],
    /// The profile's name or path; empty without one.
    pub profile: &'a str,
    /// The program's path.
    pub program: &'a str,
}

impl Subject<'_> {
    /// The first lines of every file.
    fn head(&self, what: &str) -> String {
        let target = self.target;
        format!(
            "# {what}\n# For {} connections on {} shards; by `shardcast tune render`. Review it before you \
             install it.\n",
            count(target.connections),
            target.shards
        )
    }

    /// The actions of a kind with whether they are needed and the check that asks for them.
    fn actions(&self) -> impl Iterator<Item = (&Finding, &Action, bool)> {
        self.findings.iter().flat_map(|finding| {
            let needed = finding.severity >= Severity::Warning;
            finding.actions.iter().map(move |action| (finding, action, needed))
        })
    }

    /// The value of a line of the service's unit.
    fn service(&self, wanted: &str) -> Option<&str> {
        self.actions().find_map(|(_, action, _)| match action {
            Action::Service { key, value } if key == wanted => Some(value.as_str()),
            _ => None,
        })
    }

    /// The descriptor limit; computed, should the check not have been able to read the current one.
    fn nofile(&self) -> String {
        let computed = || self.target.descriptors_limit().to_string();
        self.service("LimitNOFILE").map_or_else(computed, str::to_owned)
    }
}

/// For `/etc/sysctl.d/90-shardcast.conf`.
pub fn sysctl(of: &Subject) -> String {
    let mut out = of.head("/etc/sysctl.d/90-shardcast.conf: `sysctl --system` loads it");
    let mut last = "";
    for (finding, action, needed) in of.actions() {
        let Action::Sysctl { key, value } = action else { continue };
        if finding.id != last {
            let _ = writeln!(
                out,
                "\n# {}: required {}; now {}",
                finding.id, finding.required, finding.current
            );
            last = finding.id;
        }
        let _ = match needed {
            true => writeln!(out, "{key} = {value}"),
            false => writeln!(out, "# {key}: not needed"),
        };
    }
    out
}

/// For `/etc/systemd/system/shardcast.service`.
pub fn unit(of: &Subject) -> String {
    let mut out = of.head("/etc/systemd/system/shardcast.service");
    let profile = match of.profile {
        "" => String::new(),
        name => format!("Environment=SHARDCAST_PROFILE={name}\n"),
    };
    let program = of.program;
    let _ = write!(
        out,
        "
[Unit]
Description=Shardcast: events from services to screens
Wants=network-online.target
After=network-online.target

[Service]
Type=exec
ExecStart={program} serve
# Names the configuration, for example: SHARDCAST_CONFIG=/etc/shardcast/shardcast.toml
EnvironmentFile=-/etc/shardcast/environment
Environment=SHARDCAST_DATA_DIR=/var/lib/shardcast
{profile}StateDirectory=shardcast
DynamicUser=yes
Restart=on-failure
RestartSec=1
# A drain takes up to drain_time_s (25), then the spool is synced.
TimeoutStopSec=60
"
    );
    out.push_str(&service_lines(of));
    out.push_str(
        "
# Values that `apply` sets last until the next start of the machine; to set them here, too:
#ExecStartPre=+",
    );
    let _ = writeln!(out, "{program} tune apply --connections {}", of.target.connections);
    out.push_str(HARDENING);
    out
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
    let memlock = of.service("LimitMEMLOCK").unwrap_or("infinity");
    let _ = writeln!(out, "LimitMEMLOCK={memlock}");
    out.push_str(
        "# Quiet connections must not be swapped out, and the server not be the first to go.\n",
    );
    out.push_str("MemorySwapMax=0\nOOMScoreAdjust=-500\n");
    out
}

/// For `/etc/security/limits.d/90-shardcast.conf`.
pub fn limits(of: &Subject) -> String {
    let mut out = of.head("/etc/security/limits.d/90-shardcast.conf");
    out.push_str(
        "# For programs that the user `shardcast` starts from a login session. Services of systemd do \
         not\n# look here: their unit has LimitNOFILE=.\n\n",
    );
    let limit = of.nofile();
    let _ = writeln!(out, "shardcast  soft  nofile  {limit}\nshardcast  hard  nofile  {limit}");
    out
}
