// Where frames come from: the webcam, a video file, a picture.

/** Longer side of video frames, in pixels. Closer looks at people in them gain from it; more only costs time. */
const LONGER_SIDE = 1280;
/** Image types that the server takes as they are. */
const SERVER_TYPES = new Set(["image/jpeg", "image/png", "image/webp"]);
/** How often to ask whether the session is ready. It has no event: what the browser still holds has none. */
const POLL_MS = 5;

/** `width`×`height` scaled down, where need be, to a longer side and a number of pixels. */
export function fit(width, height, longerSide, pixels = Infinity) {
  const scale = Math.min(1, longerSide / Math.max(width, height), Math.sqrt(pixels / (width * height)));
  return { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) };
}

/**
 * Asks for the webcam and plays it in `video`, unless `signal` has aborted by then. Calls `gone` when it
 * is unplugged or taken back. Throws what getUserMedia throws.
 */
export async function openCamera(video, signal, gone) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: LONGER_SIDE }, frameRate: { ideal: 30 } },
    audio: false,
  });
  const [track] = stream.getVideoTracks();
  if (signal.aborted) {
    track.stop();
    return;
  }
  track.onended = gone;
  video.srcObject = stream;
  await video.play();
}

/** Plays a file in `video`. Throws if the browser can't. */
export async function openVideo(video, file, { loop }) {
  video.src = URL.createObjectURL(file);
  video.loop = loop;
  await video.play();
}

/** Gives back the webcam or the file that `video` plays. */
export function release(video) {
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  if (video.src) URL.revokeObjectURL(video.src);
  video.removeAttribute("src");
  video.load();
}

/**
 * Sends the frames that `video` shows until `signal` aborts. Frames that the session has no room for are
 * skipped, and told to `skipped(n)`. `sent(bytes)` is called after each frame sent. `options()` is asked for each
 * frame: `mirror`; `quality`; `wait`: the video stands still until there is room; `paused`: by the user. Frames are
 * encoded by `film` where the session takes that; `filmBroke()` is called, and nothing more is sent, if it cannot go on.
 */
export async function streamVideo(video, session, signal, { options, sent, skipped, film, filmBroke }) {
  const encoder = new Encoder();
  let lastPresented = null;
  while (!signal.aborted) {
    const presented = await nextFrame(video, signal);
    if (signal.aborted) return;
    const missed = lastPresented === null ? 0 : Math.max(0, presented - lastPresented - 1);
    lastPresented = presented;
    if (missed > 0) skipped(missed);
    session.wake();
    const { mirror, quality, wait } = options();
    if (wait && !session.ready) await standStill(video, session, signal, options);
    if (signal.aborted) return;
    if (!session.ready) {
      skipped(1);
      continue;
    }
    const size = fit(video.videoWidth, video.videoHeight, LONGER_SIDE);
    let image;
    if (session.codec === null) {
      image = await encoder.encode(video, size, { mirror, quality });
    } else {
      try {
        image = await film.encode(video, size, { mirror });
      } catch {
        if (!signal.aborted) filmBroke();
        return;
      }
    }
    // The connection may have gone meanwhile.
    if (image !== null && session.send(image)) sent(image.size ?? image.byteLength);
    else skipped(1);
  }
}

/** `file` as it is if the server takes it, else encoded anew within its limits. `bitmap` is the file decoded. */
export async function encodeStill(file, bitmap, limits, quality) {
  const pixels = bitmap.width * bitmap.height;
  const asItIs =
    SERVER_TYPES.has(file.type) && file.size <= limits.max_image_bytes && pixels <= limits.max_image_pixels;
  if (asItIs) return file;
  const size = fit(bitmap.width, bitmap.height, 2 * LONGER_SIDE, limits.max_image_pixels);
  return new Encoder().encode(bitmap, size, { mirror: false, quality });
}

/** Resolves when `video` shows a new frame, to its number; or when `signal` aborts. */
function nextFrame(video, signal) {
  return new Promise((resolve) => {
    const aborted = () => resolve(0);
    signal.addEventListener("abort", aborted, { once: true });
    const shown = (presented) => {
      signal.removeEventListener("abort", aborted);
      resolve(presented);
    };
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((_now, frame) => shown(frame.presentedFrames));
    } else {
      requestAnimationFrame(() => shown(0));
    }
  });
}

async function standStill(video, session, signal, options) {
  video.pause();
  while (!session.ready && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  if (!signal.aborted && !options().paused) play(video);
}

/** Plays on. */
export function play(video) {
  // Rejects if it is paused or taken away before it plays: then that is what the user wants.
  video.play().catch(() => {});
}

class Encoder {
  #canvas = new OffscreenCanvas(1, 1);
  #context = this.#canvas.getContext("2d", { alpha: false });

  /** Scales what `drawable` shows to a size and encodes it as JPEG. `quality` is 1 to 100. */
  async encode(drawable, { width, height }, { mirror, quality }) {
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#context.setTransform(mirror ? -1 : 1, 0, 0, 1, mirror ? width : 0, 0);
    this.#context.drawImage(drawable, 0, 0, width, height);
    return this.#canvas.convertToBlob({ type: "image/jpeg", quality: quality / 100 });
  }
}
