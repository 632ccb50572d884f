// The web page in Chromium, against a real server. See server.mjs for the environment it needs.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import http from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";

import { launchRefusing, launchWithCamera } from "./chromium.mjs";
import { compareWithSource, differencesAt } from "./pixels.mjs";
import { keys, startProxy, startServer } from "./server.mjs";

/** Two persons, both in full. */
const SAMPLE = new URL("../../ingest/web/sample.jpg", import.meta.url);
/** Limbs that both persons of the sample show, as indexes of COCO-17. */
const LIMBS = [[5, 6], [5, 7], [6, 8], [11, 12], [11, 13], [12, 14], [13, 15], [14, 16]];
const MIN_KEYPOINT_SCORE = 0.3;
const TEST_MS = { timeout: 120_000 };
const STEP_MS = 45_000;
/** What the browser itself logs while the server is away. */
const LOST = /WebSocket connection to .* failed|Failed to load resource/;

let server;
let proxy;
let browser;

before(async () => {
  server = await startServer();
  proxy = await startProxy(server.url);
  browser = await launchWithCamera([await readFile(SAMPLE)]);
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
  const code = await server?.stop();
  assert.ok(code === null || code === 0, `the server ended with code ${code}`);
});

/** A test that failed leaves nothing that streams on beside the others. */
afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

/**
 * Opens the page. `check()` fails if the page has logged an error, thrown, or asked another origin than
 * its own for anything; errors that match `expected` are let pass.
 */
async function open(from = browser, options = {}) {
  const context = await from.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  const errors = [];
  const strangers = [];
  page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  const seeAddress = (address) => {
    const { host, protocol } = new URL(address);
    if (protocol !== "blob:" && protocol !== "data:" && host !== new URL(proxy.origin).host) strangers.push(address);
  };
  page.on("request", (request) => seeAddress(request.url()));
  page.on("websocket", (socket) => seeAddress(socket.url()));
  await page.goto(proxy.origin);
  return {
    page,
    async check(expected = /^$/) {
      await context.close();
      assert.deepEqual(errors.filter((error) => !expected.test(error)), []);
      assert.deepEqual(strangers, []);
    },
  };
}

const waitForState = (page, state) => page.waitForSelector(`#stage[data-state="${state}"]`);

const waitForFrames = (page, count) =>
  page.waitForFunction((count) => Number(document.getElementById("picture").dataset.shown) >= count, count);

const number = async (page, id) => Number(await page.textContent(`#${id}`));

const assertFits = async (page, when) => {
  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= width, `${when}: the page is ${content} px wide in a window of ${width} px`);
};

