// Every phrase that the page says is in its list, in every language.

import assert from "node:assert/strict";
import { readFile, readdir } from "node:fs/promises";
import { test } from "node:test";

import { PHRASES, SERVER_PHRASES, languageOf } from "../../ingest/web/phrases.js";

const WEB = new URL("../../ingest/web/", import.meta.url);
/** The same in every language. */
const NAMES = new Set(["CloudPose", "–", "80", "x", "y", "cpk_…", "Mbit/s", "rtsp://user:password@host/path"]);

const entities = { "&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"' };
const plain = (html) => html.replace(/&\w+;/g, (entity) => entities[entity] ?? assert.fail(entity)).trim();

/** What stands in index.html for people. */
async function ofPage() {
  const html = await readFile(new URL("index.html", WEB), "utf8");
  const body = html.slice(html.indexOf("<body>")).replace(/<(noscript|code|pre|script)\b.*?<\/\1>/gs, "");
  const texts = [...body.matchAll(/>([^<]+)</g)].map(([, text]) => plain(text));
  const attributes = [...body.matchAll(/\s(?:aria-label|alt|title|placeholder)="([^"]*)"/g)].map(([, text]) => plain(text));
  return [...texts, ...attributes].filter((text) => /\p{L}/u.test(text));
}

/** What the programs say. */
async function ofPrograms() {
  const said = [];
  for (const name of await readdir(WEB)) {
    if (!name.endsWith(".js") || name === "phrases.js") continue;
    const program = await readFile(new URL(name, WEB), "utf8");
    for (const [, phrase] of program.matchAll(/\bsay`([^`]*)`/g)) said.push(phrase.replace(/\$\{[^}]*(\{[^}]*\}[^}]*)*\}/g, "{}"));
  }
  return said;
}

/** What the built-in models are called, what they are for, and the joints they find. */
async function ofModels() {
  const manifest = JSON.parse(await readFile(new URL("../../models/manifest.json", import.meta.url), "utf8"));
  const models = [...manifest.models, ...manifest.pipelines];
  const titles = models.map(({ title }) => title).filter((title) => !/Net/.test(title));
  return [...titles, ...models.map(({ summary }) => summary)];
}

for (const [language, phrases] of Object.entries(PHRASES)) {
  test(`no phrase is missing in ${language}, and none is left over`, async () => {
    const wanted = new Set([...(await ofPage()), ...(await ofPrograms()), ...(await ofModels())]);
    assert.ok(wanted.size > 120, `${wanted.size}`);
    const missing = [...wanted].filter((phrase) => !(phrase in phrases) && !NAMES.has(phrase));
    assert.deepEqual(missing, []);
    const joints = /^(nose|(left|right) (eye|ear|shoulder|elbow|wrist|hip|knee|ankle))$/;
    const left = Object.keys(phrases).filter((phrase) => !wanted.has(phrase) && !joints.test(phrase));
    assert.deepEqual(left, []);
    assert.equal(Object.keys(phrases).filter((phrase) => joints.test(phrase)).length, 17);
  });

  test(`what changes stands in each phrase in ${language}`, () => {
    for (const [english, phrase] of [...Object.entries(phrases), ...Object.entries(SERVER_PHRASES[language])]) {
      assert.equal(phrase.split("{}").length, english.split("{}").length, english);
      assert.notEqual(phrase.trim(), "", english);
    }
  });
}

test("the language is the first of the browser's that the page speaks", () => {
  assert.equal(languageOf(["zh-TW", "en"]), "zh");
  assert.equal(languageOf(["de-DE", "zh", "en"]), "zh");
  assert.equal(languageOf(["en-GB", "zh"]), "en");
  assert.equal(languageOf(["de"]), "en");
  assert.equal(languageOf([]), "en");
});
