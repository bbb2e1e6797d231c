//! Whether this runs in a container, and which: there, what belongs to the host is the host's.

use crate::root::Root;

/// What kind of container, as far as its traces tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    /// No trace of one.
    None,
    /// Docker, or what leaves its mark.
    Docker,
    /// Podman and others that write `/run/.containerenv`.
    Podman,
    /// A pod.
    Kubernetes,
    /// LXC.
    Lxc,
    /// One that `systemd-nspawn` started.
    Nspawn,
}

impl Container {
    /// Looks for the marks that runtimes leave: on this process, or on another.
    pub fn detect(root: &Root, process: Option<u32>) -> Self {
        let process = process.map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        let text = |file: &str| root.text(&format!("/proc/{process}/{file}")).unwrap_or_default();
        let (cgroup, mounts) = (text("cgroup"), text("mountinfo"));
        let mentions = |word: &str| cgroup.contains(word) || mounts.contains(word);
        let kubernetes = root.exists("/var/run/secrets/kubernetes.io")
            || mentions("kubepods")
            || mounts.contains("/etc/hosts") && mounts.contains("/kubelet/");
        if kubernetes {
            return Self::Kubernetes;
        }
        if cgroup.contains("/docker") {
            return Self::Docker;
        }
        if cgroup.contains("/lxc") {
            return Self::Lxc;
        }
        // Marks in files outlive a container: an image may have become the disk of a virtual
        // machine. The kernel's threads are seen in the first PID namespace only.
        if root.text("/proc/2/comm").is_ok_and(|name| name == "kthreadd") {
            return Self::None;
        }
        if root.exists("/run/.containerenv") {
            return Self::Podman;
        }
        if root.exists("/.dockerenv") {
            return Self::Docker;
        }
        match root.text("/run/systemd/container").as_deref() {
            Ok("systemd-nspawn") => Self::Nspawn,
            Ok("lxc" | "lxc-libvirt") => Self::Lxc,
            Ok("docker") => Self::Docker,
            Ok("podman") => Self::Podman,
            _ => Self::None,
        }
    }

    /// True inside of one.
    pub fn is_some(self) -> bool {
        self != Self::None
    }

    /// What people call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "no container",
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Kubernetes => "Kubernetes",
            Self::Lxc => "LXC",
            Self::Nspawn => "systemd-nspawn",
        }
    }
}
