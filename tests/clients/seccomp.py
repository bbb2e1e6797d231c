"""Loads a seccomp filter into this process and runs a program under it."""

import ctypes
import os
import struct
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
LOAD, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ERRNO, ALLOW = 0x00050000, 0x7FFF0000


def run_under(rules, otherwise, command, before=None):
    """Runs a command. `rules` are numbers of system calls with what becomes of them; all others
    get `otherwise`. With `before` the filter is loaded by right and not with no_new_privs, and that
    is called between the filter and the command."""
    instructions = [(LOAD, 0, 0, 0)]
    for number, action in rules:
        instructions.append((JUMP_IF_EQUAL, 0, 1, number))
        instructions.append((RETURN, 0, 0, action))
    instructions.append((RETURN, 0, 0, otherwise))
    held = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *i) for i in instructions))
    program = struct.pack("HxxxxxxQ", len(instructions), ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    if before is None and libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        sys.exit(f"no_new_privs: {os.strerror(ctypes.get_errno())}")
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0) != 0:
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    if before is not None:
        before(libc)
    os.execvp(command[0], command)
