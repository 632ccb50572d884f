// Where frames come from: the webcam, a video file, a picture.

import { fit } from "./client/cloudpose.js";

/** What the webcam is asked for, in pixels. */
const WIDTH = 1280;
/** Longer side of pictures that are encoded anew, in pixels. */
const LONGER_SIDE = 2560;
/** Image types that the server takes as they are. */
export const SERVER_TYPES = new Set(["image/jpeg", "image/png", "image/webp"]);

/**
 * Asks for the webcam and plays it in `video`, unless `signal` has aborted by then. Calls `gone` when it
 * is unplugged or taken back. Throws what getUserMedia throws.
 */
export async function openCamera(video, signal, gone) {
  const stream = await navigator.mediaDevices.getUserMedia({
    video: { width: { ideal: WIDTH }, frameRate: { ideal: 30 } },
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

/** `file` as it is if the server takes it, else encoded anew within its limits. `bitmap` is the file decoded. */
export async function encodeStill(file, bitmap, limits, quality) {
  const pixels = bitmap.width * bitmap.height;
  const asItIs =
    SERVER_TYPES.has(file.type) && file.size <= limits.max_image_bytes && pixels <= limits.max_image_pixels;
  if (asItIs) return file;
  const size = fit(bitmap.width, bitmap.height, LONGER_SIDE, limits.max_image_pixels);
  const canvas = new OffscreenCanvas(size.width, size.height);
  canvas.getContext("2d", { alpha: false }).drawImage(bitmap, 0, 0, size.width, size.height);
  return canvas.convertToBlob({ type: "image/jpeg", quality: quality / 100 });
}
