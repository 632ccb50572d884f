// The client of clients/js in Chromium: its example on another site than the server's, its types, its drawing.

import assert from "node:assert/strict";
import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";

import ts from "typescript";

import { launchWithCamera } from "./chromium.mjs";
import { startServer } from "./server.mjs";

const CLIENT = fileURLToPath(new URL("../../clients/js/", import.meta.url));
const ROOT = new URL("../../", import.meta.url);
const TEST_MS = { timeout: 120_000 };
const KINDS = { ".js": "text/javascript", ".html": "text/html" };

let server;
let browser;
let site;

before(async () => {
  // The folder as somebody's site has it; in the example stands the address of their server.
  site = http.createServer(async (request, answer) => {
    const name = path.basename(request.url);
    const text = name === "empty.html" ? "" : await readFile(path.join(CLIENT, name), "utf8").catch(() => null);
    answer.writeHead(text === null ? 404 : 200, { "Content-Type": KINDS[path.extname(name)] ?? "text/plain" });
    answer.end(text?.replace("http://127.0.0.1:60000", server.url.origin));
  });
  site.listen(0, "127.0.0.1");
  await once(site, "listening");
  server = await startServer("--allow-origin", origin());
  browser = await launchWithCamera([await readFile(new URL("ingest/web/sample.jpg", ROOT))]);
});

after(async () => {
  await browser?.close();
  site?.close();
  site?.closeAllConnections();
  await server?.stop();
});

const origin = () => `http://127.0.0.1:${site.address().port}`;

test("the example draws skeletons on the webcam, on a site of its own", TEST_MS, async () => {
  const page = await browser.newPage();
  const sent = [];
  page.on("websocket", (socket) => {
    socket.on("framesent", ({ payload }) => typeof payload !== "string" && sent.push(payload));
    socket.on("framereceived", ({ payload }) => assert.equal(typeof payload, "string", "only poses come back"));
  });
  await page.goto(`${origin()}/example.html`);
  // The colours of the first two persons: neither is in the scene.
  await page.waitForFunction(() => {
    const canvas = document.getElementById("canvas");
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const counts = [0, 0];
    for (let at = 0; at < data.length; at += 4) {
      const is = (r, g, b) => data[at] === r && data[at + 1] === g && data[at + 2] === b;
      counts[0] += is(0, 212, 255);
      counts[1] += is(255, 138, 0);
    }
    return counts.every((count) => count > 200);
  });
  assert.equal(sent[0][0], 1, "the first frame of video is a key frame");
  assert.deepEqual([...sent[0].subarray(9, 13)], [0, 0, 0, 1]);
  assert.match(await page.evaluate(() => document.body.innerText), /^\s*$/);
  await page.close();
});

test("a session that ends for good says why", TEST_MS, async () => {
  const page = await browser.newPage();
  await page.goto(`${origin()}/empty.html`);
  const told = await page.evaluate(async (server) => {
    const { Session } = await import("/cloudpose.js");
    return new Promise((failed) => new Session({ server, model: "nobodys" }, { failed }));
  }, server.url.href);
  assert.equal(told.code, "bad_query");
  assert.match(told.message, /nobodys/);
  await page.close();
});

test("limbs are drawn where they are, and joints that were not seen are not", TEST_MS, async () => {
  const page = await browser.newPage();
  await page.goto(`${origin()}/empty.html`);
  const { coco, seen } = await page.evaluate(async () => {
    const { COCO, drawPoses } = await import("/cloudpose.js");
    const canvas = new OffscreenCanvas(2000, 1000);
    const context = canvas.getContext("2d");
    const at = (name, x, y, score = 0.9) => ({ name, x, y, score });
    const keypoints = [at("left_shoulder", 20, 20), at("left_elbow", 80, 20), at("left_wrist", 80, 80, 0.1)];
    // A tenth as large as the canvas.
    drawPoses(context, { width: 200, height: 100, persons: [{ track_id: null, score: 0.9, keypoints }] });
    const pixel = (x, y) => [...context.getImageData(x, y, 1, 1).data];
    return { coco: COCO, seen: { limb: pixel(500, 200), joint: pixel(200, 200), unseen: pixel(800, 500) } };
  });
  assert.deepEqual(seen, { limb: [0, 212, 255, 255], joint: [0, 212, 255, 255], unseen: [0, 0, 0, 0] });
  const { name, keypoints, limbs } = JSON.parse(await readFile(new URL("wire/skeletons/coco-17.json", ROOT)));
  const parts = keypoints.map(({ name, part }) => (part === undefined ? { name } : { name, part }));
  assert.deepEqual(coco, { name, keypoints: parts, limbs });
  await page.close();
});

test("the types say what the module has", TEST_MS, async () => {
  const use = fileURLToPath(new URL("use.mts", import.meta.url));
  const options = { strict: true, noEmit: true, target: ts.ScriptTarget.ES2022, lib: ["lib.es2022.d.ts", "lib.dom.d.ts"] };
  Object.assign(options, { module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, types: [] });
  const program = ts.createProgram([use], options);
  const wrong = ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, "\n"));
  assert.deepEqual(wrong, []);

  const checker = program.getTypeChecker();
  const declared = {};
  const values = ts.SymbolFlags.Value;
  const module = checker.getSymbolAtLocation(program.getSourceFile(path.join(CLIENT, "cloudpose.d.ts")));
  for (const symbol of checker.getExportsOfModule(module).filter(({ flags }) => flags & values)) {
    const isClass = symbol.flags & ts.SymbolFlags.Class;
    const members = isClass ? checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(symbol)) : [];
    declared[symbol.name] = members.map(({ name }) => name).sort();
  }
  const page = await browser.newPage();
  await page.goto(`${origin()}/empty.html`);
  const there = await page.evaluate(async () => {
    const module = await import("/cloudpose.js");
    const live = new module.Live(document.createElement("video"), {}, {});
    live.close();
    const members = (value) => {
      if (typeof value !== "function" || !/^class/.test(String(value))) return [];
      const own = value === module.Live ? Object.keys(live) : [];
      return [...own, ...Object.getOwnPropertyNames(value.prototype).filter((name) => name !== "constructor")].sort();
    };
    return Object.fromEntries(Object.entries(module).map(([name, value]) => [name, members(value)]));
  });
  assert.deepEqual(there, declared);
  await page.close();
});
