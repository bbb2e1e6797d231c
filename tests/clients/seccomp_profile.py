"""Runs a program under a seccomp profile in Docker's format, as a container runtime would.

Arguments: the profile, then the program and its arguments. With `--privileged` before them the filter
is loaded without no_new_privs, and what a runtime still has to do then is done under it. Names are resolved by the C compiler's
headers, so that they are this architecture's; those that it does not have are left out."""

import ctypes
import json
import os
import struct
import subprocess
import sys

from seccomp import ALLOW, ERRNO, run_under


def numbers():
    """The number of each system call."""
    macros = subprocess.run(
        ["cc", "-E", "-dM", "-include", "sys/syscall.h", "-xc", "/dev/null"],
        check=True, capture_output=True, text=True,
    ).stdout
    words = [line.split() for line in macros.splitlines() if line.startswith("#define __NR_")]
    return {w[1][len("__NR_"):]: int(w[2]) for w in words if len(w) == 3 and w[2].isdigit()}


def action(rule):
    kind = rule.get("action", rule.get("defaultAction"))
    if kind == "SCMP_ACT_ALLOW":
        return ALLOW
    assert kind == "SCMP_ACT_ERRNO", kind
    return ERRNO | rule.get("errnoRet", rule.get("defaultErrnoRet", 1))


def called(libc, what, result):
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def become_the_user(libc):
    """In runc's order (finalizeNamespace): descriptors, folder, bounding set, user, capabilities."""
    PR_CAPBSET_READ, PR_CAPBSET_DROP, PR_SET_KEEPCAPS, PR_CAP_AMBIENT = 23, 24, 8, 47
    folder = os.open("/proc/self/fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fstatvfs(folder)
    os.listdir(folder)
    called(libc, "close_range", libc.syscall(known["close_range"], 100, 0xFFFFFFFF, 4))
    here = os.open(".", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("/")
    os.fchdir(here)
    capability = 0
    while libc.prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1:
        called(libc, "the bounding set", libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
        capability += 1
    called(libc, "keepcaps", libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0))
    os.fchown(here, -1, -1)
    called(libc, "setgroups", libc.syscall(known["setgroups"], 0, None))
    called(libc, "setgid", libc.syscall(known["setgid"], os.getgid()))
    called(libc, "setuid", libc.syscall(known["setuid"], os.getuid()))
    called(libc, "keepcaps", libc.prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0))
    head = ctypes.create_string_buffer(struct.pack("II", 0x20080522, 0))
    none = ctypes.create_string_buffer(24)
    called(libc, "capget", libc.syscall(known["capget"], head, none))
    none = ctypes.create_string_buffer(24)
    called(libc, "capset", libc.syscall(known["capset"], head, none))
    called(libc, "ambient", libc.prctl(PR_CAP_AMBIENT, 4, 0, 0, 0))
    os.close(here)
    os.close(folder)


before = None
if sys.argv[1] == "--privileged":
    before = become_the_user
    del sys.argv[1]
profile = json.load(open(sys.argv[1]))
known = numbers()
rules = []
for rule in profile["syscalls"]:
    assert "args" not in rule, rule
    rules += [(known[name], action(rule)) for name in rule["names"] if name in known]
run_under(rules, action(profile), sys.argv[2:], before)
