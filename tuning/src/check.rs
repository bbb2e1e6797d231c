//! `check`: what this machine needs for a target, and whether it has it. Changes nothing.
//!
//! A [`Check`] is a row of a table: what it is called, why it matters, and a function from a
//! [`Context`] (facts read under a root, the target, what was measured) to an [`Outcome`]. The page
//! `docs/operating/tuning.md` lists the same table. A fact that cannot be read makes the outcome
//! `unknown` with the reason, by way of `?`.
//!
//! Invariants: every check reports exactly once; none panics on whatever the files say; a
//! requirement names the numbers it was computed from. An outcome may carry [`Action`]s, the
//! changes that would meet it; `plan` and `apply` know nothing else.
//!
//! Tested by `tests/check.rs` on trees of files that describe machines, with golden tables, and on
//! the machine at hand.

mod conntrack;
mod cpu;
mod descriptors;
mod disk;
mod harmful;
mod layout;
mod memory;
mod network;
mod nic;
mod tcp;
mod uring;

use crate::action::Action;
use crate::container::Container;
use crate::machine::{Machine, Roots};
use crate::nic::Nics;
use crate::profile::{self, CoreMap, Profile};
use crate::root::{Absent, Root};
use crate::target::{Measured, Target};
use crate::topology::Topology;
use serde::Serialize;

/// How bad it is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing; nothing to do.
    Info,
    /// Could not be found out.
    Unknown,
    /// The target is met worse, or not under load.
    Warning,
    /// The target cannot be met.
    Fatal,
}

impl Severity {
    /// As tables and JSON name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Unknown => "unknown",
            Self::Warning => "warning",
            Self::Fatal => "fatal",
        }
    }
}

/// Whose setting it is, so that a container can say what only its host can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The process or its service.
    Process,
    /// The network namespace: a container has its own.
    Network,
    /// The machine.
    Host,
    /// The configuration of the server, or of what is in front of it.
    Configuration,
}

impl Scope {
    /// As the page says it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "service",
            Self::Network => "network namespace",
            Self::Host => "host",
            Self::Configuration => "configuration",
        }
    }
}

/// A row of the table of checks.
pub struct Check {
    /// Such as `files.nofile`.
    pub id: &'static str,
    /// What is looked at.
    pub looks_at: &'static str,
    /// What goes wrong otherwise.
    pub why: &'static str,
    /// Whose setting it is.
    pub scope: Scope,
    run: fn(&Context) -> Result<Outcome, Absent>,
}

/// What a check says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub severity: Severity,
    pub current: String,
    pub required: String,
    /// Empty where there is nothing to do.
    pub fix: String,
    /// What would meet the requirement, met or not.
    pub actions: Vec<Action>,
}

impl Outcome {
    fn new(severity: Severity, current: impl Into<String>, required: impl Into<String>) -> Self {
        let (current, required) = (current.into(), required.into());
        Self { severity, current, required, fix: String::new(), actions: Vec::new() }
    }

    fn ok(current: impl Into<String>, required: impl Into<String>) -> Self {
        Self::new(Severity::Ok, current, required)
    }

    fn info(current: impl Into<String>, required: impl Into<String>) -> Self {
        Self::new(Severity::Info, current, required)
    }

    fn warning(current: impl Into<String>, required: impl Into<String>) -> Self {
        Self::new(Severity::Warning, current, required)
    }

    fn unknown(why: impl Into<String>, required: impl Into<String>) -> Self {
        Self::new(Severity::Unknown, why, required)
    }

    /// `Ok` if `met`, else as bad as `otherwise`.
    fn when(
        met: bool,
        otherwise: Severity,
        current: impl Into<String>,
        required: impl Into<String>,
    ) -> Self {
        Self::new(if met { Severity::Ok } else { otherwise }, current, required)
    }

    /// What to do; kept only where something is to be done or known.
    fn fix(mut self, fix: impl Into<String>) -> Self {
        if self.severity != Severity::Ok {
            self.fix = fix.into();
        }
        self
    }

    fn act(mut self, action: Action) -> Self {
        self.actions.push(action);
        self
    }
}

/// One line of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub id: &'static str,
    pub severity: Severity,
    pub current: String,
    pub required: String,
    pub why: &'static str,
    pub fix: String,
    pub scope: Scope,
    /// True in a container, for what belongs to the host.
    pub only_on_host: bool,
    /// What would meet the requirement, whether it is met or not.
    #[serde(skip)]
    pub actions: Vec<Action>,
}

/// What every check can look at.
pub struct Context<'a> {
    pub root: &'a Root,
    pub target: &'a Target,
    pub measured: &'a Measured,
    pub machine: Machine,
    pub topology: Result<Topology, Absent>,
    pub nics: Result<Nics, Absent>,
    pub container: Container,
    /// Where the server puts what.
    pub map: Result<CoreMap, Absent>,
    /// Whether that is by a profile.
    pub has_profile: bool,
}

