//! A seccomp profile for containers: the system calls that the server makes, io_uring among them,
//! and no others.
//!
//! The list was read off a server under load on both engines, with TLS, stores and drain; the test
//! that runs a server under this very filter keeps it true.
//!
//! A runtime that may not set `no_new_privs` loads the filter before it gives up its rights, so
//! what it does after that is in the list, too, as in Docker's own profile: it becomes the
//! container's user, drops capabilities, closes descriptors and executes the program. Without
//! capabilities those calls do nothing that matters, which is why they are allowed to all.

use serde_json::json;

/// In the format of Docker, containerd, CRI-O and Podman.
pub fn seccomp() -> String {
    let names: Vec<&str> = GROUPS.iter().flat_map(|group| group.iter().copied()).collect();
    let profile = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "archMap": [
            { "architecture": "SCMP_ARCH_X86_64", "subArchitectures": [] },
            { "architecture": "SCMP_ARCH_AARCH64", "subArchitectures": [] },
        ],
        "syscalls": [
            { "names": names, "action": "SCMP_ACT_ALLOW" },
            // glibc tries clone3 first and takes ENOSYS, not EPERM, for "use clone".
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS },
        ],
    });
    // A value of literals always has a text.
    serde_json::to_string_pretty(&profile).unwrap_or_default() + "\n"
}

const ENOSYS: u32 = 38;

/// By what they are for. Names that an architecture does not have are ignored there.
const GROUPS: &[&[&str]] = &[
    // The engines.
    &["io_uring_setup", "io_uring_enter", "io_uring_register"],
    &[
        "epoll_create1",
        "epoll_ctl",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
        "eventfd2",
        "poll",
        "ppoll",
    ],
    // Sockets.
    &[
        "socket",
        "socketpair",
        "bind",
        "listen",
        "accept",
        "accept4",
        "connect",
        "shutdown",
        "getsockname",
        "getpeername",
        "getsockopt",
        "setsockopt",
        "recv",
        "recvfrom",
        "recvmsg",
        "recvmmsg",
        "send",
        "sendto",
        "sendmsg",
        "sendmmsg",
        "ioctl",
    ],
    // Files.
    &[
        "open",
        "openat",
        "openat2",
        "close",
        "close_range",
        "read",
        "pread64",
        "readv",
        "preadv",
        "write",
        "pwrite64",
        "writev",
        "pwritev",
        "lseek",
        "fsync",
        "fdatasync",
        "sync_file_range",
        "fallocate",
        "ftruncate",
        "fadvise64",
        "flock",
        "fcntl",
        "dup",
        "dup2",
        "dup3",
        "stat",
        "fstat",
        "lstat",
        "newfstatat",
        "statx",
        "statfs",
        "fstatfs",
        "access",
        "faccessat",
        "faccessat2",
        "getdents64",
        "getcwd",
        "chdir",
        "mkdir",
        "mkdirat",
        "rmdir",
        "unlink",
        "unlinkat",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "readlink",
        "readlinkat",
        "chmod",
        "fchmod",
        "fchmodat",
        "umask",
        "utimensat",
        "copy_file_range",
        "pipe",
        "pipe2",
        "memfd_create",
    ],
    // Memory.
    &["mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "mlock", "munlock", "membarrier"],
    // Threads and time.
    &[
        "clone",
        "futex",
        "set_robust_list",
        "get_robust_list",
        "set_tid_address",
        "rseq",
        "sched_yield",
        "sched_getaffinity",
        "sched_setaffinity",
        "sched_getparam",
        "sched_getscheduler",
        "getcpu",
        "arch_prctl",
        "prctl",
        "clock_gettime",
        "clock_getres",
        "clock_nanosleep",
        "nanosleep",
        "gettimeofday",
        "time",
        "timerfd_create",
        "timerfd_settime",
        "restart_syscall",
    ],
    // Signals and the end.
    &[
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "rt_sigtimedwait",
        "sigaltstack",
        "kill",
        "tgkill",
        "exit",
        "exit_group",
        "wait4",
        "waitid",
    ],
    // Who and where we are, start, randomness.
    &[
        "execve",
        "getpid",
        "getppid",
        "gettid",
        "getpgrp",
        "getuid",
        "geteuid",
        "getgid",
        "getegid",
        "getgroups",
        "getrlimit",
        "setrlimit",
        "prlimit64",
        "getrusage",
        "sysinfo",
        "uname",
        "getrandom",
        "set_mempolicy",
        "get_mempolicy",
    ],
    // A runtime on its way to the program, without no_new_privs: runc, crun.
    &[
        "capget",
        "capset",
        "setgroups",
        "setgid",
        "setuid",
        "setregid",
        "setreuid",
        "setresgid",
        "setresuid",
        "getresgid",
        "getresuid",
        "fchdir",
        "fchown",
        "fchownat",
        "execveat",
        "getpgid",
        "getsid",
        "setsid",
        "pidfd_open",
        "pidfd_send_signal",
    ],
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_profile_is_narrow_and_allows_io_uring() {
        let profile: serde_json::Value = serde_json::from_str(&seccomp()).unwrap();
        assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
        let names = profile["syscalls"][0]["names"].as_array().unwrap();
        let has = |name: &str| names.iter().any(|known| known == name);
        assert!(has("io_uring_setup") && has("io_uring_enter") && has("io_uring_register"));
        let never = [
            "mount",
            "ptrace",
            "bpf",
            "unshare",
            "setns",
            "init_module",
            "reboot",
            "keyctl",
            "userfaultfd",
            "perf_event_open",
            "pivot_root",
            "chroot",
            "clone3",
            "setfsuid",
            "sethostname",
            "personality",
        ];
        assert!(!never.into_iter().any(has));
        // What runc does between loading the filter and the program (finalizeNamespace).
        let runtime = [
            "capget",
            "capset",
            "chdir",
            "close_range",
            "execve",
            "faccessat2",
            "fchdir",
            "fchown",
            "fcntl",
            "fstatfs",
            "futex",
            "getdents64",
            "newfstatat",
            "openat",
            "openat2",
            "prctl",
            "setgid",
            "setgroups",
            "setuid",
        ];
        for name in runtime {
            assert!(has(name), "{name}");
        }
        let mut sorted: Vec<&str> = names.iter().filter_map(|name| name.as_str()).collect();
        sorted.sort_unstable();
        assert!(sorted.windows(2).all(|pair| pair[0] != pair[1]), "a name is there twice");
    }
}
