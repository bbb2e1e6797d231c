"""Runs a program under a seccomp profile in Docker's format, as a container runtime would.

Arguments: the profile, then the program and its arguments. Names are resolved by the C compiler's
headers, so that they are this architecture's; those that it does not have are left out."""

import json
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


profile = json.load(open(sys.argv[1]))
known = numbers()
rules = []
for rule in profile["syscalls"]:
    assert "args" not in rule, rule
    rules += [(known[name], action(rule)) for name in rule["names"] if name in known]
run_under(rules, action(profile), sys.argv[2:])
