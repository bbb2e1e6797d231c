//! Whether io_uring can be used here, found out by using it, and what to do if not.
//!
//! A version check would not do: containers refuse it (Docker's default seccomp profile since
//! 25.0), a sysctl switches it off, memory limits stop it at sizes that a tiny ring would not ask
//! for, and distributions backport. So a ring of the shard's own sizes is built, and bytes are sent
//! and received through it with the flags that the driver relies on.

use super::UringDriver;
use crate::driver::{Completion, Driver, DriverSizes, ReceiveMode};
use bytes::Bytes;
use io_uring::{Probe, opcode};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use std::io;
use std::time::Duration;

/// Why io_uring is not used, and what would change that.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("io_uring is not available: {cause}. To use it: {remedy}. Or run with --engine epoll.")]
pub struct UringUnavailable {
    /// What was tried and what the kernel answered.
    pub cause: String,
    /// What an operator can do.
    pub remedy: String,
}

impl UringUnavailable {
    pub(super) fn at_setup(error: io::Error) -> Self {
        Self::new("setting up a ring", &error)
    }

    pub(super) fn at_buffers(error: io::Error) -> Self {
        Self::new("registering receive buffers", &error)
    }

    fn new(doing: &str, error: &io::Error) -> Self {
        let disabled = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok();
        let remedy = remedy(error.raw_os_error().unwrap_or(0), disabled.as_deref());
        Self { cause: format!("{doing} failed: {error}"), remedy }
    }

    fn missing(what: &str) -> Self {
        Self { cause: format!("this kernel lacks {what}"), remedy: NEWER_KERNEL.into() }
    }
}

const NEWER_KERNEL: &str = "run Linux 6.1 or later (6.1.119, 6.6.86, 6.12.21 or later advised)";

fn remedy(errno: i32, disabled: Option<&str>) -> String {
    match errno {
        libc::EPERM | libc::EACCES => match disabled.map(str::trim) {
            Some("2") => "run `sysctl kernel.io_uring_disabled=0`".into(),
            Some("1") => "run `sysctl kernel.io_uring_disabled=0`, or add the process's group to \
                          kernel.io_uring_group"
                .into(),
            _ => "allow io_uring_setup, io_uring_enter and io_uring_register in the container's \
                  seccomp profile (Docker refuses them by default: --security-opt \
                  seccomp=<profile>)"
                .into(),
        },
        libc::ENOSYS => format!(
            "{NEWER_KERNEL}, built with CONFIG_IO_URING, and allow the io_uring system calls in \
             the container's seccomp profile"
        ),
        libc::EINVAL => NEWER_KERNEL.into(),
        libc::ENOMEM => "raise the locked-memory limit (ulimit -l, LimitMEMLOCK=infinity) or the \
                         container's memory, or configure fewer connections"
            .into(),
        libc::EMFILE | libc::ENFILE => "raise the descriptor limit (ulimit -n)".into(),
        _ => format!("{NEWER_KERNEL}, without a policy that refuses io_uring"),
    }
}

/// Builds a driver of these sizes on the calling thread, uses it and lets it go.
pub fn probe(sizes: &DriverSizes) -> Result<(), UringUnavailable> {
    let sizes = DriverSizes { connections: sizes.connections.max(2), ..*sizes };
    let mut driver = UringDriver::new(sizes)?;
    check_operations(driver.ring.uring())?;
    exchange(&mut driver).map_err(|error| UringUnavailable::new("a test exchange", &error))
}

fn check_operations(uring: &io_uring::IoUring) -> Result<(), UringUnavailable> {
    let params = uring.params();
    let features = [
        (params.is_feature_nodrop(), "completions that are never dropped"),
        (params.is_feature_ext_arg(), "waiting with a timeout"),
        (params.is_feature_fast_poll(), "internal polling"),
        (params.is_feature_skip_cqe_on_success(), "silent success"),
    ];
    let mut known = Probe::new();
    uring
        .submitter()
        .register_probe(&mut known)
        .map_err(|error| UringUnavailable::new("asking for the operations", &error))?;
    let operations = [
        (opcode::AcceptMulti::CODE, "accept"),
        (opcode::AsyncCancel2::CODE, "cancel"),
        (opcode::PollAdd::CODE, "poll"),
        (opcode::Recv::CODE, "receive"),
        (opcode::Send::CODE, "send"),
    ];
    let operations = operations.map(|(code, name)| (known.is_supported(code), name));
    match features.into_iter().chain(operations).find(|(there, _)| !there) {
        Some((_, name)) => Err(UringUnavailable::missing(name)),
        None => Ok(()),
    }
}

/// Sends a byte silently and receives it by multishot into a provided buffer.
fn exchange(driver: &mut UringDriver) -> io::Result<()> {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let no_slot = || io::Error::other("no slot for a test connection");
    let receiver = driver.adopt(ours).ok_or_else(no_slot)?;
    let sender = driver.adopt(theirs).ok_or_else(no_slot)?;
    driver.arm_receive(receiver, ReceiveMode::Multishot);
    driver.send_now(sender, &Bytes::from_static(b"7"), 0);
    let mut out = Vec::new();
    for _ in 0..EXCHANGE_TURNS_MAX {
        driver.turn(Duration::from_millis(10), &mut out)?;
        let Some(completion) = out.pop() else { continue };
        let Completion::Received { bytes, .. } = completion else {
            return Err(io::Error::other(format!("unexpected: {completion:?}")));
        };
        let came_through = driver.received(&bytes) == b"7";
        driver.recycle(bytes);
        return match came_through {
            true => Ok(()),
            false => Err(io::Error::other("another byte came out")),
        };
    }
    Err(io::Error::other("the byte did not come through"))
}

const EXCHANGE_TURNS_MAX: usize = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_names_its_own_remedy() {
        let check = |errno: i32, disabled: Option<&str>, wanted: &str| {
            let remedy = remedy(errno, disabled);
            assert!(remedy.contains(wanted), "errno {errno}: {remedy}");
        };
        check(libc::EPERM, Some("2\n"), "kernel.io_uring_disabled=0");
        check(libc::EPERM, Some("1\n"), "kernel.io_uring_group");
        check(libc::EPERM, Some("0\n"), "seccomp");
        check(libc::EPERM, None, "seccomp");
        check(libc::ENOSYS, None, "CONFIG_IO_URING");
        check(libc::EINVAL, Some("0\n"), "Linux 6.1");
        check(libc::ENOMEM, Some("0\n"), "LimitMEMLOCK");
        check(libc::EMFILE, Some("0\n"), "ulimit -n");
        check(libc::EIO, Some("0\n"), "Linux 6.1");
    }

    #[test]
    fn the_error_says_cause_remedy_and_the_way_round() {
        let error = UringUnavailable::at_setup(io::Error::from_raw_os_error(libc::EPERM));
        let text = error.to_string();
        assert!(text.contains("setting up a ring failed: Operation not permitted"), "{text}");
        assert!(text.contains("--engine epoll"), "{text}");
    }
}