test("the webcam is shown with skeletons on it", TEST_MS, async () => {
  const { page, check } = await open();
  await page.click("#start-camera");
  await waitForFrames(page, 10);
  await waitForState(page, "live");
  // The numbers follow the frames by a fraction of a second.
  await page.waitForFunction(() => document.getElementById("fps-out").textContent !== "–");
  // Behind the two stands a third, small, whose score lies about the threshold.
  const persons = await number(page, "persons-count");
  assert.ok(persons === 2 || persons === 3, `${persons} persons`);
  for (const id of ["fps-in", "fps-out", "latency", "server-latency"]) {
    assert.ok((await number(page, id)) > 0, `${id} is ${await page.textContent(`#${id}`)}`);
  }
  const { changed, spread } = await page.evaluate(compareWithSource, null);
  assert.ok(spread > 20, `the picture is blank: its spread is ${spread}`);
  assert.ok(changed > 0.002 && changed < 0.2, `${changed} of the picture differs from the webcam`);

  await page.click("#pause");
  await waitForState(page, "paused");
  await page.click("#pause");
  await waitForState(page, "live");
  const shown = Number(await page.getAttribute("#picture", "data-shown"));
  await page.check("input[value=lightning]");
  await waitForFrames(page, shown + 5);
  // Lightning finds one person.
  await page.waitForFunction(() => document.getElementById("persons-count").textContent === "1");

  await page.click("#stop");
  await waitForState(page, "idle");
  assert.equal(await page.evaluate(() => document.getElementById("source").srcObject), null);
  await check();
});

/**
 * What the page sends on `/v1/stream`: the address of the newest session, all binary messages of all, and `say(message)` in the
 * place of the server. `refuse(url)` says why a session is refused, if it is; messages of the types `kept` do not come through.
 */
async function overhear(page, { refuse = () => null, kept = [] } = {}) {
  const heard = { url: null, sent: [], say: null };
  await page.routeWebSocket("**/v1/stream*", (socket) => {
    heard.url = new URL(socket.url());
    const refused = refuse(heard.url);
    if (refused !== null) {
      socket.send(JSON.stringify({ type: "error", code: "bad_query", message: refused }));
      socket.close({ code: 1008 });
      return;
    }
    const server = socket.connectToServer();
    socket.onMessage((message) => {
      if (typeof message !== "string") heard.sent.push(message);
      server.send(message);
    });
    server.onMessage((message) => {
      if (typeof message !== "string" || !kept.includes(JSON.parse(message).type)) socket.send(message);
    });
    heard.say = (message) => socket.send(JSON.stringify(message));
  });
  return heard;
}

/** The tile says how frames are sent, and that they are. */
const waitForUplink = (page, how) =>
  page.waitForFunction((how) => document.getElementById("uplink-title").textContent === `Uplink, ${how}`, how);

test("the webcam goes as H.264, with a key frame when the server asks for one", TEST_MS, async () => {
  const { page, check } = await open();
  assert.ok(await page.evaluate(async () => (await import("/client/cloudpose.js")).canFilm()), "this Chromium has no encoder of H.264");
  // What the server asks for by itself depends on how busy it is.
  const heard = await overhear(page, { kept: ["hint", "keyframe"] });
  await page.click("#start-camera");
  await waitForFrames(page, 10);
  assert.equal(heard.url.searchParams.get("codec"), "h264");
  await waitForUplink(page, "H.264");
  const kinds = heard.sent.map((message) => message[0]);
  assert.ok(kinds[0] === 1 && kinds.filter((kind) => kind === 0).length > kinds.length / 2, `${kinds}`);
  assert.deepEqual([...heard.sent[0].subarray(9, 13)], [0, 0, 0, 1]);
  const times = heard.sent.map((message) => message.readBigInt64BE(1));
  assert.ok(times.every((time, n) => n === 0 || time > times[n - 1]), `${times}`);

  const shown = Number(await page.getAttribute("#picture", "data-shown"));
  const before = heard.sent.length;
  heard.say({ type: "keyframe" });
  await waitForFrames(page, shown + 5);
  const asked = heard.sent.slice(before).map((message) => message[0]);
  assert.ok(asked.slice(0, 3).includes(1) && asked.includes(0), `${asked}`);

  // A hundredth of the bits: the encoder begins anew with them.
  const limited = heard.sent.length;
  heard.say({ type: "hint", fps: 30, bitrate: 30_000 });
  await waitForFrames(page, shown + 12);
  const anew = heard.sent.slice(limited).map((message) => message[0]);
  assert.ok(anew.slice(0, 3).includes(1), `${anew}`);
  await check();
});

test("a browser or a server without H.264 gets and takes JPEGs", TEST_MS, async () => {
  const { page, check } = await open();
  const heard = await overhear(page);
  await page.addInitScript(() => delete window.VideoEncoder);
  await page.reload();
  await page.click("#start-camera");
  await waitForFrames(page, 3);
  assert.equal(heard.url.searchParams.get("codec"), null);
  assert.deepEqual([...heard.sent[0].subarray(0, 2)], [0xff, 0xd8]);
  await waitForUplink(page, "JPEG");
  await check();

  const { page: other, check: checkOther } = await open();
  const refuse = (url) => (url.searchParams.has("codec") ? "this server was built without H.264" : null);
  await overhear(other, { refuse });
  await other.click("#start-camera");
  await waitForFrames(other, 3);
  await waitForUplink(other, "JPEG");
  await checkOther();
});

test("the page draws by itself, and only poses come back", TEST_MS, async () => {
  const { page, check } = await open();
  await page.check("input[name=draws-here]");
  let pictures = 0;
  page.on("websocket", (socket) => socket.on("framereceived", ({ payload }) => (pictures += typeof payload !== "string")));
  await page.click("#start-camera");
  await waitForFrames(page, 5);
  assert.equal(pictures, 0);
  const { changed, spread } = await page.evaluate(compareWithSource, null);
  assert.ok(spread > 20, `the picture is blank: its spread is ${spread}`);
  assert.ok(changed > 0.002 && changed < 0.2, `${changed} of the picture differs from the webcam`);
  await page.uncheck("input[name=draws-here]");
  const shown = Number(await page.getAttribute("#picture", "data-shown"));
  await waitForFrames(page, shown + 3);
  assert.ok(pictures > 0);
  await check();
});

test("a lost connection comes back by itself", TEST_MS, async () => {
  const { page, check } = await open();
  await page.click("#start-camera");
  await waitForFrames(page, 3);
  proxy.cut();
  try {
    await waitForState(page, "reconnecting");
    await page.waitForFunction(() => /Trying again in \d+ s/.test(document.getElementById("banner-text").textContent));
  } finally {
    proxy.restore();
  }
  await waitForState(page, "live");
  const shown = Number(await page.getAttribute("#picture", "data-shown"));
  await waitForFrames(page, shown + 5);
  await check(LOST);
});

test("a refused webcam is explained, and the sample works all the same", TEST_MS, async () => {
  const refusing = await launchRefusing();
  try {
    const { page, check } = await open(refusing);
    await page.click("#start-camera");
    await waitForState(page, "failed");
    assert.equal(await page.textContent("#panel-title"), "The webcam is blocked");
    assert.match(await page.textContent("#panel-text"), /allow the camera for this page/);
    await page.click("#try-sample");
    await waitForState(page, "still");
    assert.equal(await page.textContent("#status"), "3 persons found");
    await check();
  } finally {
    await refusing.close();
  }
});

test("a picture file is answered with its poses, drawn and in numbers", TEST_MS, async () => {
  const { page, check } = await open();
  await page.setInputFiles("#file", { name: "two.jpg", mimeType: "image/jpeg", buffer: await readFile(SAMPLE) });
  await waitForState(page, "still");
  assert.equal(await page.textContent("#poses-title"), "3 persons found");
  // Who has chosen no model gets the one for pictures, and sees it in the menu.
  assert.equal(await page.inputValue("#models input:checked"), "accurate");
  assert.equal(await page.locator("#persons tbody tr").count(), 3 * 17);

  const pose = JSON.parse(await page.textContent("#poses-json"));
  const middles = pose.persons.flatMap(({ keypoints }) =>
    LIMBS.map(([a, b]) => [keypoints[a], keypoints[b]])
      .filter((ends) => ends.every(({ score }) => score >= MIN_KEYPOINT_SCORE))
      .map(([a, b]) => [Math.round((a.x + b.x) / 2), Math.round((a.y + b.y) / 2)]),
  );
  assert.ok(middles.length >= LIMBS.length, `only ${middles.length} limbs found`);
  const onLimbs = await page.evaluate(differencesAt, { source: "/sample.jpg", points: middles });
  const drawn = onLimbs.filter((difference) => difference > 40).length;
  assert.ok(drawn >= 0.8 * middles.length, `${drawn} of ${middles.length} limbs are drawn: ${onLimbs}`);
  const { width, height, changed } = await page.evaluate(compareWithSource, "/sample.jpg");
  assert.deepEqual([width, height], [pose.width, pose.height]);
  assert.ok(changed < 0.2, `${changed} of the picture differs from the file`);

  const [saved] = await Promise.all([page.waitForEvent("download"), page.click("#save-picture")]);
  assert.equal(saved.suggestedFilename(), "two-annotated.jpg");
  const jpeg = await readFile(await saved.path());
  assert.deepEqual([...jpeg.subarray(0, 3)], [0xff, 0xd8, 0xff]);
  const [poses] = await Promise.all([page.waitForEvent("download"), page.click("#save-poses")]);
  assert.deepEqual(JSON.parse(await readFile(await poses.path())), pose);

  await page.check("input[value=thunder]");
  await page.waitForFunction(() => document.getElementById("poses-title").textContent === "1 person found");
  await check();
});

test("models, skeletons and classes are those that the server tells of", TEST_MS, async () => {
  const { page, check } = await open();
  const choices = () => page.locator("#models label").allTextContents();
  await page.waitForSelector("#models input");
  const served = await page.evaluate(async () => (await fetch("/v1/models")).json());
  assert.deepEqual(await choices(), served.models.map(({ title, summary }) => `${title} ${summary}`));
  assert.equal(await page.inputValue("#models input:checked"), served.default);

  const kite = { name: "kite-2", keypoints: [{ name: "top", sigma: 0.1 }, { name: "tail_end", sigma: 0.1 }], limbs: [] };
  const models = [
    { id: "kites", title: "Kites", task: "pose", skeleton: kite },
    { id: "hue", title: "Hue", task: "classify", labels: ["deep_red", "green", "blue"] },
  ];
  const keypoints = kite.keypoints.map(({ name }) => ({ name, x: 1, y: 2, score: 0.9 }));
  const found = {
    kites: { skeleton: "kite-2", persons: [{ track_id: null, score: 0.8, box: {}, keypoints }] },
    hue: { classes: [{ label: "deep_red", score: 0.75 }, { label: "blue", score: 0.25 }] },
  };
  await page.route("**/v1/models", (route) => route.fulfill({ json: { default: "kites", models } }));
  await page.routeWebSocket("**/v1/stream*", (socket) => {
    const model = new URL(socket.url()).searchParams.get("model");
    socket.send(JSON.stringify({ type: "hello", stream: "s", limits: { max_image_bytes: 1e6, max_image_pixels: 1e6 } }));
    socket.onMessage((message) => {
      if (typeof message === "string") return;
      socket.send(JSON.stringify({ type: "result", seq: 1, pose: found[model], latency_ms: 1, overlay: false, dropped: {} }));
    });
  });
  await page.reload();
  await page.waitForSelector("#models input");
  assert.deepEqual(await choices(), ["Kites 2 joints", "Hue 3 classes"]);
  await page.click("#try-sample");
  await waitForState(page, "still");
  assert.equal(await page.textContent("#status"), "1 person found");
  assert.deepEqual(await page.locator("#persons tbody th").allTextContents(), ["top", "tail end"]);
  await page.check("input[value=hue]");
  await page.waitForFunction(() => document.getElementById("status").textContent === "deep red, 75 % sure");
  assert.deepEqual(await page.locator("#persons tr").allTextContents(), ["deep red75 %", "blue25 %"]);
  await page.waitForFunction(() => document.getElementById("found-title").textContent === "deep red");
  assert.equal(await page.textContent("#persons-count"), "75 %");
  await check();
});

test("a video file streams, and in complete mode no frame of it is dropped", TEST_MS, async () => {
  const { page, check } = await open();
  const video = await page.evaluate(async () => {
    const image = await createImageBitmap(await (await fetch("/sample.jpg")).blob());
    const canvas = document.createElement("canvas");
    canvas.width = image.width / 2;
    canvas.height = image.height / 2;
    const context = canvas.getContext("2d");
    const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: "video/webm" });
    const chunks = [];
    recorder.ondataavailable = ({ data }) => chunks.push(data);
    const stopped = new Promise((resolve) => (recorder.onstop = resolve));
    recorder.start();
    for (let shift = 0; shift < 30; shift += 1) {
      context.drawImage(image, shift, 0, canvas.width, canvas.height);
      await new Promise(requestAnimationFrame);
    }
    recorder.stop();
    await stopped;
    const bytes = new Uint8Array(await new Blob(chunks).arrayBuffer());
    return btoa(bytes.reduce((text, byte) => text + String.fromCharCode(byte), ""));
  });
  await page.check("input[value=complete]");
  await page.setInputFiles("#file", { name: "two.webm", mimeType: "video/webm", buffer: Buffer.from(video, "base64") });
  await waitForFrames(page, 5);
  await waitForState(page, "paused");
  assert.equal(await page.textContent("#status"), "Finished");
  assert.equal(await page.textContent("#dropped"), "0");
  assert.equal(await page.textContent("#persons-count"), "2");

  await page.check("input[value=live]");
  const shown = Number(await page.getAttribute("#picture", "data-shown"));
  await page.click("#pause");
  await waitForFrames(page, shown + 5);
  await check();
});

