// Encodes pictures as the page does, in Chromium: `node film.mjs FOLDER` takes the folder's PNGs by name and prints for each a
// line, what `Film` (clients/js) would send in base64, or nothing where the encoder leaves it out.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";

import { launchRefusing } from "../../tests/browser/chromium.mjs";

const FILM = new URL("../../clients/js/film.js", import.meta.url);
const [folder] = process.argv.slice(2);
const browser = await launchRefusing();
try {
  const page = await browser.newPage();
  const script = { contentType: "text/javascript", body: await readFile(FILM, "utf8") };
  const nothing = { contentType: "text/html", body: "<!doctype html>" };
  // Only pages of this machine may encode.
  await page.route("**/*", (route) => route.fulfill(route.request().url().endsWith(".js") ? script : nothing));
  await page.goto("http://localhost/");
  await page.evaluate(async () => {
    const { Film } = await import("/film.js");
    const film = new Film();
    const canvas = new OffscreenCanvas(2, 2);
    window.encode = async (png) => {
      const bitmap = await createImageBitmap(await (await fetch(`data:image/png;base64,${png}`)).blob());
      const [width, height] = [bitmap.width, bitmap.height].map((side) => side & ~1);
      if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(bitmap, 0, 0);
      const message = await film.encode(canvas);
      if (message === null) return "";
      return btoa(Array.from(new Uint8Array(message), (byte) => String.fromCharCode(byte)).join(""));
    };
  });
  const names = (await readdir(folder)).filter((name) => name.endsWith(".png")).sort();
  for (const name of names) {
    const png = (await readFile(path.join(folder, name))).toString("base64");
    console.log(await page.evaluate((bytes) => window.encode(bytes), png));
  }
} finally {
  await browser.close();
}
