// Jobs: a form that hands images and videos in, and those that were handed in from this browser.

import { Gallery, addressOf, linesAfter } from "./gallery.js";
import { HandIn, MOST, chosen, dropped, isImage, isVideo, titleOf } from "./handin.js";
import { fetchWithKey, isKeyWanted } from "./key.js";
import { said, say } from "./phrases.js";
import { save } from "./save.js";
import { handInError, modelWords, problemWords, reasonWords } from "./words.js";

/** How often the server is asked how far the jobs are. */
const LOOK_MS = 1000;
const KEPT_AS = "cloudpose-jobs";
/** Names of images that were left out, at most. */
const MOST_TOLD = 20;

const STATES = { waiting: say`Waiting`, running: say`Working`, done: say`Done` };

const element = (id) => document.getElementById(id);
const section = element("jobs");
const list = element("job-list");

// Which jobs there are.

/** With a key they are forgotten with it, when the tab is closed. */
const memory = () => (isKeyWanted() ? sessionStorage : localStorage);

/** The jobs that were handed in here, oldest first: `{id, title}`. */
function known() {
  try {
    return JSON.parse(memory().getItem(KEPT_AS)) ?? [];
  } catch {
    return [];
  }
}

const keep = (jobs) => memory().setItem(KEPT_AS, JSON.stringify(jobs));
const forget = (id) => keep(known().filter((job) => job.id !== id));

// The form.

/** What was chosen and is not handed in yet. */
let picked = [];
/** What is on its way. */
let sending = null;
let models = [];

const show = (id, isShown) => (element(id).hidden = !isShown);

function showForm() {
  show("job-drop", sending === null && picked.length === 0);
  show("job-picked", sending === null && picked.length > 0);
  show("job-sending", sending !== null);
}

const megabytes = (bytes) => (bytes / 1e6).toFixed(bytes < 9.95e6 ? 1 : 0);

function pick(found) {
  if (found.length === 0 || sending !== null) return;
  const [images, videos] = [found.filter(isImage), found.filter(isVideo)];
  picked = found.filter((file) => isImage(file) || isVideo(file));
  show("job-left-out", false);
  element("job-left-out-list").replaceChildren();
  showTrouble(picked.length === 0 ? say`There is no image and no video among the files.` : "");
  if (picked.length > 0) {
    const bytes = picked.reduce((sum, { file }) => sum + file.size, 0);
    element("job-title").textContent = titleOf(picked);
    element("job-count").textContent =
      videos.length === 0
        ? say`Images: ${images.length} (${megabytes(bytes)} MB)`
        : say`Images: ${images.length}, videos: ${videos.length} (${megabytes(bytes)} MB)`;
    show("job-fps-label", videos.length > 0);
    const others = found.length - picked.length;
    const imageBytes = images.reduce((sum, { file }) => sum + file.size, 0);
    const parts = Math.max(Math.ceil(images.length / MOST.images), Math.ceil(imageBytes / MOST.bytes));
    const notes = [];
    if (others > 0) notes.push(say`Other files, which are left out: ${others}.`);
    if (parts > 1) notes.push(say`They become several jobs, of ${MOST.images} images and ${megabytes(MOST.bytes)} MB at most.`);
    if (videos.length > 0 && picked.length > 1) notes.push(say`Each video is a job of its own.`);
    element("job-notes").textContent = notes.join(" ");
  }
  showForm();
  if (picked.length > 0) element("job-send").focus();
}

function showTrouble(words, isToTryAgain = false) {
  show("job-trouble", words !== "");
  element("job-trouble-words").textContent = words;
  show("job-again", isToTryAgain);
}

