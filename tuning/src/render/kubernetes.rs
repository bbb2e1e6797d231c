//! The parts of a pod that matter here, with what only the node can do.

use super::Subject;
use crate::action::Action;
use crate::check::Scope;
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
            let note = if SAFE.contains(&key.as_str()) { "" } else { UNSAFE };
            let _ = write!(out, "      - name: {key}\n        value: \"{value}\"{note}\n");
        }
    }
    let shards = of.target.shards;
    let _ = write!(
        out,
        "  containers:
    - name: shardcast
      # Whole CPUs, requests equal to limits: with the kubelet's static CPU manager the container
      # gets them for itself. A quota instead stops every shard for the rest of its 100 ms.
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
        memory = memory(of),
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
    # then runs on epoll.
    seccompProfile:
      type: Localhost
      localhostProfile: profiles/shardcast.json
";

const UNSAFE: &str = "  # the kubelet must allow it: --allowed-unsafe-sysctls; or set it in the init container below";

/// What a kubelet lets any pod set (Kubernetes 1.32).
const SAFE: &[&str] = &[
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_syncookies",
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
    key == "net.core.somaxconn" || (key.starts_with("net.ipv4.") && key != "net.ipv4.tcp_mem")
}

/// Gibibytes for the pod: what is planned and a third more, which the server leaves to the kernel.
fn memory(of: &Subject) -> String {
    match of.target.memory_planned_bytes {
        Some(bytes) => format!("{}Mi", (bytes / 3).saturating_mul(4).div_ceil(1 << 20)),
        None => "4Gi".to_owned(),
    }
}

/// What a pod cannot set.
fn on_the_node(of: &Subject) -> String {
    let mut out = String::from(
        "
# The container runtime gives the descriptor limit, not the pod: containerd's unit needs
",
    );
    let _ = writeln!(out, "#   LimitNOFILE={}", of.nofile());
    let mut lines = String::new();
    for (finding, action, needed) in of.actions() {
        let (Some(path), Some(value)) = (action.path(), action.value()) else { continue };
        let namespaced = matches!(action, Action::Sysctl { key, .. } if is_namespaced(key));
        if needed && !namespaced {
            let _ = writeln!(lines, "#           echo '{value}' > {path}    # {}", finding.id);
        }
    }
    if lines.is_empty() {
        out.push_str("# Nothing else is needed on the node, as far as it can be seen from here.\n");
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
