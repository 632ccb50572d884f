// Numbers about the last seconds. Pure: the caller passes the time, in milliseconds.

/** Samples of a sliding window of time. */
export class Recent {
  #spanMs;
  #samples = [];

  /** @param {number} spanMs length of the window, in milliseconds */
  constructor(spanMs) {
    this.#spanMs = spanMs;
  }

  /** Takes a sample. Times must not fall. */
  add(now, value = 0) {
    this.#samples.push({ at: now, value });
    this.#forget(now);
  }

  /** Samples per second, or null if there are fewer than two in the window. */
  rate(now) {
    this.#forget(now);
    if (this.#samples.length < 2) return null;
    // Over the time since the first sample, so that a young window does not read too low.
    const span = now - this.#samples[0].at;
    return span > 0 ? ((this.#samples.length - 1) * 1000) / span : null;
  }

  /** Sum of the samples' values per second, or null if there are fewer than two in the window. */
  sumRate(now) {
    this.#forget(now);
    if (this.#samples.length < 2) return null;
    const span = now - this.#samples[0].at;
    const sum = this.#samples.slice(1).reduce((sum, { value }) => sum + value, 0);
    return span > 0 ? (sum * 1000) / span : null;
  }

  /** Median of the samples in the window, or null if there are none. */
  median(now) {
    this.#forget(now);
    if (this.#samples.length === 0) return null;
    const sorted = this.#samples.map((sample) => sample.value).sort((a, b) => a - b);
    const middle = sorted.length >> 1;
    return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  }

  clear() {
    this.#samples = [];
  }

  #forget(now) {
    const oldest = now - this.#spanMs;
    const keep = this.#samples.findIndex((sample) => sample.at >= oldest);
    this.#samples.splice(0, keep === -1 ? this.#samples.length : keep);
  }
}
