// How a key is shown.

/** What the WebSocket speaks; the server answers this one. */
const PROTOCOL = "cloudpose.v1";
/** Before the key in base64url, as a second protocol: a browser's WebSocket can send no other header. */
const BEARER_PROTOCOL = "cloudpose.bearer.";

/** The protocols of a WebSocket with a key, or without one if it is null. */
export function protocols(key) {
  if (key === null) return [PROTOCOL];
  const bytes = String.fromCharCode(...new TextEncoder().encode(key));
  const base64url = btoa(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  return [PROTOCOL, BEARER_PROTOCOL + base64url];
}

/** The headers of a request with a key. */
export function authorization(key) {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}
