// A session of the WebSocket `/v1/stream`, which comes back by itself when the connection is lost.

import { authorization, protocols } from "./key.js";

/** Frames on their way at once, until the server has said how many it works on: more would only wait there. */
const USUAL_WINDOW = 2;
/** No word for this long while one is due: the connection is dead. Milliseconds. */
const SILENCE_MS = 10_000;
/** Wait before the first attempt to connect again, doubled each time up to the longest. Milliseconds. */
const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15_000;
/** When the server has not hinted for this long (milliseconds), frames may follow each other this much closer. */
const EASE_AFTER_MS = 5_000;
const EASE = 0.9;
/** After these errors an equal session would fail again. */
const FATAL = new Set(["bad_query", "too_large"]);
/** These don't end the session. */
const HARMLESS = new Set(["bad_message", "bad_frame"]);
/** What may change while a session lasts. */
const CHANGEABLE = ["want", "draw", "model", "quality", "smooth"];

/**
 * Wait before attempt `n` (from 0), in milliseconds: between half of the full wait and all of it, so
 * that many pages don't come back at the same moment. `random` is in 0..1.
 */
export function backoff(n, random) {
  const full = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** n);
  return full * (0.5 + random / 2);
}

/** The address of the WebSocket of a server. `parameters` that are null or absent are left out. */
export function streamUrl(server, parameters) {
  const url = new URL("/v1/stream", server);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== null && value !== undefined) url.searchParams.set(name, value);
  }
  return url.href;
}

function addCounts(counts, more) {
  const sum = { ...counts };
  for (const [reason, n] of Object.entries(more)) sum[reason] = (sum[reason] ?? 0) + n;
  return sum;
}

/** Sends frames, hands out results. See `cloudpose.d.ts` for settings and handlers. */
export class Session {
  #settings;
  #handlers;
  #socket = null;
  #stream = null;
  #connected = false;
  #seq = 0;
  /** When each frame was sent that has not met its end, and the frame, if it is kept. */
  #sent = new Map();
  #resultBeforeImage = null;
  #error = null;
  #drops = {};
  #earlierDrops = {};
  #attempt = 0;
  /** Milliseconds from one frame to the next, as the server hinted, and when it did. */
  #interval = 0;
  #hintedAt = 0;
  /** Frames of this connection that newer ones had replaced by the last hint. */
  #superseded = 0;
  #nextSend = 0;
  #retryTimer = null;
  #silenceTimer = null;
  #asleep = false;
  #closed = false;
  #codec = null;
  #window = USUAL_WINDOW;
  #server;
  #key;

  constructor({ server = globalThis.location?.href, key = null, ...settings }, handlers) {
    this.#server = server;
    this.#key = typeof key === "function" ? key : () => key;
    this.#settings = settings;
    this.#handlers = handlers;
    this.#connect();
  }

  /** True if a frame should be sent: connected, and the ones before it don't pile up. */
  get ready() {
    const due = performance.now() >= this.#nextSend;
    return this.#open && due && this.#sent.size < this.#window && this.#socket.bufferedAmount === 0;
  }

  /** How frames are sent: `"h264"`, or null for images. */
  get codec() {
    return this.#codec;
  }

  /** True if every frame sent has met its end. */
  get settled() {
    return this.#sent.size === 0;
  }

