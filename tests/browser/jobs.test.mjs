// Jobs on the web page in Chromium, against a real server. See server.mjs for the environment it needs.

import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, test } from "node:test";

import { launchRefusing } from "./chromium.mjs";
import { keys, startProxy, startServer } from "./server.mjs";

const SAMPLE = new URL("../../ingest/web/sample.jpg", import.meta.url);
const TEST_MS = { timeout: 120_000 };
const STEP_MS = 45_000;
/** What the browser itself logs of answers that are errors: here that there is no job of a name that none has. */
const LOGGED = /Failed to load resource/;

let folder;
let server;
let proxy;
let browser;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "cloudpose-jobs-"));
  const album = path.join(folder, "album");
  await mkdir(path.join(album, "more"), { recursive: true });
  for (const name of ["2.jpg", "10.jpg", "1.jpg", "more/3.jpg"]) await cp(SAMPLE, path.join(album, name));
  const whole = await readFile(SAMPLE);
  await writeFile(path.join(album, "cut.jpg"), whole.subarray(0, whole.length / 8));
  await writeFile(path.join(album, "notes.txt"), "no image");
  // Fewer than one request of the page takes along.
  server = await startServer("--store", path.join(folder, "store"), "--model", "lightning", "--max-job-items", "3");
  proxy = await startProxy(server.url);
  browser = await launchRefusing();
});

after(async () => {
  await browser?.close();
  await proxy?.stop();
  assert.equal(await server?.stop(), 0);
  await rm(folder, { recursive: true });
});

afterEach(() => Promise.all(browser.contexts().map((context) => context.close())));

async function open(at = `${proxy.origin}/#jobs`, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  const errors = [];
  page.on("console", (message) => message.type() === "error" && !LOGGED.test(message.text()) && errors.push(message.text()));
  page.on("pageerror", (error) => errors.push(error.message));
  await page.goto(at);
  const check = async () => {
    await context.close();
    assert.deepEqual(errors, []);
  };
  return { page, context, check };
}

const album = () => path.join(folder, "album");

/** Chooses a folder and hands its images in. */
async function handIn(page, files = album(), input = "#job-folder") {
  await page.waitForSelector("#job-form:not([hidden])");
  await page.setInputFiles(input, files);
  await page.waitForSelector("#job-picked:not([hidden])");
  await page.click("#job-send");
}

const waitForDone = (page, count) =>
  page.waitForFunction((count) => document.querySelectorAll('#job-list > [data-state="done"]').length === count, count);

const titles = (page) => page.locator("#job-list .job-head b").allTextContents();

const assertFits = async (page, when) => {
  const [content, width] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
  assert.ok(content <= width, `${when}: the page is ${content} px wide in a window of ${width} px`);
};

