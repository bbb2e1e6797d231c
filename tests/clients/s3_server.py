"""Moto's S3 on a free port of loopback; it prints the address to standard error, keeps everything in
memory and takes any credentials."""

import sys

import lifeline

lifeline.hold()

from moto.server import main

sys.exit(main(["-H", "127.0.0.1", "-p", "0"]))