test("what is no picture is told in words", TEST_MS, async () => {
  const { page, check } = await open();
  for (const mimeType of ["image/jpeg", "video/mp4", "text/plain"]) {
    await page.setInputFiles("#file", { name: "not.one", mimeType, buffer: Buffer.from("neither") });
    await waitForState(page, "failed");
    assert.equal(await page.textContent("#panel-title"), "The browser cannot open this file");
    await page.click("#try-sample");
    await waitForState(page, "still");
    await page.click("#stop");
  }
  await check();
});

test("on a phone nothing is wider than the screen, and the keyboard is enough", TEST_MS, async () => {
  const { page, check } = await open(browser, { viewport: { width: 360, height: 740 } });
  await assertFits(page, "empty");
  await page.click(".program-area summary");
  await assertFits(page, "with the examples open");
  const examples = await page.textContent(".program-area");
  assert.ok(examples.includes(`${proxy.origin}/v1/pose`) && examples.includes(`ws://${new URL(proxy.origin).host}/v1/stream`));

  await page.focus("#open-file");
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await waitForState(page, "still");
  await page.click("#persons summary");
  await page.click("#poses > details summary");
  await assertFits(page, "with a picture");

  await page.focus("#stop");
  await page.keyboard.press("Enter");
  await waitForState(page, "idle");
  // The focus has come back to where one begins.
  await page.keyboard.press("Enter");
  await waitForFrames(page, 3);
  await assertFits(page, "live");
  proxy.cut();
  try {
    await waitForState(page, "reconnecting");
    await assertFits(page, "reconnecting");
  } finally {
    proxy.restore();
  }
  await check(LOST);
});

