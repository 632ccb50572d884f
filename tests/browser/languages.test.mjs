// The web page in another language: what people see of it, in Chromium, against a real server.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { launchRefusing } from "./chromium.mjs";
import { startServer } from "./server.mjs";

const TEST_MS = { timeout: 120_000 };
const STEP_MS = 45_000;
/** Written so in every language. */
const NAMES =
  /CloudPose|Mbit|JSON|JPEG|PNG|WebP|API|OpenAPI|HTTP|RTSP|H\.264|Motion|MultiPose|SinglePose|MoveNet|Lightning|Thunder|EfficientNet-Lite0|ImageNet|sample\.jpg/g;

let server;
let browser;

before(async () => {
  server = await startServer();
  browser = await launchRefusing();
});

after(async () => {
  await browser?.close();
  await server?.stop();
});

async function open(locale, { url } = server) {
  const context = await browser.newContext({ locale });
  const page = await context.newPage();
  page.setDefaultTimeout(STEP_MS);
  await page.goto(url.href);
  await page.waitForSelector("#models input");
  return page;
}

/** Words of Latin letters that people see, but for names and code. */
async function englishOf(page) {
  const seen = await page.evaluate(() => {
    const texts = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const { parentElement, data } = walker.currentNode;
      if (!parentElement.closest("pre, code, script, noscript")) texts.push(data);
    }
    const labelled = [...document.querySelectorAll("[aria-label], [alt], [title]")];
    for (const node of labelled) texts.push(...["aria-label", "alt", "title"].map((name) => node.getAttribute(name) ?? ""));
    return texts;
  });
  return seen.map((text) => text.replace(NAMES, "").trim()).filter((text) => /[A-Za-z]{3,}/.test(text));
}

test("whoever reads Chinese sees the whole page in it", TEST_MS, async () => {
  const page = await open("zh-CN");
  assert.equal(await page.getAttribute("html", "lang"), "zh-CN");
  assert.equal(await page.textContent("#panel-title"), "看看人是怎么动的");
  assert.deepEqual(await englishOf(page), []);
  await page.click("#jobs > summary");
  await page.waitForSelector("#jobs-closed:not([hidden])");
  assert.match(await page.textContent("#jobs-closed"), /^本服务器不保存任务/);
  assert.deepEqual(await englishOf(page), []);
  await page.click("#start-camera");
  await page.waitForSelector('#stage[data-state="failed"]');
  assert.equal(await page.textContent("#panel-title"), "摄像头被禁止");
  await page.click("#try-sample");
  await page.waitForSelector('#stage[data-state="still"]');
  assert.match(await page.textContent("#status"), /^找到 [23] 人$/);
  const joint = await page.textContent("#persons tr:nth-child(2) th");
  assert.ok(["鼻子", "左眼", "右眼", "左耳", "右耳"].includes(joint), joint);
  assert.deepEqual(await englishOf(page), []);
  await page.context().close();
});

test("whoever reads Chinese is told in it what the server says of cameras", TEST_MS, async () => {
  const fetching = await startServer("--camera", "gone=http://127.0.0.1:9/");
  const page = await open("zh-CN", fetching);
  await page.click("#wall > summary");
  await page.waitForSelector('#tiles li[data-state="waiting"]');
  assert.match(await page.textContent("#tiles span"), /^摄像机暂时不可用：无法连接（Connection refused .*）$/);
  await page.click("#camera-area > summary");
  await page.fill("#camera-name", "door");
  await page.fill("#camera-url", "rtsp://192.168.1.20/");
  await page.click("#camera-form button");
  await page.waitForSelector("#camera-refused:not([hidden])");
  assert.match(await page.textContent("#camera-refused"), /^其地址是私有地址，.*--camera-allow/);
  await page.context().close();
  await fetching.stop();
});

test("others see it in English", TEST_MS, async () => {
  const page = await open("de-DE");
  assert.equal(await page.getAttribute("html", "lang"), "en");
  assert.equal(await page.textContent("#panel-title"), "See how people move");
  await page.context().close();
});
