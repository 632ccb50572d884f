// Everything that is written to the page. Knows no sockets and no sources.

import { drawPoses } from "./client/cloudpose.js";
import { TAGS, language, said, say } from "./phrases.js";
import { DROP_REASONS, foundWords, modelWords, nameWords, percent } from "./words.js";

const element = (id) => document.getElementById(id);
const picture = element("picture");
const context = picture.getContext("2d", { alpha: false });

/** Keypoints below this score count as not seen. As the server draws them. */
const MIN_KEYPOINT_SCORE = 0.3;

/**
 * Shows what is going on. `state` is one of idle, connecting, live, paused, reconnecting, still, failed;
 * `text` is read out by screen readers when it changes.
 */
export function showStatus(state, text) {
  const status = element("status");
  status.dataset.state = state;
  if (status.textContent !== text) status.textContent = text;
  element("stage").dataset.state = state;
  const running = state !== "idle" && state !== "failed";
  element("panel").hidden = running;
  element("spinner").hidden = state !== "connecting";
  element("banner").hidden = state !== "reconnecting";
}

/** The panel that stands in for the picture: what is wrong, or what to do. */
export function showPanel({ title, text }) {
  element("panel-title").textContent = title;
  element("panel-text").textContent = text;
}

/** What to say while the connection is lost. */
export function showBanner(text) {
  element("banner-text").textContent = text;
}

/** The line below the picture. */
export function showSourceName(text) {
  element("source-name").textContent = text;
}

/** Which of the buttons below the picture there are, by their ids. */
export function showTools(ids) {
  for (const id of ["save-picture", "save-poses", "pause", "stop"]) element(id).hidden = !ids.includes(id);
}

/** Number of the last picture asked for, and of the last one drawn: decoding may change their order. */
let asked = 0;
let drawn = 0;

/** Draws an annotated JPEG, a Blob. Resolves to false if by then a newer one, or none, is wanted. */
export async function showPicture(image) {
  asked += 1;
  const number = asked;
  const bitmap = await createImageBitmap(image);
  if (number < drawn) return false;
  show(bitmap, number);
  return true;
}

/** Draws a frame, an ImageBitmap, and the poses on it. */
export function showFrame(frame, event, skeleton) {
  asked += 1;
  show(frame, asked);
  // Classes are not drawn.
  if (event.persons) drawPoses(context, event, { skeleton });
}

function show(bitmap, number) {
  drawn = number;
  if (picture.width !== bitmap.width) picture.width = bitmap.width;
  if (picture.height !== bitmap.height) picture.height = bitmap.height;
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  picture.hidden = false;
  picture.dataset.shown = Number(picture.dataset.shown) + 1;
}

/** Takes the picture away, and those that are on their way. */
export function clearPicture() {
  drawn = asked + 1;
  asked = drawn;
  picture.hidden = true;
  picture.dataset.shown = 0;
}

/** The menu of models, as `/v1/models` lists them. What was chosen stays so while it is there. */
export function showModels({ default: byDefault, models }) {
  const menu = element("models");
  const before = menu.querySelector("input:checked")?.value;
  const chosen = models.some(({ id }) => id === before) ? before : byDefault;
  for (const label of menu.querySelectorAll("label")) label.remove();
  menu.append(...models.map((model) => modelChoice(model, model.id === chosen)));
  menu.hidden = models.length === 0;
}

/** Chooses a model in the menu, if it is there. */
export function chooseModel(id) {
  const input = [...element("models").querySelectorAll("input")].find(({ value }) => value === id);
  if (input) input.checked = true;
}

function modelChoice(model, checked) {
  const input = make("input");
  Object.assign(input, { type: "radio", name: "model", value: model.id, checked });
  const words = make("span");
  words.append(make("b", said(model.title)), ` ${modelWords(model)}`);
  const label = make("label");
  label.append(input, words);
  return label;
}

/** The tiles. Numbers that are null are not known. `found` is the newest event, or null. */
export function showNumbers({ found, latencyMs, serverMs, sentRate, shownRate, sentBits, codec }) {
  const write = (id, number, digits = 0) => {
    element(id).textContent = number === null ? "–" : number.toFixed(digits);
  };
  const best = found?.classes?.[0];
  element("found-title").textContent = best ? nameWords(best.label) : say`Persons`;
  element("persons-count").textContent = best ? percent(best.score) : (found?.persons?.length ?? "–");
  write("latency", latencyMs);
  write("server-latency", serverMs);
  write("fps-in", sentRate, 1);
  write("fps-out", shownRate, 1);
  // A still scene takes next to nothing as video.
  const isMuch = sentBits === null || sentBits >= 1e6;
  write("uplink", sentBits === null ? null : sentBits / (isMuch ? 1e6 : 1e3), isMuch ? 1 : 0);
  element("uplink-unit").textContent = isMuch ? "Mbit/s" : "kbit/s";
  element("uplink-title").textContent = codec === null ? say`Uplink` : say`Uplink, ${codec}`;
}

