// Runs an example of a guide in the way of its kind and prints what it prints, or what its page
// shows. Runs until it is killed. Arguments: kind (js, html or jsx), the example's file, the server.
import { readFile } from "node:fs/promises";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import WebSocket from "ws";

const [kind, file, server] = process.argv.slice(2);

if (kind === "js") {
  // Node.js 20 has no WebSocket of its own; browsers and later ones do.
  globalThis.WebSocket ??= WebSocket;
  await import(pathToFileURL(file));
} else {
  let page = await readFile(file, "utf8");
  if (kind === "jsx") {
    const { build } = await import("esbuild");
    const entry = `import { createElement } from "react";
      import { createRoot } from "react-dom/client";
      import { Total } from ${JSON.stringify(file)};
      createRoot(document.getElementById("root"))
        .render(createElement(Total, { channel: "orders" }));`;
    const built = await build({
      stdin: { contents: entry, resolveDir: import.meta.dirname },
      nodePaths: [path.join(import.meta.dirname, "node_modules")],
      bundle: true,
      write: false,
      jsx: "automatic",
      define: { "process.env.NODE_ENV": '"production"' },
    });
    const script = built.outputFiles[0].text.replaceAll("</script", "<\\/script");
    page = `<div id="root"></div><script>${script}</script>`;
  }
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  const tab = await browser.newPage();
  // In a document that came from the server: its own origin may always connect.
  await tab.goto(`http://${server}/health/live`);
  await tab.setContent(`<!doctype html>${page}`);
  let shown = "";
  for (;;) {
    const text = (await tab.locator("body").innerText()).trim();
    if (text !== shown) {
      shown = text;
      console.log(JSON.stringify(text));
    }
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
