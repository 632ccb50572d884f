// What the server says is told in the browser's language, as far as a visitor of the page can meet it.

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { test } from "node:test";

import { filesOf, program, sentences } from "./rust.mjs";

// Read once, when the phrases are loaded.
Object.defineProperty(globalThis, "navigator", { value: { languages: ["zh-CN"] }, configurable: true });
const { SERVER_PHRASES } = await import("../../ingest/web/phrases.js");
const words = await import("../../ingest/web/words.js");

/** All that these say is told of a camera or a picture. */
const TOLD = [
  ...(await filesOf("ingest/src/cameras")),
  ...(await filesOf("ingest/src/outbound")),
  "ingest/src/quotas.rs",
  "pixels/src/error.rs",
  "video/src/refused.rs",
];
/** But for what stands in options of the command line, and what people do not see. */
const NOT_TOLD = new Set([
  "write it like door=rtsp://user:password@host/path",
  "the name {}: {}",
  "{} is no address; write it like 192.168.1.0/24 or fd00::/8",
  "what follows / must be 0 to {}",
  // A header, and what stands within quotes, as a type would.
  "multipart/x-mixed-replace, image/*",
  "of no type",
]);
/** Some of what these say a visitor of the page may meet. */
const PARTLY_TOLD = [
  ...(await filesOf("ingest/src/doors")),
  "ingest/src/auth/denied.rs",
  "ingest/src/jobs/runner.rs",
  "ingest/src/jobs/video/reader.rs",
  "ingest/src/settings.rs",
];
/** Types of problems of calls that the page does not make, or whose answers it does not tell. */
const NOT_MET = new Set([
  ...["bad-callback", "no-callback", "no-callbacks", "bad-base64", "bad-id", "other-skeleton", "other-task", "model-kept"],
  ...["not-found", "method-not-allowed", "not-acceptable", "not-a-websocket", "https-only"],
  ...["no-stream", "no-camera", "fixed-camera", "no-job", "no-picture"],
  ...["undecodable-image", "processing-failed", "queue-full", "deadline-missed"],
]);

async function problems() {
  const macro = (await program("ingest/src/doors/problem.rs")).match(/^problems! \{.*?^\}/ms)[0];
  return [...macro.matchAll(/: [A-Z_]+, "([^"]+)", "([^"]+)";/g)].map(([, type, title]) => ({ type, title }));
}