function handIn() {
  const images = picked;
  const title = titleOf(images);
  const bytes = images.reduce((sum, { file }) => sum + file.size, 0);
  const bar = element("job-sent");
  bar.max = Math.max(bytes, 1);
  const tell = (there) => {
    bar.value = there.bytes;
    element("job-sending-words").textContent =
      say`Sending ${title}: ${there.images} of ${images.length} files, ${megabytes(there.bytes)} of ${megabytes(bytes)} MB`;
  };
  tell({ images: 0, bytes: 0 });
  const settings = { model: element("job-model").value, want: element("job-want").value, fps: element("job-fps").value };
  sending = new HandIn(images, settings, {
    progress: tell,
    handedIn(status, { from, to, all }) {
      const part = to - from === 1 ? images[from].path : `${title} · ${from + 1}–${to}`;
      const name = to - from === all ? title : part;
      keep([...known(), { id: status.id, title: name }]);
      showJob({ id: status.id, title: name }, status);
      look();
    },
    leftOut(path, why) {
      show("job-left-out", true);
      const refused = why?.detail ? problemWords(why) : say`too large for the server`;
      const words = why === "type" ? say`the browser cannot read it` : refused;
      const told = element("job-left-out-list");
      if (told.childElementCount < MOST_TOLD) told.append(make("li", `${path}: ${words}`));
    },
  });
  picked = [];
  goOn();
}

/** Hands in what is left, until it is done or there is trouble. */
async function goOn() {
  const mine = sending;
  showTrouble("");
  showForm();
  const trouble = await mine.run();
  if (mine !== sending) return;
  if (trouble !== null) {
    showTrouble(handInError(trouble), true);
    return;
  }
  sending = null;
  showForm();
}

function stop() {
  sending?.stop();
  sending = null;
  showTrouble("");
  showForm();
}

element("choose-images").onclick = () => element("job-images").click();
element("choose-folder").onclick = () => element("job-folder").click();
for (const id of ["job-images", "job-folder"]) {
  element(id).onchange = (event) => {
    pick(chosen(event.target.files));
    // So that the same can be chosen again.
    event.target.value = "";
  };
}
element("job-cancel").onclick = () => {
  picked = [];
  showForm();
};
element("job-stop").onclick = stop;
element("job-again").onclick = goOn;
element("job-form").onsubmit = (event) => {
  event.preventDefault();
  if (picked.length > 0) handIn();
};
window.addEventListener("beforeunload", (event) => {
  // What was not handed in is not here after a reload.
  if (sending !== null) event.preventDefault();
});

/** Whether what is dropped there is to become a job: many files, or a folder, or anything on the form. */
export function isForJobs(event) {
  const items = [...event.dataTransfer.items].filter(({ kind }) => kind === "file");
  return items.length > 1 || event.target.closest?.("#jobs") || items.some((item) => item.webkitGetAsEntry()?.isDirectory);
}

/** Takes what was dropped. */
export async function takeDropped(transfer) {
  const found = dropped(transfer);
  section.open = true;
  section.scrollIntoView({ block: "nearest" });
  pick(await found);
}

// The list.

/** By id: `{item, gallery, status}` and what shows it. */
const shown = new Map();

function statusWords({ state, items, done, failed, video, expires_at }) {
  const words = [STATES[state], video ? say`${done} of ${items} frames` : say`${done} of ${items} images`];
  if (failed > 0) words.push(say`${failed} failed`);
  const until = new Date(expires_at).toLocaleString(document.documentElement.lang, { dateStyle: "short", timeStyle: "short" });
  words.push(say`kept until ${until}`);
  return words.join(" · ");
}

/** Shows a job, the newest first, and what the server says of it. */
function showJob({ id, title }, status) {
  if (!shown.has(id)) addJob(id, title);
  const job = shown.get(id);
  job.status = status;
  job.item.dataset.state = status.state;
  job.words.textContent = statusWords(status);
  job.bar.max = status.items;
  job.bar.value = status.done;
  job.bar.hidden = status.state === "done";
  job.images.hidden = status.done === 0;
  job.results.hidden = status.state !== "done";
  job.failures.hidden = status.errors.length === 0;
  job.failureCount.textContent = say`Failed: ${status.failed}`;
  job.failureList.replaceChildren(...status.errors.map((error) => make("li", `${error.name ?? error.item}: ${reasonWords(error, status.video)}`)));
  if (job.images.open) job.gallery.show(status);
}

