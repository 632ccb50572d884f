// The page: one source at a time → a session → the picture.

import { COCO, Live, Session, streamUrl } from "./client/cloudpose.js";
import { isForJobs, takeDropped } from "./jobs.js";
import { fetchWithKey, isKeyWanted, key, renewKey } from "./key.js";
import { say } from "./phrases.js";
import { save } from "./save.js";
import { encodeStill, openCamera, openVideo, release } from "./source.js";
import { Recent } from "./stats.js";
import * as view from "./view.js";
import { DROP_REASONS, cameraError, foundWords, serverError } from "./words.js";

const WELCOME = { title: say`See how people move`, text: say`Start your webcam, or drop a picture or a video here.` };
const PRIVACY = say`Frames go only to this server, which keeps none of them.`;
/** Rates and latencies are those of the last seconds. Milliseconds. */
const RECENT_MS = 3000;
const REFRESH_MS = 250;
/** Wait before the models are asked for again, if nobody serves any. */
const MODELS_AGAIN_MS = 3000;

const element = (id) => document.getElementById(id);
const video = element("source");
const form = element("settings");

/**
 * What goes on, or null. `kind`: camera, video or still. `over` aborts when it ends. `session`, a Session or a Live,
 * is replaced when the mode changes. `connection`: opening, open or lost. Stills hold their `file`, and its `result`.
 */
let activity = null;
let numbers = freshNumbers();

function freshNumbers() {
  return {
    sent: new Recent(RECENT_MS),
    shown: new Recent(RECENT_MS),
    roundTripMs: new Recent(RECENT_MS),
    serverMs: new Recent(RECENT_MS),
    found: null,
    drops: {},
    skipped: 0,
  };
}

function settings() {
  const data = new FormData(form);
  return {
    model: data.get("model"),
    mode: data.get("mode"),
    quality: Number(data.get("quality")),
    mirror: data.has("mirror"),
    drawsHere: data.has("draws-here"),
  };
}

/** The models for streams and pictures, until somebody chooses one; as `/v1/models` tells them. */
let usual = {};
let isModelChosen = false;
/** What poses are drawn by, by their names. */
let skeletons = new Map();

/** Asks for the models until there are some: workers may start after the gateway. */
async function loadModels() {
  const response = await fetchWithKey("/v1/models").catch(() => null);
  // Asked again when a session has a key.
  if (response?.status === 401) return;
  const list = response?.ok ? await response.json() : { models: [] };
  view.showModels(list);
  usual = { stream: list.default, still: list.default_photo };
  skeletons = new Map(list.models.map(({ skeleton }) => [skeleton?.name, skeleton]));
  if (list.models.length === 0) setTimeout(loadModels, MODELS_AGAIN_MS);
  else showExamples({ model: list.default });
}

function showExamples(parameters) {
  view.showExamples(location.origin, streamUrl(location.href, { want: "both", ...parameters, mode: "live" }), isKeyWanted());
}

// Beginning and ending.

function begin(kind, name) {
  end();
  const over = new AbortController();
  activity = { kind, name, over, session: null, connection: "opening", paused: false };
  numbers = freshNumbers();
  if (!isModelChosen) view.chooseModel(kind === "still" ? usual.still : usual.stream);
  view.showSourceName(name);
  view.showTools(["stop"]);
  element("stop").textContent = kind === "still" ? say`Close` : say`Stop`;
  element("stop").focus();
  return activity;
}

function end() {
  if (activity === null) return;
  activity.over.abort();
  activity.session?.close();
  release(video);
  video.hidden = true;
  activity = null;
  numbers.found = null;
  view.clearPicture();
  view.showFound(null);
  view.showTools([]);
  view.showSourceName(PRIVACY);
}

function stop() {
  end();
  view.showPanel(WELCOME);
  view.showStatus("idle", say`Ready`);
  element("start-camera").focus();
}

function fail(problem) {
  end();
  view.showPanel(problem);
  view.showStatus("failed", say`Stopped`);
  element("start-camera").focus();
}

/** Session handlers that all sources share. */
function connectionHandlers(mine) {
  return {
    connecting() {
      mine.retryAt = null;
      if (mine.connection === "lost") view.showBanner(say`Connecting again …`);
      else view.showStatus("connecting", say`Connecting`);
    },
    lost(retryAt, error) {
      mine.connection = "lost";
      mine.retryAt = retryAt;
      mine.why = error === null ? say`The connection is lost.` : serverError(error.code, "");
      view.showStatus("reconnecting", say`Reconnecting`);
      refresh();
    },
    note(error) {
      mine.note = serverError(error.code, error.message);
    },
    unauthorized: renewKey,
    failed(error) {
      fail({ title: say`The server ended the session`, text: serverError(error.code, error.message) });
    },
    drops(counts) {
      numbers.drops = counts;
    },
  };
}