test("waits between attempts grow, and rates are those of the window", TEST_MS, async () => {
  const { page, check } = await open();
  const { waits, rate, median, gone } = await page.evaluate(async () => {
    const { backoff } = await import("/client/cloudpose.js");
    const { Recent } = await import("/stats.js");
    const recent = new Recent(1000);
    for (let at = 0; at <= 2000; at += 100) recent.add(at, at);
    return {
      waits: [0, 1, 2, 20].flatMap((n) => [backoff(n, 0), backoff(n, 1)]),
      rate: recent.rate(2000),
      median: recent.median(2000),
      gone: [recent.rate(9000), recent.median(9000)],
    };
  });
  assert.deepEqual(waits, [250, 500, 500, 1000, 1000, 2000, 7500, 15000]);
  assert.equal(rate, 10);
  assert.equal(median, 1500);
  assert.deepEqual(gone, [null, null]);
  await check();
});

test("a server that asks for keys gets one, for this tab", TEST_MS, async () => {
  const folder = await mkdtemp(path.join(tmpdir(), "cloudpose-keys-"));
  const file = path.join(folder, "keys.json");
  const key = await keys("new", "page", "--keys", file);
  const photosOnly = await keys("new", "photos", "--scopes", "photo", "--keys", file);
  const guarded = await startServer("--keys", file);
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  const give = async (text) => {
    await page.waitForSelector("#key-dialog[open]");
    await page.fill("#key", text);
    await page.press("#key", "Enter");
  };
  try {
    await page.goto(guarded.url.href);
    await give("cpk_wrong");
    await page.waitForSelector("#key-refused:not([hidden])");
    await page.click("text=Not now");

    // Who goes on without one is asked again, and told what a key is not for.
    await page.click("#start-camera");
    await give(photosOnly);
    await waitForState(page, "failed");
    assert.match(await page.textContent("#panel-text"), /scope `stream`/);

    await page.evaluate(() => sessionStorage.clear());
    await page.reload();
    await give(key);
    await page.waitForSelector("#models:not([hidden])");
    assert.match(await page.textContent("#curl-pose"), /Authorization: Bearer/);
    await page.click("#start-camera");
    await waitForFrames(page, 3);
    await page.click("#stop");

    // Kept over a reload, unknown to another tab.
    await page.reload();
    await page.waitForSelector("#models:not([hidden])");
    const other = await context.newPage();
    await other.goto(guarded.url.href);
    await other.waitForSelector("#key-dialog[open]");
    await other.close();

    await page.click("#start-camera");
    await waitForFrames(page, 3);
    await keys("revoke", "page", "--keys", file);
    const next = await keys("new", "next", "--keys", file);
    await give(next);
    const shown = Number(await page.getAttribute("#picture", "data-shown"));
    await waitForFrames(page, shown + 3);
    await waitForState(page, "live");
  } finally {
    await context.close();
    await guarded.stop();
    await rm(folder, { recursive: true });
  }
});