function addJob(id, title) {
  const item = make("li");
  item.dataset.job = id;
  const words = make("p");
  const bar = make("progress");
  bar.setAttribute("aria-label", title);
  const results = button(say`Download results`, () => downloadResults(id, title));
  const buttons = make("div");
  buttons.className = "buttons";
  buttons.append(results, deleteButton(id));
  const [failures, failureCount] = details("");
  failures.className = "job-failures";
  const failureList = make("ul");
  failures.append(failureList);
  const [images] = details(say`Images`);
  const tiles = make("ul");
  tiles.className = "job-tiles";
  const more = button(say`Show more`, null);
  images.append(tiles, more);
  const head = make("div");
  head.className = "job-head";
  const about = make("div");
  about.append(make("b", title), words);
  head.append(about, buttons);
  item.append(head, bar, failures, images);
  list.prepend(item);
  const skeletons = new Map(models.map(({ skeleton }) => [skeleton?.name, skeleton]));
  const gallery = new Gallery(id, skeletons, tiles, more);
  const job = { item, words, bar, results, failures, failureCount, failureList, images, gallery, status: null };
  images.ontoggle = () => images.open && gallery.show(job.status);
  shown.set(id, job);
}

function removeJob(id) {
  forget(id);
  shown.get(id)?.item.remove();
  shown.delete(id);
}

/** The second click deletes. */
function deleteButton(id) {
  const first = say`Delete`;
  const node = button(first, async () => {
    if (node.textContent === first) {
      node.textContent = say`Delete for good`;
      return;
    }
    node.disabled = true;
    const response = await fetchWithKey(addressOf(id), { method: "DELETE" }).catch(() => null);
    if (response?.ok || response?.status === 404) removeJob(id);
    node.disabled = false;
    node.textContent = first;
  });
  node.onblur = () => (node.textContent = first);
  node.className = "quiet";
  return node;
}

/** Saves all lines of results. */
async function downloadResults(id, title) {
  const { status, results } = shown.get(id);
  results.disabled = true;
  const texts = [];
  let text = "";
  for (let told = 0; told < status.items; told += text.trimEnd().split("\n").length) {
    text = await linesAfter(id, told);
    if (!text) break;
    texts.push(text);
  }
  results.disabled = false;
  if (text) save(new Blob(texts, { type: "application/jsonl" }), `${title.replace(/[^\p{L}\p{N}–-]+/gu, "-")}.jsonl`);
  else showTrouble(handInError({ status: 0 }));
}

/** Asks how a job is doing. */
async function askOf(job) {
  const response = await fetchWithKey(addressOf(job.id)).catch(() => null);
  if (response?.status === 404) removeJob(job.id);
  else if (response?.ok) showJob(job, await response.json());
}

let looking = null;
let isLooking = false;

/** Asks of the jobs that are not done, for as long as they are seen. */
async function look() {
  clearTimeout(looking);
  if (isLooking || !section.open || document.hidden) return;
  isLooking = true;
  const open = known().filter(({ id }) => shown.get(id)?.status.state !== "done");
  for (const job of open) await askOf(job);
  isLooking = false;
  if (open.length > 0) looking = setTimeout(look, LOOK_MS);
}

// Beginning.

/** Asks what the server does, when the section is first opened. */
async function begin() {
  // There is no job of this name; whoever may not have jobs is told so instead.
  const response = await fetchWithKey(addressOf("none")).catch(() => null);
  const status = response?.status ?? 0;
  const isFor = status === 404 || status === 503;
  show("jobs-closed", !isFor);
  show("job-form", isFor);
  if (!isFor) {
    element("jobs-closed").textContent = handInError({ status });
    return;
  }
  const asked = await fetchWithKey("/v1/models").catch(() => null);
  const told = asked?.ok ? await asked.json() : { models: [] };
  models = told.models;
  element("job-model").replaceChildren(
    ...models.map((model) => {
      const option = make("option", `${said(model.title)}: ${modelWords(model)}`);
      option.value = model.id;
      option.selected = model.id === told.default_photo;
      return option;
    }),
  );
  look();
}

section.ontoggle = () => section.open && begin();
document.addEventListener("visibilitychange", look);
show("choose-folder", "webkitdirectory" in element("job-folder"));

if (location.hash === "#jobs") section.open = true;

function details(title) {
  const node = make("details");
  const summary = make("summary", title);
  node.append(summary);
  return [node, summary];
}

function button(text, onclick) {
  const node = make("button", text);
  node.type = "button";
  node.onclick = onclick;
  return node;
}

function make(tag, text = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}
