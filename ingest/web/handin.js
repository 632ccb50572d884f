// Handing images and videos in: what was dropped or chosen becomes jobs, one request after the other.

import { authorization } from "./client/cloudpose.js";
import { key, renewKey } from "./key.js";
import { encodeStill, SERVER_TYPES } from "./source.js";

/** What goes with one request, at most: it is sent again whole where its answer is lost. */
export const MOST = { images: 500, bytes: 128 * 2 ** 20 };
/** Files that are taken from a folder, at most. */
const MOST_FILES = 50_000;
/** What the server takes of one image, unless it was told otherwise. */
const LIMITS = { max_image_bytes: 8 * 2 ** 20, max_image_pixels: 4096 * 4096 };
/** Of images that are encoded anew. */
const QUALITY = 90;
/** How often, and after which pauses, a request that had no answer is sent again, in milliseconds. */
const PAUSES_MS = [1000, 2000, 4000, 8000];
/** Answers after which it may go better next time. */
const PASSING = new Set([0, 408, 500, 502, 503, 504]);

const inOrder = new Intl.Collator(undefined, { numeric: true });

/** What was chosen in an `<input type="file">`. */
export function chosen(files) {
  return sorted([...files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
}

/** What was dropped, with all that is in its folders. The first part must run before the drop is over. */
export async function dropped(transfer) {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry() ?? item.getAsFile());
  const found = [];
  for (const entry of entries) await collect(entry, found);
  return sorted(found);
}

/** Adds a file, or an entry of a file system with all that is in it. */
async function collect(entry, found) {
  if (found.length >= MOST_FILES) return;
  if (entry instanceof File) {
    found.push({ file: entry, path: entry.name });
    return;
  }
  if (entry.isFile) {
    const file = await new Promise((resolve) => entry.file(resolve, () => resolve(null)));
    if (file !== null) found.push({ file, path: entry.fullPath.replace(/^\//, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // It tells of some at a time.
    const some = await new Promise((resolve) => reader.readEntries(resolve, () => resolve([])));
    if (some.length === 0) return;
    for (const inside of some) await collect(inside, found);
  }
}

const sorted = (found) => found.sort((a, b) => inOrder.compare(a.path, b.path)).slice(0, MOST_FILES);

export const isImage = ({ file }) => file.type.startsWith("image/");
export const isVideo = ({ file }) => file.type.startsWith("video/");

/** What the files are called together: their folder, or the first of them. */
export function titleOf(images) {
  const folder = images[0].path.split("/").slice(0, -1)[0];
  return folder !== undefined && images.every(({ path }) => path.startsWith(`${folder}/`)) ? folder : images[0].path;
}

/** How many of the images, from `from` on, go with one request: at least one. A video goes alone. */
export function batchEnd(images, from, most = MOST) {
  if (isVideo(images[from])) return from + 1;
  let end = from;
  for (let bytes = 0; end < images.length && end - from < most.images; end += 1) {
    bytes += images[end].file.size;
    if (end > from && (bytes > most.bytes || isVideo(images[end]))) break;
  }
  return end;
}

/**
 * Images and videos on their way to the server. `settings` are those of the requests, `fps` of videos only, if it is not empty.
 * `hooks`: `progress({images, bytes})` that are there, of `images` and `bytes` in all; `handedIn(job, {from, to, all})`; `leftOut(path, why)` of an image that the server takes in no way: `type`, or
 * its problem, if it told one.
 */
export class HandIn {
  #images;
  #settings;
  #hooks;
  #over = new AbortController();
  /** Ranges of the images that are still to be handed in, each with the key of its request. */
  #ranges = [];
  #done = { images: 0, bytes: 0 };

  constructor(images, settings, hooks) {
    this.#images = images;
    this.#settings = settings;
    this.#hooks = hooks;
    for (let from = 0; from < images.length; ) {
      const to = batchEnd(images, from);
      this.#ranges.push(range(from, to));
      from = to;
    }
  }

  /** How many requests are to come. */
  get left() {
    return this.#ranges.length;
  }

  stop() {
    this.#over.abort();
  }

  /** Resolves to null once all is handed in or it was stopped, or to why it is not: `{status, title, detail}`. May be called again. */
  async run() {
    while (this.#ranges.length > 0) {
      const { from, to, request } = this.#ranges[0];
      const answer = await this.#send(from, to, request);
      if (this.#over.signal.aborted) return null;
      if (answer.status === 413 && to - from > 1) {
        // Which image is too large, or whether there are too many of them, it does not say.
        const middle = from + Math.ceil((to - from) / 2);
        this.#ranges.splice(0, 1, range(from, middle), range(middle, to));
        continue;
      }
      if (answer.status === 413 || answer.status === 422) this.#hooks.leftOut(this.#images[from].path, answer.body);
      else if (answer.status === 202) this.#hooks.handedIn(answer.body, { from, to, all: this.#images.length });
      else if (answer.status !== EMPTY) return { status: answer.status, title: answer.body?.title, detail: answer.body?.detail };
      this.#ranges.shift();
      for (const { file } of this.#images.slice(from, to)) this.#done.bytes += file.size;
      this.#done.images += to - from;
      this.#tell(0, 0);
    }
    return null;
  }

  #tell(images, bytes) {
    this.#hooks.progress({ images: this.#done.images + images, bytes: this.#done.bytes + bytes });
  }

  /** The images that can be sent, or null if there is none. */
  async #form(from, to) {
    const form = new FormData();
    for (const { file, path } of this.#images.slice(from, to)) {
      const image = await encoded(file);
      if (this.#over.signal.aborted) return null;
      if (image === null) this.#hooks.leftOut(path, "type");
      else form.append("file", image, path);
    }
    return form.has("file") ? form : null;
  }

  /** Sends images, or a video, until there is an answer, or none for long. */
  async #send(from, to, request) {
    const { fps, ...settings } = this.#settings;
    const video = isVideo(this.#images[from]) ? this.#images[from].file : null;
    const body = video ?? (await this.#form(from, to));
    if (body === null) return { status: EMPTY };
    const query = new URLSearchParams(video !== null && fps !== "" ? { ...settings, fps } : settings);
    const address = `/v1/jobs?${query}`;
    const size = this.#images.slice(from, to).reduce((sum, { file }) => sum + file.size, 0);
    const progress = (part) => this.#tell(Math.floor((to - from) * part), size * part);
    for (let tries = 0; ; ) {
      const shown = key();
      const kind = video === null ? {} : { "Content-Type": video.type };
      const headers = { ...authorization(shown), ...kind, "Idempotency-Key": request };
      const answer = await post(address, body, headers, this.#over.signal, progress);
      if (answer.status === 401 && (await renewKey(shown))) continue;
      if (this.#over.signal.aborted || !PASSING.has(answer.status) || tries >= PAUSES_MS.length) return answer;
      await pause(PAUSES_MS[tries], this.#over.signal);
      tries += 1;
    }
  }
}

/** In the place of a status: none of the images could be sent. */
const EMPTY = -1;

const range = (from, to) => ({ from, to, request: newKey() });

/** A value that no other request has. */
function newKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** An image as the server takes it, encoded anew if it must be; null if the browser cannot read it. */
async function encoded(file) {
  if (SERVER_TYPES.has(file.type) && file.size <= LIMITS.max_image_bytes) return file;
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) return null;
  const image = await encodeStill(file, bitmap, LIMITS, QUALITY);
  bitmap.close();
  return image;
}

/** Like fetch, which does not say how much is sent. Status 0: there was no answer. `progress` is told what part is there. */
function post(address, body, headers, signal, progress) {
  return new Promise((resolve) => {
    const request = new XMLHttpRequest();
    request.open("POST", address);
    for (const [name, value] of Object.entries(headers)) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => total > 0 && progress(loaded / total);
    request.onloadend = () => resolve({ status: request.status, body: request.response });
    signal.addEventListener("abort", () => request.abort(), { once: true });
    if (signal.aborted) resolve({ status: 0, body: null });
    else request.send(body);
  });
}

function pause(ms, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}
