"""ClickHouse itself, on loopback: its engine and its own HTTP and TCP handlers, no emulation.

The engine is a library made for embedding. Its command line is that of clickhouse-local, which can
listen, so a query that never ends keeps a server up. Prints one line when it serves,
`ready http=PORT` with ` tcp=PORT` if asked for, and runs until it is killed; what it has to say
goes to standard error. It speaks no TLS, and CREATE USER has nowhere to store a user: give --user.
"""

import argparse
import ctypes
import os
import signal
import socket
import sys
import threading
import time
from xml.sax.saxutils import escape

import lifeline

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--library", required=True, help="libchdb.so")
parser.add_argument("--path", required=True, help="where the data is, from one start to the next")
parser.add_argument("--port", type=int, default=0, help="of HTTP; 0 takes a free one")
parser.add_argument("--tcp-port", type=int, help="of the native protocol; 0 takes a free one")
parser.add_argument("--user", action="append", default=[], metavar="NAME:PASSWORD",
                    help="a user besides `default`, who needs no password")
parser.add_argument("--config-file", help="a configuration of clickhouse-local; excludes --user")

USER = "<{0}><password>{1}</password><networks><ip>::/0</ip></networks>" \
       "<profile>default</profile><quota>default</quota></{0}>"


def main():
    options = parser.parse_args()
    if options.user and options.config_file:
        parser.error("--user writes a configuration of its own: leave out --config-file")
    lifeline.hold()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Python would only take a note: its main thread does not come back from the engine.
        signal.signal(number, signal.SIG_DFL)
    os.makedirs(options.path, exist_ok=True)
    config = options.config_file
    if options.user:
        config = write_config(options.path, options.user)
    threading.Thread(target=announce, args=[options.tcp_port is not None], daemon=True).start()
    sys.exit(serve(options, config))


def write_config(folder, users):
    """Users are read from a file of their own only; those inside the configuration are ignored."""
    named = [USER.format("default", "")]
    for user in users:
        name, _, password = user.partition(":")
        named.append(USER.format(name, escape(password)))
    config, accounts = (os.path.abspath(os.path.join(folder, name))
                        for name in ("config.xml", "users.xml"))
    with open(accounts, "w") as file:
        file.write(f"<clickhouse><profiles><default/></profiles><quotas><default/></quotas>"
                   f"<users>{''.join(named)}</users></clickhouse>")
    with open(config, "w") as file:
        file.write(f"<clickhouse><users_config>{escape(accounts)}</users_config></clickhouse>")
    return config


def serve(options, config):
    queries = ["SYSTEM START LISTEN HTTP"]
    words = ["clickhouse", "--multiquery", "--listen_host=127.0.0.1", "--log-level=warning",
             "--logger.console", f"--path={options.path}", f"--http_port={options.port}"]
    if options.tcp_port is not None:
        words.append(f"--tcp_port={options.tcp_port}")
        queries.append("SYSTEM START LISTEN TCP")
    if config:
        words.append(f"--config-file={config}")
    # The server listens for as long as this runs: a hundred days.
    queries.append("SELECT sleepEachRow(1) FROM numbers(8640000) SETTINGS max_block_size = 1,"
                   " function_sleep_max_microseconds_per_block = 100000000 FORMAT Null")
    words.append(f"--query={'; '.join(queries)}")
    library = ctypes.CDLL(options.library)
    run, error = library.chdb_query_cmdline, library.chdb_result_error
    run.restype, error.argtypes, error.restype = ctypes.c_void_p, [ctypes.c_void_p], ctypes.c_char_p
    argv = (ctypes.c_char_p * (len(words) + 1))(*[word.encode() for word in words], None)
    result = run(len(words), argv)
    said = error(result) if result else None
    return f"the engine ended: {said.decode() if said else 'what it said is above'}"


def announce(with_tcp):
    """Waits for the ports that this very process listens on, so that no other server is taken for
    it, and tells them apart by what they answer."""
    wanted = {"http", "tcp"} if with_tcp else {"http"}
    ports = {}
    while ports.keys() < wanted:
        time.sleep(0.01)
        for port in listening():
            if port not in ports.values():
                ports[protocol(port)] = port
    print("ready", *(f"{name}={ports[name]}" for name in sorted(wanted)), flush=True)


def listening():
    for name in os.listdir("/proc/self/fd"):
        try:
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as own:
                if own.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                    yield own.getsockname()[1]
        except OSError:
            continue  # Closed in the meantime.


def protocol(port):
    with socket.create_connection(("127.0.0.1", port), timeout=60) as probe:
        probe.sendall(b"GET /ping HTTP/1.0\r\n\r\n")
        answer = b""
        while piece := probe.recv(4096):
            answer += piece
    return "http" if answer.endswith(b"\r\nOk.\n") else "tcp"


if __name__ == "__main__":
    main()