test("the wall shows who streams, large and with heads covered, on a phone too", TEST_MS, async () => {
  const sender = await open();
  await sender.page.click("#start-camera");
  await waitForFrames(sender.page, 3);

  const phone = { width: 390, height: 844 };
  const { page, check } = await open(browser, { viewport: phone });
  assert.equal(await page.locator("#tiles li").count(), 0, "nothing is asked for before it is opened");
  await page.click("#wall > summary");
  const shown = (id, count) =>
    page.waitForFunction(([id, count]) => Number(document.querySelector(id)?.dataset.shown) >= count, [id, count]);
  await shown("#tiles img", 2);
  await page.waitForSelector('#tiles li[data-state="live"]');
  assert.match(await page.textContent("#tiles span"), /^Live, [\d.]+ \/s · \d+ × \d+ · fast · \d watching/);
  await assertFits(page, "wall on a phone");

  await page.click("#tiles button");
  await page.waitForSelector("#large[open]");
  await shown("#large-picture", 3);
  assert.equal(await page.inputValue("#large-draw"), "overlay");
  await assertFits(page, "large on a phone");
  const look = () =>
    page.evaluate(async () => {
      const image = document.getElementById("large-picture");
      while (image.naturalWidth === 0) await new Promise(requestAnimationFrame);
      const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
      const context = canvas.getContext("2d");
      context.drawImage(image, 0, 0);
      const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
      let dark = 0;
      for (let at = 0; at < data.length; at += 4) dark += data[at] < 40 && data[at + 1] < 40 && data[at + 2] < 40;
      return dark / (data.length / 4);
    });
  const before = Number(await page.getAttribute("#large-picture", "data-shown"));
  assert.ok((await look()) < 0.5, "the scene is there");
  await page.selectOption("#large-draw", "skeleton");
  await shown("#large-picture", before + 3);
  // Pictures that were on their way come first.
  const until = Date.now() + STEP_MS;
  while ((await look()) <= 0.8) assert.ok(Date.now() < until, "a plain ground");
  await page.click("#large-close");
  await page.waitForSelector("#large", { state: "hidden" });

  await sender.page.click("#stop");
  await page.waitForSelector("#wall-empty:not([hidden])");
  await sender.check();
  await check();
});

