"""Power cuts and kills on a real ext4 file system: `python3 storage/tests/powercut.py [rounds]`.

Makes an ext4 image, mounts it, lets `examples/endure` write, and after a random time either shuts
the file system down as a power cut does (EXT4_IOC_SHUTDOWN, with or without its journal's last
entries) or only kills the writer. Then mounts it again and checks that every event that had been
said to be synced is there once and in order. Needs root and loop devices.
"""

import fcntl
import os
import random
import struct
import subprocess
import sys
import tempfile
import time

EXT4_IOC_SHUTDOWN = 0x8004587D
LOG_FLUSH, NO_LOG_FLUSH, KILL_ONLY = 1, 2, None


def run(*command):
    subprocess.run(command, check=True)


def gather(pipe, seconds):
    """What the writer says within the time, without ever blocking."""
    said, until = b"", time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            said += os.read(pipe.fileno(), 1 << 16)
        except BlockingIOError:
            time.sleep(0.001)
    return said


def one(writer, image, mount, how):
    """Writes until the cut; returns the last offset that was said to be synced."""
    run("mount", "-o", "loop", image, mount)
    try:
        process = subprocess.Popen([writer, "write", mount + "/data"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        os.set_blocking(process.stdout.fileno(), False)
        said = gather(process.stdout, 0.5 + random.random())
        if how is not KILL_ONLY:
            directory = os.open(mount, os.O_RDONLY)
            said += gather(process.stdout, 0.01)
            fcntl.ioctl(directory, EXT4_IOC_SHUTDOWN, struct.pack("I", how))
            os.close(directory)
        process.kill()
        process.wait()
    finally:
        run("umount", mount)
    lines = said.decode().splitlines()[:-1]
    return int(lines[-1].split()[0]) if lines else 0


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    run("cargo", "build", "--quiet", "-p", "storage", "--example", "endure")
    target = os.environ.get("CARGO_TARGET_DIR", "target")
    writer = os.path.join(target, "debug/examples/endure")
    with tempfile.TemporaryDirectory() as folder:
        image, mount = folder + "/image", folder + "/mount"
        os.mkdir(mount)
        with open(image, "wb") as file:
            file.truncate(400 << 20)
        run("mkfs.ext4", "-q", image)
        top = 0
        for i in range(rounds):
            how = [NO_LOG_FLUSH, LOG_FLUSH, KILL_ONLY][i % 3]
            top = max(top, one(writer, image, mount, how))
            run("mount", "-o", "loop", image, mount)
            try:
                run(writer, "check", mount + "/data", str(top))
            finally:
                run("umount", mount)
        print(f"{rounds} cuts, {top} events, none lost or doubled")


if __name__ == "__main__":
    main()
