// One HTTP/2 stream of events that is answered while it runs, by Node's own client.
//
//   node publish_stream.mjs http://HOST:PORT CHANNEL ndjson|protobuf talk|bulk|wait [QUERY]
//
// talk: an event, its answer, the next event; bulk: 20,000 events at once; wait: three events, then
// whatever the server says, without ever ending the request. Prints the last answer as JSON.
import assert from "node:assert/strict";
import http2 from "node:http2";

const [server, channel, format, mode, query = ""] = process.argv.slice(2);
const protobuf = format === "protobuf";
const type = protobuf ? "application/x-protobuf" : "application/x-ndjson";

function varint(number) {
  const bytes = [];
  for (; number >= 0x80; number = Math.floor(number / 128)) bytes.push((number % 128) | 0x80);
  return Buffer.from([...bytes, number]);
}

/** An event, as the schema has it: `json` is field 12. */
function event(n) {
  if (!protobuf) return Buffer.from(`{"data":{"n":${n}}}\n`);
  const json = Buffer.from(`{"n":${n}}`);
  const message = Buffer.concat([Buffer.from([12 * 8 + 2]), varint(json.length), json]);
  return Buffer.concat([varint(message.length), message]);
}

/** A varint at a place, and the place behind it; null if it is not there yet. */
function readVarint(bytes, at) {
  for (let number = 0, scale = 1; at < bytes.length; scale *= 128) {
    const byte = bytes[at++];
    number += (byte & 0x7f) * scale;
    if (byte < 0x80) return [number, at];
  }
  return null;
}

/** The fields of a PublishAnswer that these tests look at. */
function readAnswer(bytes) {
  const answer = { accepted: 0, rejected: 0, duplicates: 0, upto: 0 };
  const names = { 1: "accepted", 2: "rejected", 3: "duplicates", 10: "upto", 11: "end" };
  for (let at = 0; at < bytes.length; ) {
    let key, value;
    [key, at] = readVarint(bytes, at);
    [value, at] = readVarint(bytes, at);
    const name = names[Math.floor(key / 8)];
    if (key % 8 === 2) {
      if (name) answer[name] = bytes.subarray(at, at + value).toString();
      at += value;
    } else if (name) answer[name] = value;
  }
  return answer;
}

const client = http2.connect(server);
const request = client.request({
  ":method": "POST",
  ":path": `/v1/channels/${channel}/stream${query}`,
  "content-type": type,
});

let input = Buffer.alloc(0);
/** The next answer in what has come, or undefined. */
function next() {
  if (!protobuf) {
    const end = input.indexOf(10);
    if (end < 0) return undefined;
    const line = input.subarray(0, end).toString();
    input = input.subarray(end + 1);
    return JSON.parse(line);
  }
  const head = readVarint(input, 0);
  if (!head || input.length < head[1] + head[0]) return undefined;
  const message = input.subarray(head[1], head[1] + head[0]);
  input = input.subarray(head[1] + head[0]);
  return readAnswer(message);
}

async function* answers() {
  for await (const piece of request) {
    input = Buffer.concat([input, piece]);
    for (let answer = next(); answer; answer = next()) yield answer;
  }
}

const [headers] = await new Promise((resolve, reject) => {
  request.on("response", (...all) => resolve(all));
  request.on("error", reject);
});
// The head comes before the first event was sent.
assert.equal(headers[":status"], 200);
assert.equal(headers["content-type"], type);

let last;
let [upto, accepted] = [0, 0];
const total = { talk: 100, bulk: 20_000, wait: 3 }[mode];
if (mode === "talk") request.write(event(0));
else for (let n = 0; n < total; n += 1) request.write(event(n));
if (mode === "bulk") request.end();
for await (const answer of answers()) {
  assert.equal(last?.end, undefined, "nothing comes after the end");
  last = answer;
  if (answer.end) continue;
  assert.ok(answer.upto > upto, JSON.stringify([answer, upto]));
  accepted += answer.accepted;
  upto = answer.upto;
  assert.equal(accepted, upto);
  if (mode === "talk") {
    if (upto < total) request.write(event(upto));
    else request.end();
  }
  if (mode === "wait" && upto === total) console.log("waiting");
}
assert.ok(last?.end, "the last answer says that it is the last");
assert.deepEqual([last.upto, last.accepted, last.rejected], [total, total, 0]);
console.log(JSON.stringify(last));
client.close();
