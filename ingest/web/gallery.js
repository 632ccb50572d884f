// The images of a job, small, with what was found drawn on them; and one of them large.

import { COCO, drawPoses } from "./client/cloudpose.js";
import { fetchWithKey } from "./key.js";
import { say } from "./phrases.js";
import { save } from "./save.js";
import { foundWords, reasonWords } from "./words.js";

/** Images that are shown at first, and that come with each "Show more". */
const SOME = 60;
/** Lines of results in one answer, at most. */
const MOST_LINES = 100;
/** Thumbnails that are asked for at once. */
const AT_ONCE = 4;

const element = (id) => document.getElementById(id);
const large = element("job-large");

/** Where the calls about a job are. */
export const addressOf = (job) => `/v1/jobs/${encodeURIComponent(job)}`;

/** The lines of results after image `after`, as far as there are some; null if the server does not answer. */
export async function linesAfter(job, after, limit = MOST_LINES) {
  const response = await fetchWithKey(`${addressOf(job)}/results?after=${after}&limit=${limit}`).catch(() => null);
  return response?.ok ? response.text() : null;
}

// Thumbnails, a few at a time, of tiles that are seen.

const waiting = [];
let loading = 0;

async function load() {
  if (loading >= AT_ONCE || waiting.length === 0) return;
  loading += 1;
  await waiting.shift()().catch(() => null);
  loading -= 1;
  load();
}

/** By tile: what loads its picture. */
const unseen = new WeakMap();
const seen = new IntersectionObserver(
  (entries) => {
    for (const { target, isIntersecting } of entries) {
      if (!isIntersecting || !unseen.has(target)) continue;
      waiting.push(unseen.get(target));
      unseen.delete(target);
      load();
    }
  },
  { rootMargin: "300px" },
);

/** The tiles of a job. */
export class Gallery {
  #job;
  #skeletons;
  #list;
  #more;
  #lines = [];
  #wanted = SOME;
  #isLoading = false;
  #status = null;

  /** `skeletons` by their names. Tiles go into `list`; `more` asks for more of them. */
  constructor(job, skeletons, list, more) {
    this.#job = job;
    this.#skeletons = skeletons;
    this.#list = list;
    this.#more = more;
    more.onclick = () => {
      this.#wanted += SOME;
      this.show(this.#status);
    };
  }

  /** Shows the images that are done by now, up to those that are wanted. */
  async show(status) {
    this.#status = status;
    if (this.#isLoading) return;
    this.#isLoading = true;
    while (this.#lines.length < Math.min(this.#wanted, status.done)) {
      const limit = Math.min(MOST_LINES, this.#wanted - this.#lines.length);
      const text = await linesAfter(this.#job, this.#lines.length, limit);
      // The next may not be done yet.
      if (!text) break;
      for (const line of text.trimEnd().split("\n")) this.#add(JSON.parse(line));
    }
    this.#isLoading = false;
    this.#more.hidden = this.#lines.length < this.#wanted || this.#lines.length >= status.items;
  }

  #add(line) {
    this.#lines.push(line);
    const name = nameOf(line);
    const button = make("button");
    button.type = "button";
    const canvas = make("canvas");
    canvas.width = 0;
    const words = line.error ? reasonWords(line.error, this.#status.video) : foundWords(line.event);
    button.append(canvas, make("b", name.split("/").pop()), make("span", words));
    button.title = name;
    button.onclick = () => this.#open(line);
    const tile = make("li");
    tile.dataset.item = line.item;
    tile.classList.toggle("failed", Boolean(line.error));
    tile.append(button);
    this.#list.append(tile);
    if (line.error?.reason === "undecodable") return;
    unseen.set(tile, () => this.#draw(line, canvas));
    seen.observe(tile);
  }

  /** Draws the thumbnail and the poses. */
  async #draw(line, canvas) {
    const response = await fetchWithKey(`${addressOf(this.#job)}/items/${line.item}/thumbnail`);
    if (!response.ok) return;
    const bitmap = await createImageBitmap(await response.blob());
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d");
    context.drawImage(bitmap, 0, 0);
    bitmap.close();
    if (line.event?.persons) drawPoses(context, line.event, { skeleton: this.#skeletons.get(line.event.skeleton) ?? COCO });
    canvas.dataset.shown = line.event?.persons?.length ?? 0;
  }

  async #open(line) {
    const { want } = this.#status;
    large.dataset.item = line.item;
    element("job-large-title").textContent = nameOf(line);
    element("job-large-state").textContent = line.error ? reasonWords(line.error, this.#status.video) : foundWords(line.event);
    element("job-large-json").textContent = JSON.stringify(line.event ?? line.error, null, 2);
    const picture = element("job-large-picture");
    const small = element("job-large-small");
    const button = element("job-large-save");
    picture.hidden = true;
    button.hidden = true;
    small.hidden = true;
    large.showModal();
    if (line.error) return;
    if (want === "pose") {
      // There is no picture but the small one.
      await this.#draw(line, small).catch(() => null);
      small.hidden = small.width === 0 || large.dataset.item !== `${line.item}`;
      return;
    }
    const response = await fetchWithKey(`${addressOf(this.#job)}/items/${line.item}/overlay`).catch(() => null);
    if (!response?.ok || large.dataset.item !== `${line.item}`) return;
    const blob = await response.blob();
    URL.revokeObjectURL(picture.src);
    picture.src = URL.createObjectURL(blob);
    picture.hidden = false;
    button.hidden = false;
    button.onclick = () => save(blob, `${plain(line)}-annotated.jpg`);
  }
}

/** What an image is called; of a frame its number and when it is shown. */
function nameOf({ item, name, at }) {
  return at === undefined ? (name ?? `${item}`) : `${item} · ${at.toFixed(2)} s`;
}

/** The same for a file: without its folder and its suffix. */
const plain = ({ item, name }) => (name ?? `${item}`).split("/").pop().replace(/\.[^.]*$/, "");

element("job-large-close").onclick = () => large.close();
large.onclose = () => {
  delete large.dataset.item;
  element("job-large-small").width = 0;
};

function make(tag, text = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}
