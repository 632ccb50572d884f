// Cameras that the server fetches: those that there are, and a form for more of them.

import { fetchWithKey } from "./key.js";
import { say } from "./phrases.js";
import { problemWords } from "./words.js";

const element = (id) => document.getElementById(id);
const form = element("camera-form");
const refused = element("camera-refused");

/** Whether this key is for cameras, as far as is known. */
let isForCameras = true;

/** Asks which cameras there are: a map by stream, empty if this key is not for cameras. */
export async function listCameras() {
  const response = isForCameras ? await fetchWithKey("/v1/cameras").catch(() => null) : null;
  if (response === null) return new Map();
  isForCameras = response.status !== 403;
  element("camera-area").hidden = !response.ok;
  const { cameras } = response.ok ? await response.json() : { cameras: [] };
  return new Map(cameras.map((camera) => [camera.stream, camera]));
}

/** Has the server fetch a camera no more. */
export async function removeCamera(stream) {
  await fetchWithKey(`/v1/cameras/${encodeURIComponent(stream)}`, { method: "DELETE" }).catch(() => null);
}

/** Calls `added` when a camera was. */
export function onCameraAdded(added) {
  form.onsubmit = async (event) => {
    event.preventDefault();
    const body = JSON.stringify({ stream: element("camera-name").value, url: element("camera-url").value.trim() });
    const headers = { "Content-Type": "application/json" };
    const response = await fetchWithKey("/v1/cameras", { method: "POST", headers, body }).catch(() => null);
    if (response?.ok) {
      // The password does not stay on the screen.
      form.reset();
      element("camera-area").open = false;
      added();
    }
    refused.hidden = response?.ok ?? false;
    if (!refused.hidden) refused.textContent = await whyNot(response);
  };
}

async function whyNot(response) {
  const problem = await response?.json().catch(() => null);
  return problem?.detail ? problemWords(problem) : say`The server cannot be reached.`;
}
