"""Python `aiohttp` as a client: plays the steps that the test gives as JSON, and fails at the
first that does not go as it says. Steps: see tests/tests/it/ws.rs; it cannot send fragments."""

import asyncio
import json
import sys

import aiohttp
from aiohttp import WSMsgType


async def main(url, script, deflate=None):
    options = {"max_msg_size": 64 << 20, "autoping": False, "compress": 15 if deflate else 0}
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(url, **options) as socket:
            assert bool(socket.compress) == bool(deflate), socket.compress
            for name, argument in script:
                await play(socket, name, argument)


async def play(socket, name, argument):
    if name == "text":
        await socket.send_str(argument)
    elif name == "binary":
        await socket.send_bytes(bytes.fromhex(argument))
    elif name == "fill_text":
        await socket.send_str("x" * argument)
    elif name == "fill_binary":
        await socket.send_bytes(b"x" * argument)
    elif name == "ping":
        await socket.ping(argument.encode())
        got = await socket.receive()
        assert (got.type, got.data) == (WSMsgType.PONG, argument.encode()), got
    elif name == "close":
        await socket.close(code=argument)
    elif name == "expect_close":
        got = await socket.receive()
        if got.type == WSMsgType.CLOSE:
            assert got.data == argument[0] and got.extra.startswith(argument[1]), got
        else:
            # It was closed by us: aiohttp keeps the server's code.
            assert got.type in (WSMsgType.CLOSED, WSMsgType.CLOSING), got
            assert socket.close_code == argument[0], socket.close_code
    elif name == "expect_event":
        event = json.loads((await socket.receive()).data)
        for member, value in argument.items():
            assert event.get(member) == value, event
    else:
        kind, expected = {
            "expect_text": lambda: (WSMsgType.TEXT, argument),
            "expect_binary": lambda: (WSMsgType.BINARY, bytes.fromhex(argument)),
            "expect_fill_text": lambda: (WSMsgType.TEXT, "x" * argument),
            "expect_fill_binary": lambda: (WSMsgType.BINARY, b"x" * argument),
        }[name]()
        got = await socket.receive()
        assert got.type == kind and got.data == expected, (name, got.type, str(got.data)[:100])


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2]), *sys.argv[3:]))