/** The drops by reason; `skipped` frames were never sent, since the ones before them were on their way. */
export function showDrops(counts, skipped) {
  const reasons = Object.entries(counts).filter(([, n]) => n > 0);
  element("dropped").textContent = reasons.reduce((sum, [, n]) => sum + n, 0);
  const lines = reasons.map(([reason, n]) => `${n} ${DROP_REASONS[reason] ?? reason}`);
  if (skipped > 0) lines.push(say`${skipped} not sent, to keep up`);
  if (lines.length === 0) lines.push(say`None so far`);
  element("drops").replaceChildren(...lines.map((line) => make("li", line)));
}

/** What was found in a still; null takes it away. */
export function showFound(event) {
  element("poses").hidden = event === null;
  if (event === null) return;
  element("poses-title").textContent = foundWords(event);
  element("persons").replaceChildren(...(event.classes ? [classTable(event.classes)] : event.persons.map(personDetails)));
  element("poses-json").textContent = JSON.stringify(event, null, 2);
}

/** The examples for this host. */
export function showExamples(origin, streamUrl, withKey) {
  const key = withKey ? ' -H "Authorization: Bearer $KEY"' : "";
  const post = `curl ${origin}/v1/pose${key} -H 'Content-Type: image/jpeg' --data-binary @photo.jpg`;
  element("curl-pose").textContent = post;
  element("curl-overlay").textContent = `${post} \\\n  -H 'Accept: image/jpeg' -o annotated.jpg`;
  element("stream-url").textContent = streamUrl;
}

function personDetails(person, index) {
  const seen = person.keypoints.filter((keypoint) => keypoint.score >= MIN_KEYPOINT_SCORE).length;
  const details = make("details");
  const summary = make("summary");
  summary.append(
    make("b", say`Person ${index + 1}`),
    make("span", say`${percent(person.score)} sure`),
    make("span", say`${seen} of ${person.keypoints.length} joints`),
  );
  const table = make("table");
  const head = make("tr");
  head.append(...[say`Joint`, "x", "y", say`Score`].map((title) => headCell(title, "col")));
  table.createTHead().append(head);
  const body = table.createTBody();
  for (const { name, x, y, score } of person.keypoints) {
    const row = make("tr");
    row.classList.toggle("unseen", score < MIN_KEYPOINT_SCORE);
    const numbers = [x.toFixed(1), y.toFixed(1), percent(score)];
    row.append(headCell(nameWords(name), "row"), ...numbers.map((number) => make("td", number)));
    body.append(row);
  }
  details.append(summary, table);
  return details;
}

function classTable(classes) {
  const table = make("table");
  const body = table.createTBody();
  for (const { label, score } of classes) {
    const row = make("tr");
    row.append(headCell(nameWords(label), "row"), make("td", percent(score)));
    body.append(row);
  }
  return table;
}

function headCell(text, scope) {
  const cell = make("th", text);
  cell.scope = scope;
  return cell;
}

function make(tag, text = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  return node;
}

/** Attributes whose words people see or hear. */
const ATTRIBUTES = ["aria-label", "alt", "title", "placeholder"];

/** The texts of a page, each with how to write it anew. Code is not among them. */
function* texts(root) {
  const walker = root.createTreeWalker(root.body, NodeFilter.SHOW_ELEMENT | NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode;
    if (node.nodeType === Node.TEXT_NODE) {
      if (!node.parentElement.closest("code, pre, script, noscript")) yield [node.data, (text) => (node.data = text)];
      continue;
    }
    for (const name of ATTRIBUTES) {
      if (node.hasAttribute(name)) yield [node.getAttribute(name), (text) => node.setAttribute(name, text)];
    }
  }
}

/** Has a page as it was sent say everything in the browser's language. */
export function translate(root) {
  root.documentElement.lang = TAGS[language];
  for (const [text, write] of texts(root)) {
    const phrase = text.trim();
    const words = said(phrase);
    if (words !== phrase) write(text.replace(phrase, () => words));
  }
}
