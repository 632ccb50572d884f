// The wall: the streams that anybody sends, each in a tile, and one of them large.
//
// Tiles watch over WebSockets, not over <img src="….mjpeg">: of those a browser opens six to one server, and then
// nothing else any more. Who is not seen is not watched, so that nothing is drawn for nobody.

import { listCameras, onCameraAdded, removeCamera } from "./cameras.js";
import { protocols } from "./client/cloudpose.js";
import { fetchWithKey, key } from "./key.js";
import { say } from "./phrases.js";
import { cameraWords, nameWords, serverError } from "./words.js";

/** How often the list is asked for. */
const LIST_MS = 2000;
/** Wait before a stream whose connection was lost is watched again. */
const AGAIN_MS = 2000;
const TILE_FPS = 2;
const LARGE_FPS = 15;

const element = (id) => document.getElementById(id);
const wall = element("wall");
const tiles = element("tiles");
const large = element("large");

/** Pictures of a stream in an `<img>`, until it is stopped. */
class Watch {
  #socket = null;
  #again = null;
  #loading = false;
  #next = null;

  /** `hooks`: `hello({draw})`, `trouble(words)`. */
  constructor(stream, image, query, hooks = {}) {
    const url = new URL(`/v1/streams/${encodeURIComponent(stream)}/watch`, location.href);
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ want: "overlay", ...query });
    this.url = url;
    this.image = image;
    this.hooks = hooks;
    this.#open();
  }

  #open() {
    const socket = new WebSocket(this.url, protocols(key()));
    this.#socket = socket;
    socket.binaryType = "blob";
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") this.#told(JSON.parse(data));
      else this.#show(data);
    };
    socket.onclose = () => {
      this.#again = setTimeout(() => this.#open(), AGAIN_MS);
    };
  }

  #told(message) {
    if (message.type === "hello") this.hooks.hello?.(message);
    if (message.type !== "error") return;
    this.hooks.trouble?.(serverError(message.code, message.message));
    // Asking again in the same words would not help.
    if (message.code === "bad_query") this.stop();
  }

  /** Shows a picture, or keeps it until the one before is there: the newest wins. */
  #show(picture) {
    if (this.#loading) {
      this.#next = picture;
      return;
    }
    this.#loading = true;
    const { image } = this;
    const address = URL.createObjectURL(picture);
    const done = (isShown) => {
      URL.revokeObjectURL(address);
      this.#loading = false;
      if (isShown) image.dataset.shown = Number(image.dataset.shown ?? 0) + 1;
      const next = this.#next;
      this.#next = null;
      if (next !== null) this.#show(next);
    };
    image.onload = () => done(true);
    image.onerror = () => done(false);
    image.src = address;
    image.hidden = false;
  }

  stop() {
    clearTimeout(this.#again);
    this.#socket.onclose = null;
    this.#socket.onmessage = null;
    this.#socket.close();
    this.#next = null;
  }
}

// Tiles.

/** By stream: `{item, button, image, words, seen, sent, watch}`. */
const shown = new Map();

const inView = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    const tile = shown.get(target.dataset.stream);
    if (tile) tile.seen = isIntersecting;
  }
  watchWhatIsSeen();
});

function addTile(stream) {
  const item = document.createElement("li");
  item.dataset.stream = stream;
  const button = document.createElement("button");
  button.type = "button";
  const image = document.createElement("img");
  image.alt = "";
  image.hidden = true;
  const name = document.createElement("b");
  name.textContent = stream;
  const words = document.createElement("span");
  button.append(image, name, words);
  button.onclick = () => openLarge(stream);
  item.append(button);
  tiles.append(item);
  shown.set(stream, { item, button, image, words, seen: false, sent: false, watch: null });
  inView.observe(item);
}

function removeTile(stream) {
  const { item, watch } = shown.get(stream);
  watch?.stop();
  inView.unobserve(item);
  item.remove();
  shown.delete(stream);
}

/** What is known of a stream, in words; of a camera's that is not live, why. */
function streamWords({ state, fps, width, height, model, watchers }, camera) {
  if (camera && (camera.state !== "live" || camera.error || !model)) return cameraWords(camera);
  const words = [state === "live" ? say`Live, ${fps.toFixed(fps < 9.95 ? 1 : 0)} /s` : say`Silent`];
  if (width > 0) words.push(`${width} × ${height}`);
  words.push(nameWords(model), say`${watchers} watching`);
  return words.join(" · ");
}

