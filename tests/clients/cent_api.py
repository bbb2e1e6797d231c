"""cent, Centrifugo's own library for its server API, unchanged: every method that the server has, by
the synchronous client and by the one on aiohttp. Argument: the URL of the API."""

import asyncio
import sys

import cent

URL = sys.argv[1]
TAGS = {"kind": "trade", "symbol": "ü"}


def refused(code, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except cent.CentApiResponseError as error:
        assert error.code == code, (error.code, error.message)
    else:
        raise AssertionError("it was taken")


def synchronous():
    client = cent.Client(URL, api_key="any")
    first = client.publish(cent.PublishRequest(channel="news", data={"n": 1}, tags=TAGS))
    assert first.offset == 1 and first.epoch
    again = cent.PublishRequest(channel="news", data={"n": 2}, idempotency_key="two", delta=True)
    assert client.publish(again).offset == 2
    assert client.publish(again).offset == 2, "the same key publishes once"
    assert client.publish(cent.PublishRequest(channel="bytes", b64data="AAE=", data=None)).offset == 1

    broadcast = client.broadcast(
        cent.BroadcastRequest(channels=["a", "b", "closed:a", "b"], data="text")
    )
    got = [(r.result.offset if r.result else None, r.error) for r in broadcast.responses]
    assert [offset for offset, _ in got] == [1, 1, None, 2], got
    assert got[2][1].code == 103, got

    history = client.history(cent.HistoryRequest(channel="news", limit=10))
    assert [(p.offset, p.data) for p in history.publications] == [(1, {"n": 1}), (2, {"n": 2})]
    assert history.publications[0].tags == TAGS and history.publications[1].tags is None
    assert (history.offset, history.epoch) == (2, first.epoch)
    since = cent.StreamPosition(offset=1, epoch=first.epoch)
    rest = client.history(cent.HistoryRequest(channel="news", limit=-1, since=since))
    assert [p.offset for p in rest.publications] == [2]
    newest = client.history(cent.HistoryRequest(channel="news", limit=1, reverse=True))
    assert [p.offset for p in newest.publications] == [2]
    bare = client.history(cent.HistoryRequest(channel="news"))
    assert bare.publications == [] and bare.offset == 2
    lost = cent.StreamPosition(offset=1, epoch="none")
    refused(112, client.history, cent.HistoryRequest(channel="news", limit=1, since=lost))

    for parallel in (False, True):
        channel = f"batch{parallel}"
        requests = [cent.PublishRequest(channel=channel, data=n) for n in range(50)]
        requests.append(cent.HistoryRequest(channel=channel, limit=100))
        replies = client.batch(cent.BatchRequest(requests=requests, parallel=parallel)).replies
        assert len(replies) == 51
        if not parallel:
            assert [r.offset for r in replies[:50]] == list(range(1, 51))
            assert [p.data for p in replies[50].publications] == list(range(50))

    assert client.channels(cent.ChannelsRequest(pattern="n*")).channels == {}
    node = client.info(cent.InfoRequest()).nodes[0]
    assert node.uid and node.name and node.version and node.num_clients == 0

    nobody = "00000000-0000-4000-8000-000000000000"
    client.disconnect(cent.DisconnectRequest(user="nobody", client=nobody))
    client.unsubscribe(cent.UnsubscribeRequest(user="nobody", channel="news"))
    since = cent.StreamPosition(offset=1, epoch=first.epoch)
    override = cent.ChannelOptionsOverride(presence=cent.BoolValue(value=False))
    client.subscribe(
        cent.SubscribeRequest(
            user="nobody", channel="news", info={"a": 1}, data=[2], recover_since=since, override=override
        )
    )
    refused(107, client.publish, cent.PublishRequest(channel="a b", data=1))
    refused(108, client.publish, cent.PublishRequest(channel="a", data=1, skip_history=True))
    refused(108, client.refresh, cent.RefreshRequest(user="nobody"))
    client.history_remove(cent.HistoryRemoveRequest(channel="news"))
    gone = client.history(cent.HistoryRequest(channel="news", limit=10))
    assert gone.publications == [] and gone.offset == 2
    assert client.presence(cent.PresenceRequest(channel="room:a")).presence == {}
    stats = client.presence_stats(cent.PresenceStatsRequest(channel="room:a"))
    assert (stats.num_clients, stats.num_users) == (0, 0)
    refused(108, client.presence, cent.PresenceRequest(channel="news"))


async def on_aiohttp():
    client = cent.AsyncClient(URL, api_key="any")
    published = await client.publish(cent.PublishRequest(channel="later", data=[1]))
    history = await client.history(cent.HistoryRequest(channel="later", limit=1))
    assert [(p.offset, p.data) for p in history.publications] == [(1, [1])]
    assert history.epoch == published.epoch
    await client.close()


synchronous()
asyncio.run(on_aiohttp())