function count({ pose, latencyMs, roundTripMs }) {
  const now = performance.now();
  numbers.serverMs.add(now, latencyMs);
  if (roundTripMs !== null) numbers.roundTripMs.add(now, roundTripMs);
  if (pose) numbers.found = pose;
}

// Webcam and video files.

async function startCamera() {
  const mine = begin("camera", say`Webcam`);
  view.showStatus("connecting", say`Waiting for the webcam`);
  try {
    await openCamera(video, mine.over.signal, () =>
      fail({ title: say`The webcam is gone`, text: say`It was unplugged, or the browser took it back.` }),
    );
  } catch (error) {
    if (mine === activity) fail(cameraError(error));
    return;
  }
  if (mine === activity) startStream(mine);
}

async function startVideo(file) {
  const mine = begin("video", file.name);
  view.showStatus("connecting", say`Opening the video`);
  try {
    await openVideo(video, file, { loop: settings().mode === "live" });
  } catch {
    if (mine === activity) fail(unreadable(file));
    return;
  }
  if (mine === activity) startStream(mine);
}

function startStream(mine) {
  mine.name += ` · ${video.videoWidth} × ${video.videoHeight}`;
  view.showSourceName(mine.name);
  view.showTools(["pause", "stop"]);
  video.hidden = false;
  showMirror();
  openStream(mine);
}

function openStream(mine) {
  mine.session?.close();
  mine.connection = "opening";
  const { model, mode, quality, mirror, drawsHere } = settings();
  const isFile = mine.kind === "video";
  const how = { key, want: wanted(), model, mode, quality };
  const here = { mirror: mirror && !isFile, keepFrames: drawsHere, everyFrame: isFile && mode === "complete" };
  mine.session = new Live(video, { ...how, ...here }, {
    ...connectionHandlers(mine),
    connected() {
      mine.connection = "open";
      if (usual.stream === undefined) loadModels();
      showPaused(mine);
    },
    async result(result) {
      count(result);
      if (await showResult(result)) numbers.shown.add(performance.now());
    },
    sent: (bytes) => numbers.sent.add(performance.now(), bytes),
    skipped: (n) => (numbers.skipped += n),
    broke: (error) => fail({ title: say`The page stumbled`, text: say`${error.message}. Start again.` }),
  });
  mine.session.paused = mine.paused;
}

/** What the server is asked for. */
const wanted = () => (settings().drawsHere ? "pose" : "both");

/** Resolves to whether there was a picture, and it is still wanted. */
function showResult({ pose, image, frame }) {
  if (image !== null) {
    frame?.close();
    return view.showPicture(image);
  }
  // None is kept of those that were sent before the setting changed.
  if (frame === null) return false;
  view.showFrame(frame, pose, skeletons.get(pose.skeleton) ?? COCO);
  return true;
}

function setPaused(mine, paused) {
  mine.paused = paused;
  mine.session.paused = paused;
  showPaused(mine);
}

function showPaused(mine) {
  element("pause").textContent = mine.paused ? say`Resume` : say`Pause`;
  if (mine.connection !== "open") return;
  if (mine.paused) view.showStatus("paused", video.ended ? say`Finished` : say`Paused`);
  else view.showStatus("live", say`Live`);
}

function showMirror() {
  video.classList.toggle("mirrored", activity?.kind === "camera" && settings().mirror);
}

// Pictures.

async function startStill(file) {
  const mine = begin("still", file.name);
  view.showStatus("connecting", say`Reading the picture`);
  mine.file = file;
  mine.bitmap = await createImageBitmap(file).catch(() => null);
  if (mine !== activity) return;
  if (mine.bitmap === null) fail(unreadable(file));
  else openStill(mine);
}