/** `sent`: the streams that there are. A camera that is not among them has a tile that says why. */
function showList(sent, cameras) {
  const names = new Set(sent.map(({ stream }) => stream));
  const missing = [...cameras.values()].filter(({ stream }) => !names.has(stream));
  const streams = [...sent, ...missing.map(({ stream }) => ({ stream, state: "silent" }))];
  const all = new Set(streams.map(({ stream }) => stream));
  for (const stream of [...shown.keys()]) if (!all.has(stream)) removeTile(stream);
  for (const live of streams) {
    if (!shown.has(live.stream)) addTile(live.stream);
    const tile = shown.get(live.stream);
    const { item, button, words } = tile;
    tile.sent = names.has(live.stream);
    const camera = cameras.get(live.stream);
    const state = camera && camera.state !== "live" ? camera.state : live.state;
    item.dataset.state = state;
    words.textContent = streamWords(live, camera);
    button.setAttribute("aria-label", say`${live.stream}: ${words.textContent}. Open large`);
    if (live.stream === large.dataset.stream) {
      showLargeState(state, words.textContent);
      element("large-remove").hidden = !camera || camera.fixed === true;
    }
  }
  if (large.open && !all.has(large.dataset.stream)) showLargeState("gone", say`Nobody sends this stream now`);
  element("wall-empty").hidden = streams.length > 0;
  watchWhatIsSeen();
}

function watchWhatIsSeen() {
  for (const [stream, tile] of shown) {
    const wanted = tile.sent && tile.seen && isWatching() && !large.open;
    if (wanted && tile.watch === null) {
      tile.watch = new Watch(stream, tile.image, { fps: TILE_FPS });
    } else if (!wanted && tile.watch !== null) {
      tile.watch.stop();
      tile.watch = null;
    }
  }
}

// The list.

const isWatching = () => wall.open && !document.hidden;
let listing = null;

async function list() {
  const asked = fetchWithKey("/v1/streams").catch(() => null);
  const [response, cameras] = [await asked, await listCameras()];
  if (!isWatching()) return;
  if (response?.ok) showList((await response.json()).streams, cameras);
  clearTimeout(listing);
  listing = setTimeout(list, LIST_MS);
}

function changed() {
  clearTimeout(listing);
  if (isWatching()) list();
  watchWhatIsSeen();
}

wall.ontoggle = changed;
document.addEventListener("visibilitychange", () => {
  changed();
  if (large.open) watchLarge();
});

// One of them large.

let largeWatch = null;

function openLarge(stream) {
  large.dataset.stream = stream;
  element("large-title").textContent = stream;
  element("large-draw").value = "";
  showLargeState("live", shown.get(stream)?.words.textContent ?? "");
  element("large-remove").hidden = true;
  large.showModal();
  watchWhatIsSeen();
  watchLarge();
}

function watchLarge() {
  largeWatch?.stop();
  largeWatch = null;
  if (document.hidden || !large.open) return;
  const image = element("large-picture");
  image.hidden = true;
  element("large-note").textContent = "";
  const draw = element("large-draw").value;
  largeWatch = new Watch(large.dataset.stream, image, { fps: LARGE_FPS, ...(draw && { draw }) }, {
    hello({ draw }) {
      element("large-draw").value = draw;
      element("large-note").textContent = "";
    },
    trouble(words) {
      element("large-note").textContent = words;
    },
  });
}

function showLargeState(state, words) {
  large.dataset.state = state;
  element("large-state").textContent = words;
}

element("large-draw").onchange = watchLarge;
element("large-remove").onclick = async () => {
  const { stream } = large.dataset;
  large.close();
  await removeCamera(stream);
  changed();
};
onCameraAdded(changed);
element("large-close").onclick = () => large.close();
large.onclose = () => {
  watchLarge();
  element("large-picture").removeAttribute("src");
  const tile = shown.get(large.dataset.stream);
  delete large.dataset.stream;
  tile?.button.focus();
  watchWhatIsSeen();
};

if (location.hash === "#wall") wall.open = true;
