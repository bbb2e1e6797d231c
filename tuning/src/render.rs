//! What a target requires as files to review and install: for sysctl, systemd, a shell, Kubernetes,
//! a container runtime.
//!
//! Pure functions from findings to text. What is required and there already is written down, too,
//! as a comment, so that a file says the whole requirement. Nothing is installed here.

mod kubernetes;
mod script;
mod seccomp;
mod service;
mod systemd;

pub use kubernetes::kubernetes;
pub use script::script;
pub use seccomp::seccomp;
pub use service::{DATA_DIR, Kind, Service, Setting};
pub use systemd::{drop_in, unit};

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
    /// What is started, and with what.
    pub service: &'a Service,
    /// The least memory of a pod whose budget has room for the target's connections.
    pub pod_memory_bytes: Option<u64>,
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
    fn value_of(&self, wanted: &str) -> Option<&str> {
        self.actions().find_map(|(_, action, _)| match action {
            Action::Service { key, value } if key == wanted => Some(value.as_str()),
            _ => None,
        })
    }

    /// The descriptor limit; computed, should the check not have been able to read the current one.
    fn nofile(&self) -> String {
        let computed = || self.target.descriptors_limit().to_string();
        self.value_of("LimitNOFILE").map_or_else(computed, str::to_owned)
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
    let tracks =
        |action: &Action| matches!(action, Action::Sysctl { key, .. } if key.starts_with(TRACKING));
    if of.actions().any(|(_, action, needed)| needed && tracks(action)) {
        out.push_str(MODULE);
    }
    out.push_str(NOT_SYSCTL);
    out
}

const TRACKING: &str = "net.netfilter.";
/// A firewall loads the module when it starts, which may be after this file was read.
const MODULE: &str = "
# What begins with net.netfilter is forgotten if its module is loaded after this file was read. To
# have it loaded before:
#   echo nf_conntrack > /etc/modules-load.d/90-shardcast.conf
";
const NOT_SYSCTL: &str = "
# Queues (RPS, XPS), interrupts and governors are not in it, since they are no values of sysctl:
# `shardcast tune render script`, or ExecStartPre= in the unit, sets them at each start.
";

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