function openStill(mine) {
  const { model, quality } = settings();
  mine.connection = "opening";
  mine.session = new Session({ key, want: "both", model, quality, mode: "complete" }, {
    ...connectionHandlers(mine),
    async connected(limits) {
      mine.connection = "open";
      if (usual.stream === undefined) loadModels();
      view.showStatus("connecting", say`Looking for people`);
      const { session } = mine;
      session.send(await encodeStill(mine.file, mine.bitmap, limits, quality));
    },
    drops(counts) {
      const reason = Object.keys(counts).find((reason) => reason !== "connection_lost" && counts[reason] > 0);
      if (reason === undefined) return;
      const text = mine.note ?? say`The server says: ${DROP_REASONS[reason] ?? reason}.`;
      fail({ title: say`This picture got no result`, text });
    },
    async result(result) {
      mine.session.close();
      mine.result = result;
      count(result);
      view.showFound(result.pose);
      view.showTools(["save-picture", "save-poses", "stop"]);
      if (result.image !== null) await view.showPicture(result.image);
      if (mine !== activity) return;
      view.showStatus("still", foundWords(result.pose));
    },
  });
}

async function startSample() {
  const response = await fetch("/sample.jpg").catch(() => null);
  if (!response?.ok) {
    fail({ title: say`The sample did not come`, text: say`The server did not send it. Is it still running?` });
    return;
  }
  startStill(new File([await response.blob()], "sample.jpg", { type: "image/jpeg" }));
}

function startFile(file) {
  if (file.type.startsWith("video/")) startVideo(file);
  else startStill(file);
}

function unreadable(file) {
  return {
    title: say`The browser cannot open this file`,
    text: say`${file.name} is no picture (JPEG, PNG, WebP, …) and no video (MP4, WebM, …) that it knows.`,
  };
}

/** What the file is called, with another end. */
const named = (suffix) => activity.file.name.replace(/\.[^.]*$/, "") + suffix;

// What the user does.

element("start-camera").onclick = startCamera;
element("open-file").onclick = () => element("file").click();
element("try-sample").onclick = startSample;
element("stop").onclick = stop;
element("pause").onclick = () => setPaused(activity, !activity.paused);
element("retry-now").onclick = () => activity.session.retryNow();
element("save-picture").onclick = () => save(activity.result.image, named("-annotated.jpg"));
element("save-poses").onclick = () => {
  const json = JSON.stringify(activity.result.pose, null, 2);
  save(new Blob([json], { type: "application/json" }), named("-poses.json"));
};
element("file").onchange = (event) => {
  const [file] = event.target.files;
  if (file) startFile(file);
  // So that the same file can be chosen again.
  event.target.value = "";
};
video.onended = () => setPaused(activity, true);

form.oninput = () => (element("quality-value").textContent = settings().quality);
form.onchange = (event) => {
  showMirror();
  const { name } = event.target;
  isModelChosen ||= name === "model";
  if (activity?.session == null) return;
  const { model, quality, mode, mirror, drawsHere } = settings();
  if (activity.kind === "still") {
    if (name !== "model" && name !== "quality") return;
    activity.session.close();
    openStill(activity);
  } else if (name === "mode") {
    video.loop = mode === "live";
    openStream(activity);
  } else {
    activity.session.mirror = mirror && activity.kind === "camera";
    activity.session.keepFrames = drawsHere;
    activity.session.configure({ want: wanted(), model, quality });
  }
};
form.onsubmit = (event) => event.preventDefault();

const isFileDrag = (event) => event.dataTransfer?.types.includes("Files");
document.ondragover = (event) => {
  if (!isFileDrag(event)) return;
  event.preventDefault();
  document.body.classList.add("dragging");
};
document.ondragleave = (event) => {
  if (event.relatedTarget === null) document.body.classList.remove("dragging");
};
document.ondrop = (event) => {
  document.body.classList.remove("dragging");
  if (!isFileDrag(event)) return;
  event.preventDefault();
  if (isForJobs(event)) {
    takeDropped(event.dataTransfer);
    return;
  }
  const [file] = event.dataTransfer.files;
  if (file) startFile(file);
};

function refresh() {
  const now = performance.now();
  const bytes = numbers.sent.sumRate(now);
  view.showNumbers({
    found: numbers.found,
    latencyMs: numbers.roundTripMs.median(now),
    serverMs: numbers.serverMs.median(now),
    sentRate: numbers.sent.rate(now),
    shownRate: numbers.shown.rate(now),
    sentBits: bytes === null ? null : 8 * bytes,
    codec: bytes === null ? null : activity?.session?.codec === "h264" ? "H.264" : "JPEG",
  });
  view.showDrops(numbers.drops, numbers.skipped);
  if (activity?.connection === "lost" && activity.retryAt !== null) {
    const seconds = Math.max(1, Math.ceil((activity.retryAt - now) / 1000));
    view.showBanner(say`${activity.why} Trying again in ${seconds} s.`);
  }
}

view.translate(document);
showExamples({});
loadModels();
setInterval(refresh, REFRESH_MS);
