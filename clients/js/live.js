// What a video element shows, as a session's frames.

import { Film, canFilm } from "./film.js";
import { Session } from "./session.js";

/** Longer side of frames, in pixels. Closer looks at people in them gain from it; more only costs time. */
const LONGER_SIDE = 1280;
/** JPEG quality of frames, 1 to 100. */
const QUALITY = 80;
/** How often to ask whether the session is ready. It has no event: what the browser still holds has none. */
const POLL_MS = 5;

/** `width`×`height` scaled down, where need be, to a longer side and a number of pixels. */
export function fit(width, height, longerSide, pixels = Infinity) {
  const scale = Math.min(1, longerSide / Math.max(width, height), Math.sqrt(pixels / (width * height)));
  return { width: Math.max(1, Math.floor(width * scale)), height: Math.max(1, Math.floor(height * scale)) };
}

/** Sends what a video shows, as H.264 where browser and server can. See `cloudpose.d.ts` for settings and handlers. */
export class Live {
  /** Frames are sent mirrored, and come back so. */
  mirror;
  /** Frames are kept until their result comes, and handed out with it. */
  keepFrames;
  #video;
  #settings;
  #handlers;
  #everyFrame;
  #canvas = new OffscreenCanvas(1, 1);
  #context = this.#canvas.getContext("2d", { alpha: false });
  #film = null;
  #session = null;
  #paused = false;
  #over = new AbortController();

  constructor(video, { everyFrame = false, mirror = false, keepFrames = false, ...settings }, handlers) {
    this.#video = video;
    this.#everyFrame = everyFrame;
    this.mirror = mirror;
    this.keepFrames = keepFrames;
    this.#settings = { quality: QUALITY, ...settings };
    this.#handlers = handlers;
    this.#begin();
  }

  /** How frames are sent: `"h264"` or `"jpeg"`; the latter until the server has said that it takes video. */
  get codec() {
    return this.#session?.codec ?? "jpeg";
  }

  get paused() {
    return this.#paused;
  }

  set paused(paused) {
    this.#paused = paused;
    if (paused) this.#video.pause();
    else play(this.#video);
  }

  /** Changes settings from the next frame on: `want`, `draw`, `model`, `quality`, `smooth`. */
  configure(changes) {
    Object.assign(this.#settings, changes);
    this.#session?.configure(changes);
  }

  /** Connects at once if the session waits for its next attempt. */
  retryNow() {
    this.#session?.retryNow();
  }

  /** Ends it. No handler is called afterwards; the video plays on. */
  close() {
    this.#over.abort();
    this.#session?.close();
    this.#film?.close();
  }

  async #begin() {
    this.#settings.codec ??= (await canFilm()) ? "h264" : "jpeg";
    if (this.#over.signal.aborted) return;
    const codec = this.#settings.codec === "h264" ? "h264" : null;
    this.#film = new Film({ whole: this.#settings.mode === "complete" });
    this.#session = new Session({ ...this.#settings, codec }, {
      ...this.#handlers,
      connected: (limits) => {
        this.#film.restart();
        this.#handlers.connected?.(limits);
      },
      keyframe: () => this.#film.restart(),
      hint: (hint) => {
        if (hint.bitrate) this.#film.limit(hint.bitrate);
        this.#handlers.hint?.(hint);
      },
    });
    this.paused = this.#paused;
    const { signal } = this.#over;
    try {
      await this.#stream(this.#session, signal);
    } catch (error) {
      if (!signal.aborted) this.#handlers.broke?.(error);
    }
  }

  /** Sends frames until `signal` aborts. */
  async #stream(session, signal) {
    let lastPresented = null;
    while (!signal.aborted) {
      const presented = await nextFrame(this.#video, signal);
      if (signal.aborted) return;
      const missed = lastPresented === null ? 0 : Math.max(0, presented - lastPresented - 1);
      lastPresented = presented;
      if (missed > 0) this.#handlers.skipped?.(missed);
      session.wake();
      if (this.#everyFrame && !session.ready) await this.#standStill(session, signal);
      if (signal.aborted) return;
      if (!session.ready) {
        this.#handlers.skipped?.(1);
        continue;
      }
      this.#draw();
      const image = session.codec === null ? await this.#jpeg() : await this.#filmed();
      if (signal.aborted) return;
      if (image === undefined) {
        // The browser's encoder broke: from here on JPEGs.
        this.#settings.codec = "jpeg";
        session.close();
        this.#film.close();
        return this.#begin();
      }
      const frame = this.keepFrames ? await createImageBitmap(this.#canvas) : null;
      // The connection may have gone meanwhile.
      if (image !== null && session.send(image, frame)) {
        this.#handlers.sent?.(image.size ?? image.byteLength);
      } else {
        frame?.close();
        this.#handlers.skipped?.(1);
      }
    }
  }

  /** The frame that the video shows, as it is sent. */
  #draw() {
    const size = fit(this.#video.videoWidth, this.#video.videoHeight, LONGER_SIDE);
    // Video has samples of colours for 2×2 pixels each.
    const [width, height] = [size.width, size.height].map((side) => Math.max(2, side & ~1));
    if (this.#canvas.width !== width) this.#canvas.width = width;
    if (this.#canvas.height !== height) this.#canvas.height = height;
    this.#context.setTransform(this.mirror ? -1 : 1, 0, 0, 1, this.mirror ? width : 0, 0);
    this.#context.drawImage(this.#video, 0, 0, width, height);
  }

  #jpeg() {
    return this.#canvas.convertToBlob({ type: "image/jpeg", quality: this.#settings.quality / 100 });
  }

  /** Undefined if the browser's encoder cannot go on. */
  #filmed() {
    return this.#film.encode(this.#canvas).catch(() => undefined);
  }

  /** The video stands still until the session has room. */
  async #standStill(session, signal) {
    this.#video.pause();
    while (!session.ready && !signal.aborted) await new Promise((resolve) => setTimeout(resolve, POLL_MS));
    if (!signal.aborted && !this.#paused) play(this.#video);
  }
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

function play(video) {
  // Rejects if it is paused or taken away before it plays: then that is what the user wants.
  video.play().catch(() => {});
}
