// centrifuge-js in Chromium, over each of the streams: subscribes, publishes, sees its publication
// and is known to presence; then its connection is cut and it gets what it missed. Prints a line
// for each stream. Argument: the server.
import assert from "node:assert/strict";
import { build } from "esbuild";
import { chromium } from "playwright-core";

const [server] = process.argv.slice(2);
const built = await build({
  stdin: {
    contents: `export { Centrifuge } from "centrifuge";`,
    resolveDir: import.meta.dirname,
  },
  bundle: true,
  write: false,
  format: "iife",
  globalName: "sdk",
});
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const tab = await browser.newPage();
// In a document that came from the server: its own origin may always connect.
await tab.goto(`${server}/health/live`);
await tab.addScriptTag({ content: built.outputFiles[0].text });
for (const transport of ["http_stream", "sse"]) {
  const seen = await tab.evaluate(async ([transport, server]) => {
    const { Centrifuge } = sdk;
    const endpoint = `${server}/connection/${transport}`;
    const options = { emulationEndpoint: `${server}/emulation` };
    const client = new Centrifuge([{ transport, endpoint }], options);
    const other = new Centrifuge([{ transport, endpoint }], options);
    const channel = `browser-${transport}`;
    const subscription = client.newSubscription(channel);
    const got = [];
    let wake = () => {};
    subscription.on("publication", ({ data }) => {
      got.push(data);
      wake();
    });
    const count = async (wanted) => {
      while (got.length < wanted) await new Promise((resolve) => (wake = resolve));
    };
    subscription.subscribe();
    client.connect();
    other.connect();
    await subscription.ready(30_000);
    await other.ready(30_000);
    await subscription.publish({ text: "ü\u2028\u{1f600}" });
    await count(1);
    client._transport.close();
    await other.publish(channel, { text: "missed" });
    await count(2);
    const history = await other.history(channel, { limit: 10 });
    client.disconnect();
    other.disconnect();
    return [got, history.publications.length];
  }, [transport, server]);
  assert.deepEqual(seen, [[{ text: "ü\u2028\u{1f600}" }, { text: "missed" }], 2]);
  console.log(`${transport} ok`);
}
await browser.close();
