"""centrifuge-python, unchanged, as a client: plays the steps that the test gives as JSON. The same
steps as centrifuge.mjs, as far as this SDK has them. Arguments: URL, `json` or `protobuf`, the
SDK's version, steps."""

import asyncio
import json
import os
import sys
from importlib import metadata

URL, PROTOCOL, VERSION, SCRIPT = sys.argv[1:5]
if metadata.version("centrifuge-python") != VERSION:
    # Older versions stand in a folder of their own beside the newest.
    sys.path[:0] = [folder for path in sys.path if os.path.isdir(folder := path + "/older")]
assert metadata.version("centrifuge-python") == VERSION, "run `cargo xtask test`, which installs it"

from centrifuge import (  # noqa: E402
    Client,
    ClientEventHandler,
    ClientState,
    ReplyError,
    SubscriptionEventHandler,
)

BINARY = PROTOCOL == "protobuf"


def encode(value):
    return json.dumps(value).encode() if BINARY else value


def decode(data):
    return json.loads(data) if BINARY else data


def publication(it):
    tags = {"tags": dict(it.tags)} if it.tags else {}
    return {"offset": it.offset or 0, "data": decode(it.data), **tags}


async def main():
    arrived = asyncio.Queue()

    class Connection(ClientEventHandler):
        async def on_connecting(self, context):
            arrived.put_nowait({"connecting": context.code})

        async def on_connected(self, context):
            arrived.put_nowait({"connected": True})

        async def on_disconnected(self, context):
            # 0.6.0 says so of a connection that it makes again, too.
            what = "connecting" if client.state == ClientState.CONNECTING else "disconnected"
            arrived.put_nowait({what: context.code, "reason": context.reason})

        # Of subscriptions that the server makes.
        async def on_subscribed(self, context):
            data = {"data": decode(context.data)} if context.data else {}
            arrived.put_nowait(
                {
                    "server": context.channel,
                    "recovered": context.recovered,
                    "wasRecovering": context.was_recovering,
                    **data,
                }
            )

        async def on_unsubscribed(self, context):
            arrived.put_nowait({"server": context.channel, "unsubscribed": True})

        async def on_publication(self, context):
            event = publication(context.pub)
            arrived.put_nowait({"server": context.channel, "publication": event})

    class Channel(SubscriptionEventHandler):
        def __init__(self, name):
            self.name = name

        async def on_publication(self, context):
            arrived.put_nowait({"channel": self.name, "publication": publication(context.pub)})

        async def on_subscribed(self, context):
            subscribed = {
                "wasRecovering": context.was_recovering,
                "recovered": context.recovered,
                "recoverable": context.recoverable,
            }
            arrived.put_nowait({"channel": self.name, "subscribed": subscribed})

        async def on_unsubscribed(self, context):
            arrived.put_nowait({"channel": self.name, "unsubscribed": context.code})

        async def on_join(self, context):
            arrived.put_nowait({"channel": self.name, "join": context.info.user})

        async def on_leave(self, context):
            arrived.put_nowait({"channel": self.name, "leave": context.info.user})

        async def on_error(self, context):
            arrived.put_nowait({"channel": self.name, "error": context.code})

    client = None
    # Back at once where a script cuts often.
    quick = {"min_reconnect_delay": 0.01, "max_reconnect_delay": 0.05}
    pace = quick if any(step == "follow" for step, _ in json.loads(SCRIPT)) else {}
    subscriptions = {}

    # One token after the other, as a backend would give them.
    def tokens(channel, given):
        given = enumerate(given)

        async def take(_channel):
            number, token = next(given)
            arrived.put_nowait({"channel": channel, "token": number})
            return token

        return take

    async def play(step, argument):
        nonlocal client
        if step == "connect":
            token = (argument or {}).get("token", "")
            client = Client(URL, events=Connection(), use_protobuf=BINARY, token=token, **pace)
            await client.connect()
        elif step == "subscribe":
            name = argument[0]
            options = argument[1] if len(argument) > 1 else {}
            watch = options.get("joinLeave", False)
            events = Channel(name)
            given = tokens(name, options["tokens"]) if "tokens" in options else None
            subscriptions[name] = client.new_subscription(
                name, events=events, join_leave=watch, get_token=given
            )
            await subscriptions[name].subscribe()
        elif step == "unsubscribe":
            await subscriptions[argument].unsubscribe()
        elif step == "publish":
            await client.publish(argument[0], encode(argument[1]))
        elif step == "publish_fails":
            try:
                await client.publish(argument[0], encode(argument[1]))
            except ReplyError as error:
                assert error.code == argument[2], error.code
            else:
                raise AssertionError("it was taken")
        elif step == "history":
            name, options, expected = argument
            result = await subscriptions[name].history(limit=options["limit"])
            assert [publication(it) for it in result.publications] == expected["publications"]
            assert result.offset == expected["offset"]
        elif step == "presence":
            clients = (await client.presence(argument[0])).clients
            assert len(clients) == argument[1], clients
            assert all(info.client == id and info.user == "" for id, info in clients.items())
        elif step == "presence_stats":
            result = await client.presence_stats(argument[0])
            expected = argument[1]
            assert result.num_clients == expected["numClients"], result
            assert result.num_users == expected["numUsers"], result
        elif step == "presence_fails":
            for ask in (client.presence, client.presence_stats):
                try:
                    await ask(argument[0])
                except ReplyError as error:
                    assert error.code == argument[1], error.code
                else:
                    raise AssertionError("it was answered")
        elif step == "cut":
            client._conn.transport.abort()
        elif step == "follow":
            # Every publication up to the last one, once and in order, with cuts behind some of them.
            at = 0
            while at < argument["last"]:
                got = await asyncio.wait_for(arrived.get(), 60)
                if "subscribed" in got:
                    recovered = {"wasRecovering": True, "recovered": True, "recoverable": True}
                    assert got["subscribed"] == recovered, got
                if "publication" not in got:
                    continue
                at += 1
                expected = {"channel": argument["channel"], "publication": {"offset": at, "data": at}}
                assert got == expected, f"expected {expected}, got {got}"
                if at in argument["cuts"] and client._conn:
                    client._conn.transport.abort()
        elif step == "say":
            print(argument, flush=True)
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        elif step == "disconnect":
            await client.disconnect()
        elif step == "expect":
            got = await asyncio.wait_for(arrived.get(), 60)
            for member, value in argument.items():
                assert got.get(member) == value, f"expected {argument}, got {got}"
        else:
            raise AssertionError(f"no step {step}")

    for step, argument in json.loads(SCRIPT):
        try:
            await play(step, argument)
        except Exception as error:
            raise AssertionError(f"at the step {step} {argument}") from error
    os._exit(0)


asyncio.run(main())
