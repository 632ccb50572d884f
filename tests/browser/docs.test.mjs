// The API's pages in Chromium, against a server that asks for keys.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import { launchRefusing } from "./chromium.mjs";
import { keys, startServer } from "./server.mjs";

const SAMPLE = fileURLToPath(new URL("../../ingest/web/sample.jpg", import.meta.url));
const TEST_MS = { timeout: 120_000 };
const STEP_MS = 45_000;
const PHONE = { viewport: { width: 390, height: 844 } };
const LARGE = { viewport: { width: 1440, height: 900 } };

let folder;
let key;
let server;
let browser;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "cloudpose-keys-"));
  const file = path.join(folder, "keys.json");
  key = await keys("new", "photos", "--scopes", "photo", "--keys", file);
  server = await startServer("--keys", file);
  browser = await launchRefusing();
});

after(async () => {
  await browser?.close();
  await server?.stop();
  await rm(folder, { recursive: true, force: true });
});

/** Opens `at`. `check()` fails if the page logged an error, asked another server, or is wider than its window. */
async function open(at, options = LARGE) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  const errors = [];
  const strangers = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  page.on("request", (request) => {
    const { origin, protocol } = new URL(request.url());
    if (!["blob:", "data:"].includes(protocol) && origin !== server.url.origin) strangers.push(request.url());
  });
  await page.goto(new URL(at, server.url).href);
  return {
    page,
    async check(expected = /^$/) {
      const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      assert.ok(content <= width, `the page is ${content} px wide in a window of ${width} px`);
      await context.close();
      assert.deepEqual(errors.filter((error) => !expected.test(error)), []);
      assert.deepEqual(strangers, []);
    },
  };
}

/** Opens a call of the page. */
async function call(page, id) {
  const block = page.locator(`#operations-${id}`);
  await block.locator(".opblock-summary-control").click();
  await block.locator(".execute").waitFor();
  return block;
}

/** Sends what stands in a call, and answers status and body. */
async function execute(block) {
  await block.locator(".execute").click();
  const answer = block.locator(".live-responses-table");
  await answer.waitFor();
  const status = await answer.locator("tbody .response-col_status").first().innerText();
  return { status: Number.parseInt(status, 10), answer };
}

async function authorize(page) {
  await page.click(".auth-wrapper .authorize");
  await page.fill('.auth-container input[aria-label="auth-bearer-value"]', key);
  await page.click(".auth-container .auth-btn-wrapper .authorize >> nth=0");
  await page.click(".modal-ux .btn-done");
}

test("a photo is tried with a key, and not without", TEST_MS, async () => {
  const { page, check } = await open("/docs");
  const block = await call(page, "pose-pose");
  await block.locator('select[aria-label="Request content type"]').selectOption("multipart/form-data");
  await block.locator("input[type=file]").setInputFiles(SAMPLE);
  assert.equal((await execute(block)).status, 401);
  await authorize(page);
  await page.waitForFunction(() => !document.querySelector(".modal-ux"));
  await block.locator("input[type=file]").setInputFiles(SAMPLE);
  await block.locator(".btn-clear").click();
  const { status, answer } = await execute(block);
  assert.equal(status, 200);
  const event = JSON.parse(await answer.locator(".highlight-code code").first().innerText());
  assert.ok(event.persons.length >= 2, "both persons of the photo are found");
  await check(/status of 401/);
});

test("the example of a request can be sent as it stands", TEST_MS, async () => {
  const { page, check } = await open("/docs");
  await authorize(page);
  const block = await call(page, "existing%20API-pose_detection".replace("%20", "_"));
  const { status, answer } = await execute(block);
  assert.equal(status, 200);
  assert.equal(JSON.parse(await answer.locator(".highlight-code code").first().innerText()).id, "photo-1");
  await check();
});

for (const [name, size] of Object.entries({ phone: PHONE, large: LARGE })) {
  test(`the pages fit in a ${name} window`, TEST_MS, async () => {
    const calls = await open("/docs", size);
    await call(calls.page, "pose-pose");
    await shoot(calls.page, `docs-${name}`);
    await calls.check();
    const messages = await open("/docs/messages", size);
    for (const closed of await messages.page.locator("#stream details").all()) await closed.locator("summary").click();
    await shoot(messages.page, `messages-${name}`);
    await messages.check();
  });
}

test("no link of the pages leads nowhere", TEST_MS, async () => {
  for (const at of ["/", "/docs", "/docs/messages"]) {
    const { page, check } = await open(at);
    await page.waitForLoadState("networkidle");
    const links = await page.evaluate(() => [...document.querySelectorAll("a[href]")].map((link) => link.href));
    const ours = new Set(links.map((link) => new URL(link)).filter(({ origin }) => origin === server.url.origin).map(({ pathname }) => pathname));
    assert.ok(ours.size >= 3, `${at}: ${[...ours]}`);
    for (const pathname of ours) assert.equal((await fetch(new URL(pathname, server.url))).status, 200, `${at}: ${pathname}`);
    await check(/401/);
  }
});

/** A picture of the whole page in the folder SHOTS, if one is named: for people to look at. */
async function shoot(page, name) {
  if (process.env.SHOTS) await page.screenshot({ path: path.join(process.env.SHOTS, `${name}.png`), fullPage: true });
}
