// The demo as a person uses it: opens the page in Chromium, watches real events arrive, kills the
// server with the page's button, and reads the verdict.
//
//   node demo.mjs PROGRAM CLIENTS FOLDER_FOR_SCREENSHOTS [ARGUMENTS_OF_DEMO ...]
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, rm } from "node:fs/promises";
import http from "node:http";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { chromium } from "playwright-core";

const [program, clients, screenshots, ...rest] = process.argv.slice(2);
const CAP_MS = 120_000;
const count = (value) => value.toLocaleString("en-US");

/** Ports that nobody listens on now. */
async function freePorts(wanted) {
  const servers = Array.from({ length: wanted }, () => net.createServer());
  const listening = servers.map(
    (server) => new Promise((resolve) => server.listen(0, "127.0.0.1", resolve)),
  );
  await Promise.all(listening);
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))));
  return ports;
}

/** The status of a request as a page of another origin would send it. */
function pressFrom(origin, port) {
  return new Promise((resolve, reject) => {
    const headers = { origin, "content-type": "application/json" };
    const target = { port, path: "/v1/channels/demo:button/events", method: "POST", headers };
    const request = http.request({ host: "127.0.0.1", ...target }, (answer) => {
      answer.resume();
      resolve(answer.statusCode);
    });
    request.on("error", reject);
    request.end('{"data":{"signal":9}}');
  });
}

const [listen, admin] = await freePorts(2);
const folder = await mkdtemp(path.join(tmpdir(), "shardcast-page-"));
await mkdir(screenshots, { recursive: true });
const flags = ["--clients", clients, "--listen", `127.0.0.1:${listen}`];
flags.push("--admin-listen", `127.0.0.1:${admin}`, "--data-dir", path.join(folder, "data"), ...rest);
const demo = spawn(program, ["demo", ...flags], { stdio: ["ignore", "inherit", "inherit"] });
const ended = new Promise((resolve) => demo.once("exit", (code, signal) => resolve(code ?? signal)));
let browser;
try {
  browser = await chromium.launchPersistentContext(path.join(folder, "browser"), {
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    viewport: { width: 1280, height: 1400 },
    chromiumSandbox: false,
    args: [
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
  await Promise.race([
    usePage(await browser.newPage()),
    ended.then((code) => assert.fail(`the demo ended by itself: ${code}`)),
  ]);
  demo.kill("SIGTERM");
  assert.equal(await ended, 0, "the demo stops cleanly");
} finally {
  await browser?.close();
  demo.kill("SIGKILL");
  await ended;
  await rm(folder, { recursive: true, force: true });
}

async function usePage(page) {
  page.setDefaultTimeout(CAP_MS);
  const faults = [];
  page.on("pageerror", (error) => faults.push(String(error)));
  page.on("console", (message) => {
    // While the server is dead the browser says so.
    const expected = message.text().includes("net::ERR_");
    if (message.type() === "error" && !expected) faults.push(message.text());
  });
  await open(page);
  await page.locator('[data-link="live"]').waitFor();
  await page.locator('[data-state="ready"]').waitFor();
  await feedsAreFresh(page);
  const held = page.locator(".figure .value").first();
  await until(page, "the figures", async () => numberOf(await held.textContent()) >= Number(clients));
  await olderDataOnDemand(page);
  assert.equal(await pressFrom("https://evil.example", listen), 403, "a foreign page cannot press");

  const before = await pidOf(page);
  await page.getByRole("button", { name: "kill -9 the server" }).click();
  const verdict = page.locator('[data-state="verdict"]');
  await verdict.waitFor();
  const all = count(Number(clients));
  assert.equal(
    await verdict.textContent(),
    `resumed ${all} of ${all}, lost 0, doubled 0, acknowledged = stored`,
  );
  assert.notEqual(await pidOf(page), before, "it is another process");
  const own = page.locator("[data-page-lost]");
  assert.equal(await own.getAttribute("data-page-lost"), "0", "the page lost nothing itself");
  await feedsAreFresh(page);
  // For a picture of a page that has been open for a while: SETTLE_MS=330000.
  await page.waitForTimeout(Number(process.env.SETTLE_MS ?? 0));
  await page.mouse.move(640, 2);
  await page.screenshot({ path: path.join(screenshots, "page-1280.png"), fullPage: true });
  await page.emulateMedia({ colorScheme: "dark" });
  await page.screenshot({ path: path.join(screenshots, "page-1280-dark.png") });
  await page.emulateMedia({ colorScheme: "light" });

  await page.setViewportSize({ width: 390, height: 844 });
  const width = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(width <= 390, `the page is ${width} wide on a phone of 390`);
  await page.screenshot({ path: path.join(screenshots, "page-390.png"), fullPage: true });

  // With the supervisor stopped the feeds stop, and the page must not go on looking alive.
  demo.kill("SIGSTOP");
  try {
    await page.locator('.grid .age[data-freshness="late"]').first().waitFor();
    await page.locator('.grid .age[data-freshness="stale"]').nth(3).waitFor();
    await page.screenshot({ path: path.join(screenshots, "page-390-stale.png") });
  } finally {
    demo.kill("SIGCONT");
  }
  await feedsAreFresh(page);
  assert.deepEqual(faults, [], "no errors in the page");
}

/** The page is there as soon as the server is. */
async function open(page) {
  await until(page, "the page", async () => {
    const answer = await page.goto(`http://127.0.0.1:${listen}/`).catch(() => undefined);
    return answer?.status() === 200;
  });
}

async function feedsAreFresh(page) {
  await page.locator('.grid .age[data-freshness="fresh"]').nth(3).waitFor();
}

/** There is nothing before the demo began, and the page says so. */
async function olderDataOnDemand(page) {
  await page.getByRole("button", { name: "Load older data of CPU per core" }).click();
  await page.getByText("that is all there is").first().waitFor();
}

async function pidOf(page) {
  return /pid (\d+)/.exec(await page.locator(".trigger .note").textContent())?.[1];
}

function numberOf(text) {
  return Number(text.replaceAll(",", ""));
}

async function until(page, what, condition) {
  const start = Date.now();
  while (!(await condition())) {
    assert.ok(Date.now() - start < CAP_MS, `gave up waiting for ${what}`);
    await page.waitForTimeout(100);
  }
}
