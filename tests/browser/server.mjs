// The server under test, and a proxy before it whose connections can be cut.

import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import { promisify } from "node:util";

const START_MS = 60_000;

/**
 * The server at CLOUDPOSE_URL, or else one started from CLOUDPOSE_BIN on a free port. Resolves to
 * `{url, stop}`; `stop()` resolves to the exit code, or to null if the server is not ours. One with `options` of its
 * own is always started.
 */
export async function startServer(...options) {
  const { CLOUDPOSE_URL, CLOUDPOSE_BIN } = process.env;
  if (CLOUDPOSE_URL && options.length === 0) return { url: new URL(CLOUDPOSE_URL), stop: async () => null };
  if (!CLOUDPOSE_BIN) throw new Error("set CLOUDPOSE_BIN to the cloudpose binary, or CLOUDPOSE_URL to a running server");

  const child = spawn(CLOUDPOSE_BIN, ["serve", "--listen", "127.0.0.1:0", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  const exited = once(child, "exit");
  let output = "";
  const url = await new Promise((resolve, reject) => {
    const giveUp = (why) => {
      child.kill("SIGKILL");
      reject(new Error(`${CLOUDPOSE_BIN} serve ${why}; it said:\n${output}`));
    };
    const timer = setTimeout(giveUp, START_MS, "did not say `listening on http://…`");
    const read = (chunk) => {
      output += chunk;
      const said = /listening on (http:\/\/[\d.]+:\d+)/.exec(output);
      if (!said) return;
      clearTimeout(timer);
      resolve(new URL(said[1]));
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", (error) => giveUp(`did not start: ${error.message}`));
    child.on("exit", (code) => giveUp(`ended with code ${code}`));
  });
  return {
    url,
    async stop() {
      child.kill("SIGTERM");
      const [code] = await exited;
      return code;
    },
  };
}

/** What `cloudpose keys` prints. */
export async function keys(...args) {
  const { stdout } = await promisify(execFile)(process.env.CLOUDPOSE_BIN, ["keys", ...args]);
  return stdout.trim();
}

/** Passes bytes on to `target` until `cut()`, and again after `restore()`. */
export async function startProxy(target) {
  const sockets = new Set();
  let passing = true;
  const proxy = net.createServer((inner) => {
    if (!passing) {
      inner.destroy();
      return;
    }
    const outer = net.connect(Number(target.port), target.hostname);
    for (const [socket, other] of [[inner, outer], [outer, inner]]) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.pipe(other);
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  const destroyAll = () => {
    for (const socket of sockets) socket.destroy();
  };
  proxy.listen(0, "127.0.0.1");
  await once(proxy, "listening");
  return {
    origin: `http://127.0.0.1:${proxy.address().port}`,
    cut() {
      passing = false;
      destroyAll();
    },
    restore() {
      passing = true;
    },
    async stop() {
      destroyAll();
      proxy.close();
      await once(proxy, "close");
    },
  };
}
