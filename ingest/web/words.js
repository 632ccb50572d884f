// What the page says, in plain words.

import { SERVER_PHRASES, filled, language, said, say } from "./phrases.js";

const escaped = (text) => text.replace(/[.*+?^$()|[\]{}\\]/g, "\\$&");

/** A function that gives what stands in `list` for a text of the server, and for what changes in it; null if nothing does. */
export function hearing(list) {
  const known = Object.entries(list).map(([english, phrase]) => {
    const own = english.split("{}");
    const words = own.join("");
    return { words, phrase, pattern: new RegExp(`^${own.map(escaped).join("([^]+?)")}$`) };
  });
  // The more words of its own a phrase has, the less it fits by chance.
  known.sort((a, b) => b.words.length - a.words.length);
  return function heard(text) {
    for (const { pattern, words, phrase } of known) {
      const values = pattern.exec(text)?.slice(1);
      if (values === undefined) continue;
      const inner = values.map(heard);
      // One without words fits whatever has a colon.
      if (!/\p{L}/u.test(words) && inner.at(-1) === null) continue;
      return filled(phrase, values.map((value, at) => inner[at] ?? value));
    }
    return null;
  };
}

/** What the server says, in the browser's language; null if that is English, or nobody has put it into the list. */
export const heard = hearing(SERVER_PHRASES[language] ?? {});

/** What the server says of a problem. Of what is not in the list at least the kind is told, where that is. */
export function problemWords({ title, detail }) {
  const words = heard(detail);
  if (words !== null) return words;
  const kind = heard(title ?? "");
  return kind === null ? detail : say`${kind} (${detail})`;
}

/** A phrase, with what the server says of it, if anything. */
const withDetail = (plain, detail) => (detail ? say`${plain} (${heard(detail) ?? detail})` : plain);

/** Why a frame got no picture: the server's drop reasons, and the page's own. */
export const DROP_REASONS = {
  superseded: say`replaced by a newer frame`,
  expired: say`too old before it was done`,
  undecodable: say`not a readable image`,
  infer_failed: say`pose detection failed`,
  annotate_failed: say`drawing failed`,
  late: say`done after a newer frame`,
  client_gone: say`the viewer had left`,
  bus_lost: say`lost inside the server`,
  queue_full: say`the server's queue was full`,
  too_large: say`too large for the server`,
  bus_down: say`the server's parts had lost each other`,
  shutting_down: say`the server was stopping`,
  over_quota: say`more than you may send`,
  connection_lost: say`lost with the connection`,
};

/** Server error codes. Those that do not end the session are told as notes. */
export const SERVER_ERRORS = {
  bad_query: say`The server does not understand these settings.`,
  bad_message: say`The server did not understand a message of this page.`,
  bad_frame: say`The server could not read a picture.`,
  too_large: say`The picture is too large for the server.`,
  slow_reader: say`This device is too slow to take the pictures. Try a lower quality.`,
  idle_timeout: say`The server closed the connection because nothing was sent.`,
  shutting_down: say`The server is restarting.`,
  unavailable: say`The server cannot work right now.`,
  unauthorized: say`The server does not let this page in.`,
  stream_taken: say`Another session has taken this stream.`,
  no_stream: say`Nobody sends this stream now.`,
};

/** The error in plain words, with what the server says about it. */
export function serverError(code, message) {
  return withDetail(SERVER_ERRORS[code] ?? say`The server reported an error.`, message);
}

/** Why an image of a job, or a frame of its `video`, has no result: a server's `{reason, detail}`. */
export function reasonWords({ reason, detail }, video) {
  const plain = video && reason === "undecodable" ? say`the video cannot be decoded` : (DROP_REASONS[reason] ?? reason);
  return withDetail(plain, detail);
}

/** Why images are not handed in, by the status of the answer; 0 if there was none. */
const HAND_IN_ERRORS = {
  0: say`The connection is lost.`,
  401: say`The server does not let this page in.`,
  403: say`Your key is not for jobs.`,
  404: say`The server does not have this model any more.`,
  429: say`You have as many jobs as you may have. Delete some, then try again.`,
  501: say`This server keeps no jobs: it was started without a place for them.`,
  503: say`The server cannot work right now.`,
  507: say`The server has no room for more. Delete jobs, or come again later.`,
};

/** The same in plain words, with what the server says about it. */
export function handInError({ status, title, detail }) {
  const plain = HAND_IN_ERRORS[status] ?? heard(title ?? "") ?? say`The server reported an error.`;
  return withDetail(plain, status === 501 ? "" : detail);
}

/** The states of a camera that the server fetches. */
export const CAMERA_STATES = {
  connecting: say`Connecting to the camera`,
  live: say`The camera is live`,
  waiting: say`The camera is away`,
  error: say`The camera needs somebody`,
};

/** How such a camera is doing. */
export function cameraWords({ state, error }) {
  const plain = CAMERA_STATES[state];
  return error ? say`${plain}: ${heard(error) ?? error}` : plain;
}

/** What to tell when the webcam does not start: `{title, text}`. `error` is what getUserMedia threw,
 * or the TypeError of a browser that has none. */
export function cameraError(error) {
  if (!window.isSecureContext) {
    return {
      title: say`The browser keeps the webcam from this address`,
      text: say`Webcams work only on https:// or on this very machine. Open the page as http://localhost:${location.port || 80}, or put it behind https. Pictures and videos work here too.`,
    };
  }
  switch (error.name) {
    case "NotAllowedError":
      return {
        title: say`The webcam is blocked`,
        text: say`Click the camera or lock symbol in the address bar, allow the camera for this page, then start the webcam again. If that does not help, look in the privacy settings of your system.`,
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return {
        title: say`No webcam found`,
        text: say`Plug one in and start again, or open a picture or a video instead.`,
      };
    case "NotReadableError":
    case "AbortError":
      return {
        title: say`The webcam is busy`,
        text: say`Another program seems to use it. Close that program, then start the webcam again.`,
      };
    default:
      return {
        title: say`The webcam did not start`,
        text: say`The browser says: ${error.message}. Open a picture or a video instead.`,
      };
  }
}

/** `left_wrist` → `left wrist` */
export function nameWords(name) {
  return said(name.replaceAll("_", " "));
}

/** A score from 0 to 1. */
export function percent(score) {
  return `${Math.round(score * 100)} %`;
}

/** What a model of `/v1/models` is good for. */
export function modelWords({ summary, skeleton, labels }) {
  if (summary) return said(summary);
  return labels ? say`${labels.length} classes` : say`${skeleton.keypoints.length} joints`;
}

/** What was found: how many persons, or the class that is most likely. */
export function foundWords({ persons, classes }) {
  if (classes && classes.length > 0) return say`${nameWords(classes[0].label)}, ${percent(classes[0].score)} sure`;
  if (classes) return say`Nothing found`;
  if (persons.length === 0) return say`Nobody found`;
  return persons.length === 1 ? say`1 person found` : say`${persons.length} persons found`;
}
