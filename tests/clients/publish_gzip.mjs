// Publishes 5,000 lines of NDJSON through a gzip stream, as they are made.
//
//   node publish_gzip.mjs http://HOST:PORT CHANNEL
import assert from "node:assert/strict";
import { Readable } from "node:stream";
import { createGzip } from "node:zlib";
import { request } from "undici";

const [server, channel] = process.argv.slice(2);
function* lines() {
  for (let n = 0; n < 5000; n += 1) yield `{"data":{"n":${n}}}\n`;
}
const answer = await request(`${server}/v1/channels/${channel}/events`, {
  method: "POST",
  headers: { "content-type": "application/x-ndjson", "content-encoding": "gzip" },
  body: Readable.from(lines()).pipe(createGzip()),
});
const body = await answer.body.json();
assert.equal(answer.statusCode, 202, JSON.stringify(body));
console.log(`${body.accepted} accepted`);
