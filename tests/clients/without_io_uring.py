"""Runs a program whose io_uring_setup fails, as Docker's default seccomp profile makes it fail.

Arguments: the errno, then the program and its arguments."""

import sys

from seccomp import ALLOW, ERRNO, run_under

IO_URING_SETUP = 425  # the same number on every architecture

run_under([(IO_URING_SETUP, ERRNO | int(sys.argv[1]))], ALLOW, sys.argv[2:])