test("a camera is added by its address, seen on the wall, and removed", TEST_MS, async () => {
  const sample = await readFile(SAMPLE);
  const fetching = await startServer("--camera-allow", "127.0.0.0/8");
  const camera = http.createServer((_, answer) => {
    answer.writeHead(200, { "Content-Type": "multipart/x-mixed-replace; boundary=cam" });
    const timer = setInterval(() => {
      answer.write(`--cam\r\nContent-Type: image/jpeg\r\nContent-Length: ${sample.length}\r\n\r\n`);
      answer.write(sample);
      answer.write("\r\n");
    }, 200);
    answer.on("close", () => clearInterval(timer));
  });
  camera.listen(0, "127.0.0.1");
  await once(camera, "listening");
  const at = `127.0.0.1:${camera.address().port}`;

  const context = await browser.newContext({ viewport: { width: 390, height: 844 } });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  await page.goto(fetching.url.href);
  await page.click("#wall > summary");
  await page.click("#camera-area > summary");
  const add = async (name, url) => {
    await page.fill("#camera-name", name);
    await page.fill("#camera-url", url);
    await page.click("#camera-form button");
  };
  await add("door", "http://10.0.0.1/video");
  await page.waitForSelector("#camera-refused:not([hidden])");
  assert.match(await page.textContent("#camera-refused"), /--camera-allow/);
  await add("door", `http://joe:hunter2@${at}/video`);
  await page.waitForSelector('#tiles li[data-state="live"]');
  assert.equal(await page.inputValue("#camera-url"), "", "the password does not stay on the screen");
  assert.ok(!(await page.content()).includes("hunter2"));
  await page.waitForFunction(() => Number(document.querySelector("#tiles img")?.dataset.shown) >= 2);
  await assertFits(page, "cameras");

  camera.close();
  camera.closeAllConnections();
  await page.waitForSelector('#tiles li[data-state="waiting"]');
  assert.match(await page.textContent("#tiles span"), /^The camera is away: /);
  await page.click("#tiles button");
  await page.click("#large-remove");
  await page.waitForSelector("#wall-empty:not([hidden])");
  await context.close();
  await fetching.stop();
});
