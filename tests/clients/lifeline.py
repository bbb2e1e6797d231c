"""Ends this process when the one that started it ends, however that happens: a killed test leaves
nothing behind that listens. The kernel watches the thread that started us, so start from one that
stays."""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def hold():
    before = os.getppid()
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != before:
        sys.exit("who started this is gone already")
