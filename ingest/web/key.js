// The API key: asked for when the server wants one, kept for this tab.

import { authorization } from "./client/cloudpose.js";

const KEPT_AS = "cloudpose-key";

const dialog = document.getElementById("key-dialog");
const input = document.getElementById("key");
let asking = null;
let isWanted = false;

/** The key, or null. */
export const key = () => sessionStorage.getItem(KEPT_AS);

/** Whether the server has asked for a key in this tab. */
export const isKeyWanted = () => isWanted || key() !== null;

/** Fetches with the key, if there is one. Asks for one as long as the server answers 401 and the user gives one. */
export async function fetchWithKey(address, options = {}) {
  for (;;) {
    const shown = key();
    const response = await fetch(address, { ...options, headers: { ...options.headers, ...authorization(shown) } });
    if (response.status !== 401 || !(await renewKey(shown))) return response;
  }
}

/** The server does not take the key `shown`, or wants one. Resolves to whether there is another. */
export async function renewKey(shown) {
  isWanted = true;
  // Somebody else may have asked meanwhile.
  return key() !== shown || askForKey(shown !== null);
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
