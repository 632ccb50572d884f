// The API key: asked for when the server wants one, kept for this tab.

const KEPT_AS = "cloudpose-key";
/** What the WebSocket speaks; the server answers this one. */
const PROTOCOL = "cloudpose.v1";
/** Before the key in base64url, as a second protocol: a browser's WebSocket can send no other header. */
const BEARER_PROTOCOL = "cloudpose.bearer.";

const dialog = document.getElementById("key-dialog");
const input = document.getElementById("key");
let asking = null;
let isWanted = false;

const key = () => sessionStorage.getItem(KEPT_AS);

/** Whether the server has asked for a key in this tab. */
export const isKeyWanted = () => isWanted || key() !== null;

/** Fetches with the key, if there is one. Asks for one as long as the server answers 401 and the user gives one. */
export async function fetchWithKey(address, options = {}) {
  for (;;) {
    const shown = key();
    const headers = shown === null ? options.headers : { ...options.headers, Authorization: `Bearer ${shown}` };
    const response = await fetch(address, { ...options, headers });
    if (response.status !== 401) return response;
    isWanted = true;
    // Somebody else may have asked meanwhile.
    if (key() === shown && !(await askForKey(shown !== null))) return response;
  }
}

/** The protocols of a WebSocket: with the key, if there is one. */
export function protocols() {
  if (key() === null) return [PROTOCOL];
  const bytes = String.fromCharCode(...new TextEncoder().encode(key()));
  const base64url = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [PROTOCOL, BEARER_PROTOCOL + base64url];
}

/** Asks the user for a key. Resolves to whether one was given. */
function askForKey(wasRefused) {
  asking ??= new Promise((resolve) => {
    document.getElementById("key-refused").hidden = !wasRefused;
    input.value = "";
    dialog.returnValue = "";
    dialog.onclose = () => {
      asking = null;
      const given = dialog.returnValue === "given" ? input.value.trim() : "";
      input.value = "";
      if (given !== "") sessionStorage.setItem(KEPT_AS, given);
      resolve(given !== "");
    };
    dialog.showModal();
  });
  return asking;
}
