// centrifuge-js, unchanged, as a client: plays the steps that the test gives as JSON, and fails at
// the first that does not go as it says. Steps: see tests/tests/it/client.rs.
// Arguments: URL (`ws:`, or `http:` for a stream), `json` or `protobuf`, package, steps.
import assert from "node:assert/strict";
import { EventSource } from "eventsource";
import WebSocket from "ws";

const [url, protocol, name, script] = process.argv.slice(2);
const binary = protocol === "protobuf";
const { Centrifuge } = await import(binary ? `${name}/build/protobuf` : name);
let client;
// Back at once where a script cuts often.
const quick = { minReconnectDelay: 10, maxReconnectDelay: 50 };
const pace = JSON.parse(script).some(([step]) => step === "follow") ? quick : {};

// Over HTTP the last segment of the URL names the stream.
const streams = url.startsWith("http");
const transport = new URL(url).pathname.split("/").pop();
const where = streams ? [{ transport, endpoint: url }] : url;
const emulationEndpoint = new URL("/emulation", url).href;
const how = streams
  ? { emulationEndpoint, eventsource: EventSource, fetch, readableStream: ReadableStream }
  : { websocket: WebSocket };

const cut = () =>
  streams ? client._transport?.close() : client._transport?._transport?.terminate();

const subscriptions = new Map();

const arrived = [];
let wake = () => {};
const put = (item) => {
  arrived.push(item);
  wake();
};

// Protobuf carries bytes, and numbers beyond what a double holds.
const encode = (value) => (binary ? new TextEncoder().encode(JSON.stringify(value)) : value);
const decode = (data) => (binary ? JSON.parse(new TextDecoder().decode(data)) : data);
const publication = ({ offset, data, tags }) => ({
  offset: Number(offset ?? 0),
  data: decode(data),
  ...(Object.keys(tags ?? {}).length > 0 && { tags }),
});

// Connecting may bring a token.
const start = (options) => {
  client = new Centrifuge(where, { ...how, ...(binary && { protocol }), ...pace, ...options });
  client.on("connecting", ({ code }) => put({ connecting: code }));
  client.on("connected", () => put({ connected: true }));
  client.on("disconnected", ({ code, reason }) => put({ disconnected: code, reason }));
  client.on("error", ({ error }) => put({ error: error.code }));
  // Of subscriptions that the server makes.
  client.on("subscribed", ({ channel, recovered, wasRecovering, data }) =>
    put({ server: channel, recovered, wasRecovering, ...(data && { data: decode(data) }) }),
  );
  client.on("unsubscribed", ({ channel }) => put({ server: channel, unsubscribed: true }));
  client.on("publication", (context) =>
    put({ server: context.channel, publication: publication(context) }),
  );
  client.connect();
};

// One token after the other, as a backend would give them.
const tokens = (channel, list) => {
  let taken = 0;
  return async () => {
    put({ channel, token: taken });
    return list[taken++];
  };
};

async function next(what) {
  const late = setTimeout(() => {
    console.error(`nothing came instead of ${what}`);
    process.exit(1);
  }, 60_000);
  while (arrived.length === 0) {
    await new Promise((resolve) => (wake = resolve));
  }
  clearTimeout(late);
  return arrived.shift();
}

async function fails(promise, code) {
  await assert.rejects(promise, (error) => {
    assert.equal(error.code, code, JSON.stringify(error));
    assert.ok(error.message);
    return true;
  });
}

const steps = {
  connect: (options) => start(options),
  subscribe: ([channel, { tokens: list, ...options } = {}]) => {
    if (list) {
      options.getToken = tokens(channel, list);
    }
    const subscription = client.newSubscription(channel, options);
    subscriptions.set(channel, subscription);
    subscription.on("publication", (context) =>
      put({ channel, publication: publication(context) }),
    );
    subscription.on("subscribed", ({ wasRecovering, recovered, recoverable }) =>
      put({ channel, subscribed: { wasRecovering, recovered, recoverable } }),
    );
    subscription.on("unsubscribed", ({ code }) => put({ channel, unsubscribed: code }));
    subscription.on("error", ({ error }) => put({ channel, error: error.code }));
    subscription.on("join", ({ info }) => put({ channel, join: info.user ?? "" }));
    subscription.on("leave", ({ info }) => put({ channel, leave: info.user ?? "" }));
    subscription.subscribe();
  },
  unsubscribe: (channel) => subscriptions.get(channel).unsubscribe(),
  publish: ([channel, data]) => client.publish(channel, encode(data)),
  publish_fails: ([channel, data, code]) => fails(client.publish(channel, encode(data)), code),
  rpc_fails: ([method, code]) => fails(client.rpc(method, encode({})), code),
  history_fails: ([channel, options, code]) => fails(client.history(channel, options), code),
  presence: async ([channel, count]) => {
    const { clients } = await client.presence(channel);
    assert.equal(Object.keys(clients).length, count);
    assert.ok(client._client in clients, "it is not listed itself");
    for (const [id, info] of Object.entries(clients)) {
      assert.equal(info.client, id);
      assert.equal(info.user ?? "", "");
    }
  },
  presence_stats: async ([channel, expected]) =>
    assert.deepEqual(await client.presenceStats(channel), expected),
  presence_fails: async ([channel, code]) => {
    await fails(client.presence(channel), code);
    await fails(client.presenceStats(channel), code);
  },
  send: (data) => client.send(encode(data)),
  history: async ([channel, options, expected]) => {
    const got = await client.history(channel, options);
    const { publications, epoch, offset } = got;
    assert.deepEqual(publications.map((it) => publication(it)), expected.publications);
    assert.equal(Number(offset), expected.offset);
    assert.equal(epoch === "", expected.epoch === "");
  },
  // The connection breaks; the SDK comes back by itself.
  cut: () => cut(),
  // Every publication up to the last one, once and in order, with cuts behind some of them.
  follow: async ({ channel, last, cuts }) => {
    for (let at = 0; at < last; ) {
      const got = await next(`offset ${at + 1}`);
      if (got.subscribed) {
        assert.deepEqual(got.subscribed, { wasRecovering: true, recovered: true, recoverable: true });
      }
      if (!got.publication) {
        continue;
      }
      at += 1;
      assert.deepEqual(got, { channel, publication: { offset: at, data: at } });
      if (cuts.includes(at)) {
        cut();
      }
    }
  },
  // What the test does meanwhile, when it reads this line.
  say: async (line) => {
    console.log(line);
    await new Promise((resolve) => process.stdin.once("data", resolve));
  },
  disconnect: () => client.disconnect(),
  expect: async (expected) => {
    const got = await next(JSON.stringify(expected));
    for (const [member, value] of Object.entries(expected)) {
      assert.deepEqual(got[member], value, `expected ${JSON.stringify(expected)}, got ${JSON.stringify(got)}`);
    }
  },
};

for (const [step, argument] of JSON.parse(script)) {
  await steps[step](argument);
}
process.exit(0);
