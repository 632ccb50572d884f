// Frames as video: H.264 by the browser's own encoder, where it has one. An eighth of the bytes of JPEGs.

/** This part of a JPEG's bits is enough for the poses of a frame: what the JPEG takes says how much there is to see. See `docs/video.md`. */
const OF_JPEG = 0.12;
/** Quality of that JPEG. */
const QUALITY = 0.8;
/** How long a JPEG says it (milliseconds). */
const LOOK_AGAIN_MS = 5_000;
const FPS = 30;
/** Baseline of level 4: up to 2048×1024 pixels, or 1280×1280. Browsers differ in which they know. */
const CODECS = ["avc1.42e028", "avc1.420028"];
/** The server has not asked for fewer bits for this long (milliseconds): as many as at first may be sent. */
const EASE_AFTER_MS = 10_000;
/** An encoder that has given nothing for so long (milliseconds) keeps the frame, or has left it out. */
const PATIENCE_MS = 100;
/** Bytes before an access unit: 1 for a key frame, and its time. */
const HEAD_BYTES = 9;

/** How pictures of a size are encoded, or null if this browser cannot. */
async function configuration({ width, height }, { bitrate, latencyMode }) {
  if (typeof VideoEncoder === "undefined") return null;
  for (const codec of CODECS) {
    const config = { codec, width, height, bitrate, framerate: FPS, latencyMode, avc: { format: "annexb" } };
    const { supported } = await VideoEncoder.isConfigSupported(config).catch(() => ({ supported: false }));
    if (supported) return config;
  }
  return null;
}

/** What a JPEG of the canvas takes. */
async function jpegBytes(canvas) {
  const [type, quality] = ["image/jpeg", QUALITY];
  const isOffscreen = canvas.convertToBlob !== undefined;
  const blob = isOffscreen ? canvas.convertToBlob({ type, quality }) : new Promise((done) => canvas.toBlob(done, type, quality));
  return (await blob).size;
}

/** Whether this browser encodes H.264. Only on pages that came by HTTPS, or from this machine. */
export async function canFilm() {
  return (await configuration({ width: 1280, height: 720 }, { bitrate: 1_000_000, latencyMode: "realtime" })) !== null;
}

/** An encoder of what a session sends. */
export class Film {
  #encoder = null;
  #config = null;
  #latencyMode;
  /** Ends of the frame that is being encoded. */
  #given = () => {};
  #failed = () => {};
  /** The encoder keeps frames until others come, unless it is flushed. */
  #keeps = false;
  #flushing = false;
  #closed = false;
  #needsKey = true;
  #lastTime = -1;
  #limit = Infinity;
  #limitedAt = 0;
  /** Bits a second that are enough for what the frames show, and when that was looked at. */
  #enough = 0;
  #lookedAt = -Infinity;

  /** With `whole` no frame is left out, even where bits are short. */
  constructor({ whole = false } = {}) {
    this.#latencyMode = whole ? "quality" : "realtime";
  }

  /** The next frame builds on no other. */
  restart() {
    this.#needsKey = true;
  }

  /** At most so many bits a second, for a while. */
  limit(bitrate) {
    this.#limit = bitrate;
    this.#limitedAt = performance.now();
  }

  /**
   * Encodes what a canvas of an even width and height shows. Resolves to a message for the session, or to null if the encoder
   * leaves it out. Throws if it cannot go on.
   */
  async encode(canvas) {
    await this.#configure(canvas);
    const timestamp = Math.max(this.#lastTime + 1, Math.round(performance.now() * 1000));
    this.#lastTime = timestamp;
    const frame = new VideoFrame(canvas, { timestamp });
    const encoded = new Promise((resolve, reject) => ([this.#given, this.#failed] = [resolve, reject]));
    this.#encoder.encode(frame, { keyFrame: this.#needsKey });
    frame.close();
    const patience = setTimeout(() => this.#flush(), this.#keeps ? 0 : PATIENCE_MS);
    return encoded.finally(() => clearTimeout(patience));
  }

  close() {
    this.#closed = true;
    if (this.#encoder !== null && this.#encoder.state !== "closed") this.#encoder.close();
    this.#failed(new Error("the film is closed"));
  }

  async #flush() {
    const given = this.#given;
    this.#flushing = true;
    // If it fails, so has the frame.
    await this.#encoder.flush().catch(() => {});
    this.#flushing = false;
    // Nothing, if it has not come by now.
    given(null);
  }

  async #configure(canvas) {
    const { width, height } = canvas;
    const time = performance.now();
    if (time - this.#limitedAt > EASE_AFTER_MS) this.#limit = Infinity;
    if (time - this.#lookedAt > LOOK_AGAIN_MS) {
      this.#enough = Math.round(OF_JPEG * 8 * (await jpegBytes(canvas)) * FPS);
      this.#lookedAt = time;
    }
    const bitrate = Math.min(this.#enough, this.#limit);
    const now = this.#config;
    // Another rate begins with a key frame: small changes are not worth it.
    const isNear = now !== null && bitrate > 0.8 * now.bitrate && bitrate < 1.25 * now.bitrate;
    if (isNear && now.width === width && now.height === height) return;
    const config = await configuration({ width, height }, { bitrate, latencyMode: this.#latencyMode });
    if (config === null || this.#closed) throw new Error(`this browser encodes no H.264 of ${width} × ${height}`);
    this.#encoder ??= new VideoEncoder({ output: (chunk) => this.#take(chunk), error: (error) => this.#failed(error) });
    this.#encoder.configure(config);
    this.#config = config;
    this.#needsKey = true;
  }

  #take(chunk) {
    const message = new DataView(new ArrayBuffer(HEAD_BYTES + chunk.byteLength));
    const isKey = chunk.type === "key";
    message.setUint8(0, isKey ? 1 : 0);
    message.setBigInt64(1, BigInt(chunk.timestamp));
    chunk.copyTo(new Uint8Array(message.buffer, HEAD_BYTES));
    if (isKey) this.#needsKey = false;
    this.#keeps ||= this.#flushing;
    this.#given(message.buffer);
  }
}