/** The kinds of addresses that are not reached. */
async function kinds() {
  return [...(await program("ingest/src/outbound/reach.rs")).matchAll(/Some\("([^"]+)"\)/g)].map(([, kind]) => kind);
}

/** The names of an enum's variants, as they are sent. */
async function variants(path, name) {
  const body = (await program(path)).match(new RegExp(`pub(?:\\(crate\\))? enum ${name} \\{(.*?)^\\}`, "ms"))[1];
  const names = [...body.matchAll(/^ {4}([A-Z]\w*)/gm)].map(([, variant]) => variant);
  return names.map((variant) => variant.replace(/(?!^)[A-Z]/g, "_$&").toLowerCase());
}

for (const [language, phrases] of Object.entries(SERVER_PHRASES)) {
  test(`no phrase of the server's is missing in ${language}, and none is left over`, async () => {
    const titles = (await problems()).filter(({ type }) => !NOT_MET.has(type)).map(({ title }) => title);
    const told = [...(await sentences(TOLD)).filter((text) => !NOT_TOLD.has(text)), ...titles, ...(await kinds())];
    assert.ok(told.length > 100, `${told.length}`);
    assert.deepEqual(told.filter((text) => !(text in phrases)), []);
    const known = new Set([...told, ...(await sentences(PARTLY_TOLD))]);
    assert.deepEqual(Object.keys(phrases).filter((text) => !known.has(text)), []);
  });
}

test("what is listed here as left out is there", async () => {
  const types = new Set((await problems()).map(({ type }) => type));
  assert.ok(types.size > 40, `${types.size}`);
  assert.deepEqual([...NOT_MET].filter((type) => !types.has(type)), []);
  const all = new Set(await sentences(TOLD));
  assert.deepEqual([...NOT_TOLD].filter((text) => !all.has(text)), []);
});

test("every code of the server's has words", async () => {
  for (const [path, name, list] of [
    ["wire/src/ws.rs", "ErrorCode", words.SERVER_ERRORS],
    ["wire/src/outcome.rs", "DropReason", words.DROP_REASONS],
    ["ingest/src/cameras/status.rs", "CameraState", words.CAMERA_STATES],
  ]) {
    const codes = await variants(path, name);
    assert.ok(codes.length >= 4, name);
    assert.deepEqual(codes.filter((code) => !(code in list)), [], name);
  }
});

test("what changes is told likewise, and what is not known stays as it is", () => {
  const camera = (state, error) => words.cameraWords({ state, error });
  assert.equal(
    camera("waiting", "it cannot be reached: Connection refused (os error 111)"),
    "摄像机暂时不可用：无法连接（Connection refused (os error 111)）",
  );
  assert.equal(camera("waiting", "it did not answer within 5s"), "摄像机暂时不可用：没有应答（限时 5s）");
  assert.equal(
    camera("error", "it answers 403 Forbidden: the user may not see it"),
    "摄像机需要有人处理：应答为 403 Forbidden：此用户无权观看",
  );
  assert.equal(camera("error", "/clips/a: there is no picture in it"), "摄像机需要有人处理：/clips/a：其中没有图片");
  assert.equal(camera("error", "/clips/a: No such file"), "摄像机需要有人处理：/clips/a: No such file");
  assert.equal(camera("live", undefined), "摄像机工作正常");
  const address =
    "its address is private, and such ones are not reached for clients unless whoever runs the gateway allows their range " +
    "with --camera-allow, like --camera-allow 192.168.1.0/24";
  assert.equal(
    words.problemWords({ title: "This address is not fetched", detail: address }),
    "其地址是私有地址，不会为客户端访问，除非网关的管理者用 --camera-allow 允许此网段，如 --camera-allow 192.168.1.0/24",
  );
  assert.equal(words.problemWords({ title: "The body was not understood", detail: "EOF" }), "请求内容无法理解（EOF）");
  assert.equal(words.problemWords({ title: "Something new", detail: "EOF" }), "EOF");
  assert.equal(
    words.handInError({ status: 429, detail: "your tenant has used up its 10 frames a second; come again in 3 s" }),
    "您的任务已达上限。请删除一些后重试。（您的租户已用完配额：10 帧/秒；请在 3 秒后再来）",
  );
  assert.equal(words.handInError({ status: 400, title: "The query was not understood", detail: "x" }), "查询参数无法理解（x）");
  assert.equal(
    words.serverError("bad_frame", "frame 1: the JPEG image is cut off: send the whole file"),
    "服务器无法读取一张图片。（第 1 帧：JPEG 图片不完整：请发送整个文件）",
  );
  assert.equal(words.reasonWords({ reason: "undecodable", detail: "broken" }), "不是可读的图片（broken）");
});

test("in English all stays as the server says it", () => {
  const program = `
    Object.defineProperty(globalThis, "navigator", { value: { languages: ["en"] }, configurable: true });
    const words = await import(${JSON.stringify(new URL("../../ingest/web/words.js", import.meta.url))});
    const said = [
      words.cameraWords({ state: "waiting", error: "it did not answer within 5s" }),
      words.problemWords({ title: "This address is not fetched", detail: "its address is private" }),
      words.handInError({ status: 400, title: "The query was not understood", detail: "x" }),
      words.serverError("shutting_down", "the server is going away; connect again"),
      words.reasonWords({ reason: "undecodable", detail: "the JPEG codec failed" }),
    ];
    console.log(said.join("\\n"));
  `;
  const said = execFileSync(process.execPath, ["--input-type=module", "--eval", program], { encoding: "utf8" });
  assert.deepEqual(said.trimEnd().split("\n"), [
    "The camera is away: it did not answer within 5s",
    "its address is private",
    "The server reported an error. (x)",
    "The server is restarting. (the server is going away; connect again)",
    "not a readable image (the JPEG codec failed)",
  ]);
});
