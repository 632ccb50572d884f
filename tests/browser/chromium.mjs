// Debian's Chromium with a webcam that isn't one.

import { existsSync } from "node:fs";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";

const CHROMIUM = "/usr/bin/chromium";
const QUIET = [
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

async function launch(flags) {
  if (!existsSync(CHROMIUM)) throw new Error(`${CHROMIUM} is missing: apt-get install chromium`);
  const { chromium } = await import("playwright-core").catch((cause) => {
    throw new Error("playwright-core is missing: run `npm ci` in tests/browser", { cause });
  });
  return chromium.launch({ executablePath: CHROMIUM, args: [...QUIET, ...flags] });
}

/** A browser whose user allows the webcam; it shows `jpegs`, one after the other, again and again. */
export async function launchWithCamera(jpegs) {
  const folder = await mkdtemp(path.join(tmpdir(), "cloudpose-camera-"));
  const film = path.join(folder, "camera.mjpeg");
  await writeFile(film, Buffer.concat(jpegs));
  const browser = await launch([
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
    `--use-file-for-fake-video-capture=${film}`,
  ]);
  browser.on("disconnected", () => rm(folder, { recursive: true, force: true }));
  return browser;
}

/** A browser whose user refuses the webcam. */
export function launchRefusing() {
  return launch(["--use-fake-device-for-media-stream", "--deny-permission-prompts"]);
}