test("a folder becomes jobs, its images are seen with what was found, and its results saved", TEST_MS, async () => {
  const { page, check } = await open();
  await page.waitForSelector("#job-form:not([hidden])");
  await page.setInputFiles("#job-folder", album());
  assert.equal(await page.textContent("#job-title"), "album");
  assert.match(await page.textContent("#job-count"), /^Images: 5 \(0\.\d MB\)$/);
  assert.equal(await page.textContent("#job-notes"), "Other files, which are left out: 1.");
  await page.click("#job-send");
  await waitForDone(page, 2);
  // Five are refused, three and two are not. The newest is on top, and numbers in names count as numbers.
  assert.deepEqual(await titles(page), ["album · 4–5", "album · 1–3"]);
  const [newest, oldest] = [page.locator("#job-list > li").nth(0), page.locator("#job-list > li").nth(1)];
  assert.match(await newest.locator(".job-head p").textContent(), /^Done · 2 of 2 images · 1 failed · kept until /);
  assert.ok(await page.isVisible("#job-drop"), "more can be handed in");

  await newest.locator(".job-failures > summary").click();
  assert.match(await newest.locator(".job-failures li").textContent(), /^album\/cut\.jpg: not a readable image \(/);

  await oldest.locator("details:not(.job-failures) > summary").click();
  await oldest.locator(".job-tiles canvas[data-shown]").nth(2).waitFor();
  assert.deepEqual(await oldest.locator(".job-tiles b").allTextContents(), ["1.jpg", "2.jpg", "10.jpg"]);
  assert.deepEqual(await oldest.locator(".job-tiles span").allTextContents(), Array(3).fill("1 person found"));
  const drawn = await oldest.locator(".job-tiles canvas").first().evaluate(async (canvas) => {
    const plain = await createImageBitmap(await (await fetch("/sample.jpg")).blob(), { resizeWidth: canvas.width, resizeHeight: canvas.height });
    const other = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    other.drawImage(plain, 0, 0);
    const [a, b] = [canvas.getContext("2d"), other].map((context) => context.getImageData(0, 0, canvas.width, canvas.height).data);
    let different = 0;
    for (let at = 0; at < a.length; at += 4) different += Math.abs(a[at] - b[at]) > 60;
    return { width: canvas.width, height: canvas.height, part: different / (a.length / 4) };
  });
  assert.ok(Math.max(drawn.width, drawn.height) === 200, JSON.stringify(drawn));
  assert.ok(drawn.part > 0.005 && drawn.part < 0.3, `${drawn.part} of the small picture is drawn on`);

  await oldest.locator(".job-tiles button").first().click();
  await page.waitForSelector("#job-large-picture:not([hidden])");
  assert.equal(await page.textContent("#job-large-title"), "album/1.jpg");
  const [picture] = await Promise.all([page.waitForEvent("download"), page.click("#job-large-save")]);
  assert.equal(picture.suggestedFilename(), "1-annotated.jpg");
  assert.deepEqual([...(await readFile(await picture.path())).subarray(0, 3)], [0xff, 0xd8, 0xff]);
  await page.click("#job-large-close");

  const [results] = await Promise.all([page.waitForEvent("download"), oldest.getByText("Download results").click()]);
  assert.equal(results.suggestedFilename(), "album-1–3.jsonl");
  const lines = (await readFile(await results.path(), "utf8")).trimEnd().split("\n").map((line) => JSON.parse(line));
  assert.deepEqual(lines.map(({ item, name }) => [item, name]), [[1, "album/1.jpg"], [2, "album/2.jpg"], [3, "album/10.jpg"]]);
  assert.ok(lines.every(({ event }) => event.persons.length === 1 && event.model === "lightning"));

  // They are there after a reload, until they are deleted: with a second click.
  await page.reload();
  await waitForDone(page, 2);
  assert.deepEqual(await titles(page), ["album · 4–5", "album · 1–3"]);
  const id = await oldest.getAttribute("data-job");
  await oldest.locator("button.quiet").click();
  assert.equal(await page.locator("#job-list > li").count(), 2);
  await oldest.locator("button.quiet").click();
  await page.waitForFunction(() => document.querySelectorAll("#job-list > li").length === 1);
  assert.equal((await fetch(new URL(`/v1/jobs/${id}`, server.url))).status, 404);
  await check();
});

test("what is dropped becomes a job, on a phone too, and poses alone are drawn", TEST_MS, async () => {
  const { page, check } = await open(proxy.origin, { viewport: { width: 360, height: 740 } });
  const jpeg = (await readFile(SAMPLE)).toString("base64");
  await page.waitForSelector("#models input");
  await page.evaluate((jpeg) => {
    const bytes = Uint8Array.from(atob(jpeg), (c) => c.charCodeAt(0));
    const transfer = new DataTransfer();
    for (const name of ["b.jpg", "a.jpg"]) transfer.items.add(new File([bytes], name, { type: "image/jpeg" }));
    document.body.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
  }, jpeg);
  await page.waitForSelector("#job-picked:not([hidden])");
  await page.waitForSelector("#job-form:not([hidden])");
  await assertFits(page, "chosen");
  await page.selectOption("#job-want", "pose");
  await page.click("#job-send");
  await waitForDone(page, 1);
  assert.deepEqual(await titles(page), ["a.jpg"]);
  await page.locator("#job-list details:not(.job-failures) > summary").click();
  await page.locator(".job-tiles canvas[data-shown='1']").nth(1).waitFor();
  await assertFits(page, "with images");
  await page.locator(".job-tiles button").first().click();
  await page.waitForSelector("#job-large-small:not([hidden])");
  assert.ok(await page.isHidden("#job-large-save"), "there is no picture to save");
  await assertFits(page, "large");
  await check();
});

test("what cannot be sent as it is is encoded anew, and what is no image is left out", TEST_MS, async () => {
  const { page, check } = await open();
  const bmp = Buffer.from(
    // 2×2 pixels of 24 bits.
    "424d46000000000000003600000028000000020000000200000001001800000000001000000000000000000000000000000000000000ff0000ff00000000ff0000ff00000000",
    "hex",
  );
  const files = [
    { name: "a.bmp", mimeType: "image/bmp", buffer: bmp },
    { name: "b.bmp", mimeType: "image/bmp", buffer: Buffer.from("none") },
  ];
  await handIn(page, files, "#job-images");
  await waitForDone(page, 1);
  assert.equal(await page.textContent("#job-left-out-list"), "b.bmp: the browser cannot read it");
  assert.match(await page.textContent("#job-list .job-head p"), /^Done · 1 of 1 images · kept/);
  // Of files without an image there is no job.
  await page.setInputFiles("#job-images", { name: "c.txt", mimeType: "text/plain", buffer: Buffer.from("none") });
  await page.waitForSelector("#job-trouble:not([hidden])");
  assert.equal(await page.textContent("#job-trouble-words"), "There is no image and no video among the files.");
  await check();
});

test("videos become jobs beside the images, and their frames are seen", TEST_MS, async () => {
  const { page, check } = await open();
  const clip = await readFile(new URL("../../video/tests/clips/high_b_frames.mp4", import.meta.url));
  const files = [
    { name: "a.mp4", mimeType: "video/mp4", buffer: clip },
    { name: "b.jpg", mimeType: "image/jpeg", buffer: await readFile(SAMPLE) },
    { name: "c.mp4", mimeType: "video/mp4", buffer: Buffer.from("none") },
  ];
  await page.waitForSelector("#job-form:not([hidden])");
  await page.setInputFiles("#job-images", files);
  assert.match(await page.textContent("#job-count"), /^Images: 1, videos: 2 \(/);
  await page.selectOption("#job-fps", "10");
  await page.click("#job-send");
  await waitForDone(page, 3);
  assert.deepEqual(await titles(page), ["c.mp4", "b.jpg", "a.mp4"]);
  const [broken, , film] = [0, 1, 2].map((at) => page.locator("#job-list > li").nth(at));
  assert.match(await film.locator(".job-head p").textContent(), /^Done · 8 of 8 frames · kept until /);
  assert.match(await broken.locator(".job-failures li").textContent(), /^1: the video cannot be decoded \(/);
  await film.locator("details:not(.job-failures) > summary").click();
  await film.locator(".job-tiles canvas[data-shown='1']").nth(7).waitFor();
  assert.deepEqual((await film.locator(".job-tiles b").allTextContents()).slice(0, 2), ["1 · 0.00 s", "2 · 0.10 s"]);
  await film.locator(".job-tiles button").nth(1).click();
  await page.waitForSelector("#job-large-picture:not([hidden])");
  await check();
});

test("a connection that is lost while images are sent costs neither images nor jobs", TEST_MS, async () => {
  const { page, check } = await open();
  await page.waitForSelector("#job-form:not([hidden])");
  await page.setInputFiles("#job-images", [path.join(album(), "1.jpg"), path.join(album(), "2.jpg")]);
  await page.waitForSelector("#job-picked:not([hidden])");
  proxy.cut();
  try {
    const failed = page.waitForEvent("requestfailed");
    await page.click("#job-send");
    await failed;
  } finally {
    proxy.restore();
  }
  await waitForDone(page, 1);
  assert.match(await page.textContent("#job-list .job-head p"), /^Done · 2 of 2 images · kept/);
  await check();
});

test("with keys, jobs are for those whose key is for them, and known to this tab alone", TEST_MS, async () => {
  const file = path.join(folder, "keys.json");
  const key = await keys("new", "page", "--scopes", "photo,jobs", "--keys", file);
  const photosOnly = await keys("new", "photos", "--scopes", "photo", "--keys", file);
  const store = path.join(folder, "guarded");
  const guarded = await startServer("--keys", file, "--store", store, "--model", "lightning");
  try {
    const { page, context, check } = await open(guarded.url.href);
    const give = async (text) => {
      await page.waitForSelector("#key-dialog[open]");
      await page.fill("#key", text);
      await page.press("#key", "Enter");
    };
    await give(photosOnly);
    await page.click("#jobs > summary");
    await page.waitForSelector("#jobs-closed:not([hidden])");
    assert.equal(await page.textContent("#jobs-closed"), "Your key is not for jobs.");

    await page.evaluate(() => sessionStorage.clear());
    await page.goto(`${guarded.url.href}#jobs`);
    await page.reload();
    await give(key);
    await handIn(page, path.join(album(), "1.jpg"), "#job-images");
    await waitForDone(page, 1);
    await page.locator("#job-list details:not(.job-failures) > summary").click();
    await page.locator(".job-tiles canvas[data-shown='1']").waitFor();
    await page.reload();
    await waitForDone(page, 1);
    assert.equal(await page.evaluate(() => localStorage.length), 0, "it is forgotten with the key");

    const other = await context.newPage();
    await other.goto(`${guarded.url.href}#jobs`);
    await other.waitForSelector("#key-dialog[open]");
    await other.fill("#key", key);
    await other.press("#key", "Enter");
    await other.waitForSelector("#job-form:not([hidden])");
    assert.equal(await other.locator("#job-list > li").count(), 0);
    await check();
  } finally {
    await guarded.stop();
  }
});

test("a request takes so many images along, and so many bytes", TEST_MS, async () => {
  const { page, check } = await open();
  const ends = await page.evaluate(async () => {
    const { batchEnd } = await import("/handin.js");
    const file = (size, type = "image/jpeg") => ({ file: { size, type } });
    const files = [file(5), file(5), file(20), file(1), file(1), file(1), file(1, "video/mp4"), file(1)];
    const most = { images: 2, bytes: 10 };
    return [0, 2, 3, 5, 6, 7].map((from) => batchEnd(files, from, most));
  });
  assert.deepEqual(ends, [2, 3, 5, 6, 7, 8]);
  await check();
});
