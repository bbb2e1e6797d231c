"""Python `websockets` as a client: plays the steps that the test gives as JSON, and fails at the
first that does not go as it says. Steps: see tests/tests/it/ws.rs."""

import asyncio
import json
import os
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed


async def main(url, script, compression=None):
    socket = await connect(url, max_size=64 << 20, compression=compression, proxy=None)
    assert bool(socket.protocol.extensions) == bool(compression), socket.protocol.extensions
    for name, argument in script:
        await play(socket, name, argument)
    # Without a closing handshake: after a close in the middle of a long message the library trips
    # over its own transport. `close` is a step.
    os._exit(0)


async def play(socket, name, argument):
    if name == "text":
        await socket.send(argument)
    elif name == "binary":
        await socket.send(bytes.fromhex(argument))
    elif name == "fill_text":
        await socket.send("x" * argument)
    elif name == "fill_binary":
        await socket.send(b"x" * argument)
    elif name == "fragments":
        await socket.send(argument)
    elif name == "ping":
        await (await socket.ping(argument))
    elif name == "close":
        await socket.close(argument)
    elif name == "expect_close":
        try:
            got = await socket.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd.code == argument[0], closed
            assert closed.rcvd.reason.startswith(argument[1]), closed
        else:
            raise AssertionError(f"expected a close, got {got!r}")
    elif name == "expect_event":
        event = json.loads(await socket.recv())
        for member, value in argument.items():
            assert event.get(member) == value, event
    else:
        expected = {
            "expect_text": lambda: argument,
            "expect_binary": lambda: bytes.fromhex(argument),
            "expect_fill_text": lambda: "x" * argument,
            "expect_fill_binary": lambda: b"x" * argument,
        }[name]()
        got = await socket.recv()
        assert type(got) is type(expected) and got == expected, (name, got[:100], expected[:100])


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:]))
