"""Publishes 5,000 lines of NDJSON that aiohttp compresses with gzip.

    python3 publish_gzip.py http://HOST:PORT
"""

import asyncio
import sys

import aiohttp


async def main(server: str) -> None:
    lines = "".join('{"data":{"n":%d}}\n' % n for n in range(5000)).encode()
    headers = {"content-type": "application/x-ndjson"}
    url = f"{server}/v1/channels/aiohttp/events"
    async with aiohttp.ClientSession() as session:
        async with session.post(url, data=lines, headers=headers, compress="gzip") as answer:
            body = await answer.json()
            assert answer.status == 202, body
            print(f"{body['accepted']} accepted")


asyncio.run(main(sys.argv[1]))
