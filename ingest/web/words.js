// What the page says, in plain words.

/** Why a frame got no picture: the server's drop reasons, and the page's own. */
export const DROP_REASONS = {
  superseded: "replaced by a newer frame",
  expired: "too old before it was done",
  undecodable: "not a readable image",
  infer_failed: "pose detection failed",
  annotate_failed: "drawing failed",
  late: "done after a newer frame",
  client_gone: "the viewer had left",
  bus_lost: "lost inside the server",
  queue_full: "the server's queue was full",
  too_large: "too large for the server",
  bus_down: "the server's parts had lost each other",
  shutting_down: "the server was stopping",
  over_quota: "more than you may send",
  connection_lost: "lost with the connection",
};

/** Server error codes. Those that do not end the session are told as notes. */
const SERVER_ERRORS = {
  bad_query: "The server does not understand these settings.",
  bad_message: "The server did not understand a message of this page.",
  bad_frame: "The server could not read a picture.",
  too_large: "The picture is too large for the server.",
  slow_reader: "This device is too slow to take the pictures. Try a lower quality.",
  idle_timeout: "The server closed the connection because nothing was sent.",
  shutting_down: "The server is restarting.",
  unavailable: "The server cannot work right now.",
  unauthorized: "The server does not let this page in.",
  no_stream: "Nobody sends this stream now.",
};

/** The error in plain words, with what the server says about it. */
export function serverError(code, message) {
  const plain = SERVER_ERRORS[code] ?? "The server reported an error.";
  return message ? `${plain} (${message})` : plain;
}

/** What to tell when the webcam does not start: `{title, text}`. `error` is what getUserMedia threw,
 * or the TypeError of a browser that has none. */
export function cameraError(error) {
  if (!window.isSecureContext) {
    return {
      title: "The browser keeps the webcam from this address",
      text: `Webcams work only on https:// or on this very machine. Open the page as http://localhost:${location.port || 80}, or put it behind https. Pictures and videos work here too.`,
    };
  }
  switch (error.name) {
    case "NotAllowedError":
      return {
        title: "The webcam is blocked",
        text: "Click the camera or lock symbol in the address bar, allow the camera for this page, then start the webcam again. If that does not help, look in the privacy settings of your system.",
      };
    case "NotFoundError":
    case "OverconstrainedError":
      return {
        title: "No webcam found",
        text: "Plug one in and start again, or open a picture or a video instead.",
      };
    case "NotReadableError":
    case "AbortError":
      return {
        title: "The webcam is busy",
        text: "Another program seems to use it. Close that program, then start the webcam again.",
      };
    default:
      return {
        title: "The webcam did not start",
        text: `The browser says: ${error.message}. Open a picture or a video instead.`,
      };
  }
}

/** `left_wrist` → `left wrist` */
export function nameWords(name) {
  return name.replaceAll("_", " ");
}

/** A score from 0 to 1. */
export function percent(score) {
  return `${Math.round(score * 100)} %`;
}

/** What a model of `/v1/models` is good for. */
export function modelWords({ summary, skeleton, labels }) {
  return summary ?? (labels ? `${labels.length} classes` : `${skeleton.keypoints.length} joints`);
}

/** What was found: how many persons, or the class that is most likely. */
export function foundWords({ persons, classes }) {
  if (classes) return classes.length === 0 ? "Nothing found" : `${nameWords(classes[0].label)}, ${percent(classes[0].score)} sure`;
  if (persons.length === 0) return "Nobody found";
  return persons.length === 1 ? "1 person found" : `${persons.length} persons found`;
}