  /**
   * Sends one encoded image, a Blob, or one frame of a film; its result comes with `frame`, an ImageBitmap. Returns false, and
   * sends nothing, if the connection is lost.
   */
  send(image, frame = null) {
    if (!this.#open || (image instanceof Blob) !== (this.#codec === null)) return false;
    if (this.settled) this.#expectWord();
    this.#seq += 1;
    const now = performance.now();
    this.#sent.set(this.#seq, { at: now, frame });
    if (now - this.#hintedAt > EASE_AFTER_MS) {
      this.#interval *= EASE;
      this.#hintedAt = now;
    }
    this.#nextSend = now + this.#interval;
    this.#socket.send(image);
    return true;
  }

  /** Changes settings from the next frame on: `want`, `draw`, `model`, `quality`, `smooth`. */
  configure(changes) {
    Object.assign(this.#settings, changes);
    if (this.#open) this.#socket.send(JSON.stringify({ type: "configure", ...changes }));
  }

  /** Connects again if the server closed the connection because nothing was sent. */
  wake() {
    if (this.#asleep) this.#connect();
  }

  /** Connects at once if the session waits for its next attempt. */
  retryNow() {
    if (this.#retryTimer !== null) this.#connect();
  }

  /** Ends the session. No handler is called afterwards. */
  close() {
    this.#closed = true;
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#asleep = false;
    this.#forgetSocket();
  }

  /** True from the hello until the connection begins to close. */
  get #open() {
    return this.#connected && this.#socket.readyState === WebSocket.OPEN;
  }

  #connect() {
    clearTimeout(this.#retryTimer);
    this.#retryTimer = null;
    this.#asleep = false;
    this.#error = null;
    this.#seq = 0;
    this.#superseded = 0;
    // The stream keeps the name that the server made up.
    const parameters = { ...this.#settings, ...(this.#stream !== null && { stream: this.#stream }) };
    this.#socket = new WebSocket(streamUrl(this.#server, parameters), protocols(this.#key()));
    // Not every runtime gives Blobs by itself.
    this.#socket.binaryType = "blob";
    this.#socket.onmessage = (event) => this.#receive(event.data);
    this.#socket.onclose = () => this.#lose();
    this.#expectWord();
    this.#handlers.connecting?.();
  }

  #receive(data) {
    this.#expectWord();
    if (data instanceof Blob) {
      this.#deliver(this.#resultBeforeImage, new Blob([data], { type: "image/jpeg" }));
      return;
    }
    const message = JSON.parse(data);
    switch (message.type) {
      case "hello":
        this.#greet(message);
        break;
      case "result":
        this.#resolve(message);
        break;
      case "drop":
        this.#forget(message.seq);
        this.#setDrops(addCounts(this.#drops, { [message.reason]: 1 }));
        break;
      case "hint":
        this.#slowDown(message);
        this.#handlers.hint?.(message);
        break;
      case "keyframe":
        this.#handlers.keyframe?.();
        break;
      case "error":
        if (HARMLESS.has(message.code)) this.#handlers.note?.(message);
        else this.#error = message;
        break;
    }
  }

  #greet({ stream, limits, codec = null }) {
    this.#stream = stream;
    this.#codec = codec;
    this.#window = limits.window ?? USUAL_WINDOW;
    this.#connected = true;
    // They may have changed while the connection was being made.
    const now = CHANGEABLE.map((name) => [name, this.#settings[name]]).filter(([, value]) => (value ?? null) !== null);
    this.#socket.send(JSON.stringify({ type: "configure", ...Object.fromEntries(now), drops: true }));
    this.#handlers.connected?.(limits);
  }

  #resolve({ seq, pose = null, latency_ms: latencyMs, overlay, dropped }) {
    const { at = null, frame = null } = this.#sent.get(seq) ?? {};
    this.#sent.delete(seq);
    // Results come in order: nothing before this one is still to come.
    for (const earlier of [...this.#sent.keys()]) if (earlier < seq) this.#forget(earlier);
    this.#attempt = 0;
    this.#setDrops(dropped);
    const result = { pose, latencyMs, sentAt: at, frame };
    if (overlay) this.#resultBeforeImage = result;
    else this.#deliver(result, null);
  }

  /** The frame has met its end without a result. */
  #forget(seq) {
    this.#sent.get(seq)?.frame?.close();
    this.#sent.delete(seq);
  }

  #deliver({ pose, latencyMs, sentAt, frame }, image) {
    const roundTripMs = sentAt === null ? null : performance.now() - sentAt;
    this.#handlers.result?.({ pose, latencyMs, roundTripMs, image, frame });
  }

  /** A hint of bits alone tells at what rate frames come, not at what rate they should. */
  #slowDown({ fps, bitrate, quota }) {
    const { superseded = 0 } = this.#drops;
    const isOfBits = bitrate !== undefined && quota === undefined && superseded === this.#superseded;
    this.#superseded = superseded;
    if (isOfBits) return;
    this.#interval = 1000 / fps;
    this.#hintedAt = performance.now();
  }

  #setDrops(drops) {
    this.#drops = drops;
    this.#handlers.drops?.(addCounts(this.#earlierDrops, drops));
  }

  #expectWord() {
    clearTimeout(this.#silenceTimer);
    this.#silenceTimer = setTimeout(() => {
      if (!this.#connected || !this.settled) this.#lose();
    }, SILENCE_MS);
  }

  #lose() {
    const error = this.#error;
    const unanswered = this.#sent.size;
    const wasGreeted = this.#connected;
    this.#forgetSocket();
    this.#earlierDrops = addCounts(this.#earlierDrops, this.#drops);
    this.#setDrops(unanswered > 0 ? { connection_lost: unanswered } : {});
    this.#earlierDrops = addCounts(this.#earlierDrops, this.#drops);
    this.#drops = {};
    if (error?.code === "bad_query" && !wasGreeted && this.#settings.codec) {
      // A server that was built without it, or is older.
      this.#settings.codec = null;
      this.#connect();
    } else if (FATAL.has(error?.code)) {
      this.#handlers.failed?.(error);
    } else if (error?.code === "idle_timeout") {
      this.#asleep = true;
    } else if (!wasGreeted || error?.code === "unauthorized") {
      this.#askWhy(error);
    } else {
      this.#retry(error);
    }
  }

  /** A browser does not say why no WebSocket was opened. A plain request is told. */
  async #askWhy(error) {
    const key = this.#key();
    const response = await fetch(new URL("/v1/stream", this.#server), { headers: authorization(key) }).catch(() => null);
    if (this.#closed) return;
    if (response?.status !== 401 && response?.status !== 403) {
      if (error?.code === "unauthorized") this.#connect();
      else this.#retry(error);
      return;
    }
    const { detail } = await response.json().catch(() => ({}));
    const again = response.status === 401 && (await this.#handlers.unauthorized?.(key));
    if (this.#closed) return;
    if (again) this.#connect();
    else this.#handlers.failed?.({ code: "unauthorized", message: detail ?? "" });
  }

  #retry(error) {
    const wait = backoff(this.#attempt, Math.random());
    this.#attempt += 1;
    this.#retryTimer = setTimeout(() => this.#connect(), wait);
    this.#handlers.lost?.(performance.now() + wait, error);
  }

  #forgetSocket() {
    clearTimeout(this.#silenceTimer);
    this.#connected = false;
    for (const seq of [...this.#sent.keys()]) this.#forget(seq);
    this.#resultBeforeImage = null;
    const socket = this.#socket;
    this.#socket = null;
    if (socket === null) return;
    socket.onmessage = null;
    socket.onclose = null;
    socket.close();
  }
}
