// npm `ws` as a client: plays the steps that the test gives as JSON, and fails at the first that
// does not go as it says. Steps: see tests/tests/it/ws.rs.
import assert from "node:assert/strict";
import WebSocket from "ws";

const [url, script, deflate] = process.argv.slice(2);
const perMessageDeflate = deflate ? { threshold: 0 } : false;
const options = { rejectUnauthorized: false, maxPayload: 64 << 20, perMessageDeflate };
const socket = new WebSocket(url, options);
const arrived = [];
let wake = () => {};
const put = (item) => {
  arrived.push(item);
  wake();
};
socket.on("message", (data, isBinary) => put({ data, isBinary }));
socket.on("pong", (data) => put({ pong: data.toString() }));
socket.on("close", (code, reason) => put({ code, reason: reason.toString() }));
socket.on("error", (error) => put({ error: String(error) }));
await new Promise((resolve, reject) => {
  socket.once("open", resolve);
  socket.once("error", reject);
});

assert.equal(socket.extensions.includes("permessage-deflate"), Boolean(deflate));

async function next() {
  while (arrived.length === 0) {
    await new Promise((resolve) => (wake = resolve));
  }
  return arrived.shift();
}

async function expectMessage(expected, binary) {
  const got = await next();
  assert.ok(got.data, `expected a message, got ${JSON.stringify(got)}`);
  assert.equal(got.isBinary, binary);
  assert.equal(Buffer.compare(got.data, Buffer.from(expected)), 0, "other bytes came back");
}

const steps = {
  text: (text) => socket.send(text),
  binary: (hex) => socket.send(Buffer.from(hex, "hex")),
  fill_text: (count) => socket.send("x".repeat(count)),
  fill_binary: (count) => socket.send(Buffer.alloc(count, 120)),
  fragments: (parts) =>
    parts.forEach((part, at) => socket.send(part, { fin: at + 1 === parts.length })),
  ping: async (text) => {
    socket.ping(text);
    assert.deepEqual(await next(), { pong: text });
  },
  expect_text: (text) => expectMessage(text, false),
  expect_binary: (hex) => expectMessage(Buffer.from(hex, "hex"), true),
  expect_fill_text: (count) => expectMessage("x".repeat(count), false),
  expect_fill_binary: (count) => expectMessage(Buffer.alloc(count, 120), true),
  expect_event: async (members) => {
    const got = await next();
    assert.ok(got.data && !got.isBinary, JSON.stringify(got));
    const event = JSON.parse(got.data.toString());
    for (const [name, value] of Object.entries(members)) {
      assert.deepEqual(event[name], value, JSON.stringify(event));
    }
  },
  close: (code) => socket.close(code),
  expect_close: async ([code, reason]) => {
    const got = await next();
    assert.equal(got.code, code, JSON.stringify(got));
    assert.ok(got.reason.startsWith(reason), JSON.stringify(got));
  },
};

for (const [name, argument] of JSON.parse(script)) {
  await steps[name](argument);
}
socket.terminate();
process.exit(0);