impl<'a> Context<'a> {
    /// Reads what more than one check needs.
    pub fn read(
        root: &'a Root,
        target: &'a Target,
        measured: &'a Measured,
        profile: Option<&Profile>,
    ) -> Self {
        let mut machine = Machine::read_from(&Roots::below(root).of(target.process));
        let topology = Topology::read(root);
        let mut allowed = Ok(());
        if !root.exists("/proc/self/status") {
            // Not the CPUs of the machine that reads another's files.
            match &topology {
                Ok(topology) => {
                    machine.cores_allowed = topology.cpus.iter().map(|cpu| cpu.id).collect();
                }
                Err(absent) => allowed = Err(absent.clone()),
            }
        }
        let nics = Nics::read(root);
        let map = allowed.and_then(|()| {
            profile::place(profile, &topology, &machine, &nics, Some(target.shards))
        });
        let container = Container::detect(root, target.process);
        let has_profile = profile.is_some();
        Self { root, target, measured, machine, topology, nics, container, map, has_profile }
    }

    /// That the cgroup of the process is seen, so that no limit means that there is none.
    fn cgroup_seen(&self) -> Result<(), Absent> {
        self.cgroup_read()?;
        let text = self.root.text(&format!("{}/cgroup", self.target.process_dir()))?;
        let Some(pid) = self.target.process else { return Ok(()) };
        if crate::parse::cgroup_lines(&text).any(|line| crate::cgroup::is_outside(line.path)) {
            let why =
                format!("the cgroup of process {pid} is not seen from here; look on the host");
            return Err(Absent::Other(why));
        }
        Ok(())
    }

    /// That nothing of it was unreadable, so that there is no smaller limit than the one found.
    fn cgroup_read(&self) -> Result<(), Absent> {
        self.machine.cgroup_unread.clone().map_or(Ok(()), |why| Err(Absent::Other(why)))
    }

    /// Why settings of the network namespace are not those of the process.
    fn network_elsewhere(&self) -> Option<Absent> {
        let pid = self.target.process?;
        let link = |of: &str| self.root.link_name(&format!("/proc/{of}/ns/net"));
        let (own, other) = (link("self")?, link(&pid.to_string())?);
        (own != other).then(|| {
            Absent::Other(format!(
                "process {pid} has a network namespace of its own: `nsenter -t {pid} -n shardcast tune \
                 check` looks there"
            ))
        })
    }

    /// The memory that counts: the machine's, or the cgroup's limit.
    fn memory_bytes(&self) -> Result<u64, Absent> {
        let unknown = || Absent::Missing { path: "MemTotal in /proc/meminfo".to_owned() };
        self.machine.memory_bytes().ok_or_else(unknown)
    }

    /// The CPUs that shards run on.
    fn shard_cpus(&self) -> Result<&[u32], Absent> {
        self.map.as_ref().map(|map| map.shards.as_slice()).map_err(Clone::clone)
    }
}

/// Every check, in the order of the report.
pub fn checks() -> impl Iterator<Item = &'static Check> {
    let areas = [
        descriptors::CHECKS,
        uring::CHECKS,
        tcp::CHECKS,
        conntrack::CHECKS,
        network::CHECKS,
        nic::CHECKS,
        cpu::CHECKS,
        layout::CHECKS,
        memory::CHECKS,
        disk::CHECKS,
        harmful::CHECKS,
    ];
    areas.into_iter().flatten()
}

/// Runs every check.
pub fn run(context: &Context) -> Vec<Finding> {
    checks().map(|check| check.finding(context)).collect()
}

impl Check {
    /// Runs this one.
    fn finding(&self, context: &Context) -> Finding {
        let elsewhere = context.network_elsewhere().filter(|_| self.scope == Scope::Network);
        let outcome = elsewhere
            .map_or_else(|| (self.run)(context), Err)
            .unwrap_or_else(|absent| Outcome::unknown(absent.to_string(), "-"));
        let matters = outcome.severity > Severity::Info;
        Finding {
            id: self.id,
            severity: outcome.severity,
            current: outcome.current,
            required: outcome.required,
            why: self.why,
            fix: outcome.fix,
            scope: self.scope,
            only_on_host: matters && self.scope == Scope::Host && context.container.is_some(),
            actions: outcome.actions,
        }
    }
}

/// The settings that do harm: key, when, why.
pub fn harmful_list() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    harmful::HARMFUL.iter().map(|harmful| (harmful.key, harmful.when, harmful.why))
}

/// Those of them that `apply` sets right, where one value is right everywhere.
pub(crate) fn harmful_restored() -> impl Iterator<Item = &'static str> {
    harmful::HARMFUL.iter().filter(|harmful| harmful.instead.is_some()).map(|harmful| harmful.key)
}

/// The worst of them.
pub fn worst(findings: &[Finding]) -> Severity {
    let real = findings.iter().map(|finding| finding.severity);
    real.max().unwrap_or(Severity::Ok)
}
