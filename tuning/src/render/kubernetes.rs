//! The parts of a pod that matter here, with what only the node can do.

use super::Subject;
use super::service::{DATA_DIR, Kind, file_name};
use crate::action::Action;
use crate::check::{Scope, Severity};
use crate::text::{bytes, count};
use std::fmt::Write;

/// YAML to copy from.
pub fn kubernetes(of: &Subject) -> String {
    let mut out = of.head("Parts of a pod's manifest, and what its node needs");
    out.push_str(HEAD);
    let sysctls = namespaced(of);
    if sysctls.is_empty() {
        out.push_str("    # sysctls: none are needed\n");
    } else {
        out.push_str("    sysctls:\n");
        for (key, value) in &sysctls {
            if !SAFE.contains(&key.as_str()) {
                let _ = writeln!(
                    out,
                    "      # The kubelet must allow it: --allowed-unsafe-sysctls={key}"
                );
            }
            let _ = write!(out, "      - name: {key}\n        value: \"{value}\"\n");
        }
    }
    let shards = of.target.shards;
    let (memory, why) = memory(of);
    let _ = write!(
        out,
        "  containers:
    - name: shardcast
{environment}      # Whole CPUs, requests equal to limits: with the kubelet's static CPU manager the container
      # gets them for itself. A quota instead stops every shard for the rest of its 100 ms.
      # {why}
      resources:
        requests: {{ cpu: \"{shards}\", memory: {memory} }}
        limits: {{ cpu: \"{shards}\", memory: {memory} }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        runAsNonRoot: true
        capabilities: {{ drop: [ALL] }}
      volumeMounts:
        - {{ name: spool, mountPath: /var/lib/shardcast }}
",
        environment = environment(of),
    );
    out.push_str(&on_the_node(of));
    out
}

const HEAD: &str = "
spec:
  terminationGracePeriodSeconds: 60  # drain_time_s (25) and the last sync
  securityContext:
    # `shardcast tune render seccomp`, on each node as
    # /var/lib/kubelet/seccomp/profiles/shardcast.json. RuntimeDefault refuses io_uring: the server
    # then runs on epoll. allowPrivilegeEscalation: false, below, is no-new-privileges.
    seccompProfile:
      type: Localhost
      localhostProfile: profiles/shardcast.json
";

/// What a kubelet lets any pod set (Kubernetes 1.32).
const SAFE: &[&str] = &[
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Values of the pod's own network namespace that are not met.
fn namespaced(of: &Subject) -> Vec<(String, String)> {
    let wanted =
        of.actions().filter(|(finding, _, needed)| *needed && finding.scope == Scope::Network);
    let sysctl = |action: &Action| match action {
        // `net.core.rmem_default` and its like are not in the namespace.
        Action::Sysctl { key, value } if is_namespaced(key) => Some((key.clone(), value.clone())),
        _ => None,
    };
    wanted.filter_map(|(_, action, _)| sysctl(action)).collect()
}

fn is_namespaced(key: &str) -> bool {
    let machine_wide = MACHINE_WIDE.contains(&key);
    key == "net.core.somaxconn" || (key.starts_with("net.ipv4.") && !machine_wide)
}

/// Of `net.ipv4`, what the kernel has once and not for each namespace.
const MACHINE_WIDE: &[&str] = &[
    "net.ipv4.tcp_mem",
    "net.ipv4.udp_mem",
    "net.ipv4.tcp_low_latency",
    "net.ipv4.tcp_max_orphans",
    "net.ipv4.inet_peer_threshold",
    "net.ipv4.inet_peer_minttl",
    "net.ipv4.inet_peer_maxttl",
];

/// What was given, as variables of the container.
fn environment(of: &Subject) -> String {
    let service = of.service;
    let mut out = String::from("      env:\n");
    let _ = writeln!(out, "        - {{ name: {DATA_DIR}, value: /var/lib/shardcast }}");
    for setting in service.settings.iter().filter(|it| it.name != DATA_DIR) {
        let name = &setting.name;
        let (value, note) = match setting.kind {
            Kind::Text => (setting.value.clone(), String::new()),
            Kind::Folder => (setting.value.clone(), "  # a volume of its own".to_owned()),
            Kind::File | Kind::SecretFile => {
                let from = if setting.kind == Kind::File { "ConfigMap" } else { "Secret" };
                let value = format!("/etc/shardcast/{}", file_name(&setting.value));
                (value, format!("  # by a {from} with {}", setting.value.escape_debug()))
            }
        };
        let _ = writeln!(out, "        - {{ name: {name}, value: {} }}{note}", yaml(&value));
    }
    for name in &service.secrets {
        let _ = writeln!(out, "        # {name}: by a Secret, with valueFrom.secretKeyRef");
    }
    if !service.arguments.is_empty() {
        let words: Vec<String> = service.arguments.iter().map(|word| yaml(word)).collect();
        let _ = writeln!(out, "      args: [serve, {}]", words.join(", "));
    }
    out
}

/// In quotes, as JSON and so as YAML.
fn yaml(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Memory of the pod, and from what it follows.
fn memory(of: &Subject) -> (String, String) {
    let mebibytes = |bytes: u64| format!("{}Mi", bytes.div_ceil(1 << 20));
    let clients = count(of.target.connections);
    match (of.target.memory_planned_bytes, of.pod_memory_bytes) {
        // A third more than is planned with, which the server leaves to the kernel.
        (Some(planned), _) => (
            mebibytes((planned / 3).saturating_mul(4)),
            format!("Memory: a third more than the {} that is planned with.", bytes(planned)),
        ),
        (None, Some(needed)) => (
            mebibytes(needed),
            format!(
                "Memory: the least whose budget (`config --limits`) has room for {clients} clients."
            ),
        ),
        (None, None) => (
            UNKNOWN_MEMORY.to_owned(),
            format!(
                "Memory: no amount has room for {clients} clients on these shards; split them."
            ),
        ),
    }
}

/// A value that nobody can install unread.
const UNKNOWN_MEMORY: &str = "\"?\"";

/// What a pod cannot set.
fn on_the_node(of: &Subject) -> String {
    let mut out = descriptors(of);
    let mut lines = String::new();
    for (finding, action, needed) in of.actions() {
        let (Some(path), Some(value)) = (action.path(), action.value()) else { continue };
        let namespaced = matches!(action, Action::Sysctl { key, .. } if is_namespaced(key));
        if needed && !namespaced {
            let _ = writeln!(lines, "#           echo '{value}' > {path}    # {}", finding.id);
        }
    }
    if lines.is_empty() {
        out.push_str(
            "# The node's own settings are as they should be, as far as they can be seen from here.\n",
        );
        return out;
    }
    out.push_str(
        "# And the node itself, by its image, a DaemonSet, or a privileged init container (which changes
# the node for every pod on it):
#   initContainers:
#     - name: tune-node
#       image: busybox
#       securityContext: { privileged: true }
#       command:
#         - sh
#         - -c
#         - |
",
    );
    out.push_str(&lines);
    out
}

/// The descriptor limit, which is the container runtime's to give.
fn descriptors(of: &Subject) -> String {
    let hard = of.findings.iter().find(|finding| finding.id == "files.nofile_hard");
    let needed = count(of.target.descriptors());
    match hard {
        Some(hard) if hard.severity == Severity::Ok => format!(
            "
# Descriptors: {needed} are needed, and the limit is {} here. The container runtime gives
# it, not the pod; where it is lower, the runtime's unit (containerd's) needs a higher LimitNOFILE=.
",
            hard.current
        ),
        _ => format!(
            "
# Descriptors: {needed} are needed. The container runtime gives the limit, not the pod: where it is
# lower, the runtime's unit (containerd's) needs
#   LimitNOFILE={}
",
            of.nofile()
        ),
    }
}
