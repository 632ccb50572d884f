// What Rust sources say in words: their string literals, with `{}` in the place of what changes.

import { readFile, readdir } from "node:fs/promises";

const REPOSITORY = new URL("../../", import.meta.url);

/** Comments and characters, in which a quote is none, or a literal. */
const TOKENS = /\/\/[^\n]*|'(?:\\.|[^\\'])'|r#".*?"#|"((?:\\.|[^"\\])*)"/gs;
/** What is said to whoever runs the server, or never: logs, and what cannot be. */
const UNHEARD = /(?:\btracing::\w+!|\bdebug_assert\w*!|\.expect)\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)/g;
/** Attributes, but for those that are the words of errors. */
const ATTRIBUTES = /#!?\[(?!error\()[^[\]]*(?:\[[^[\]]*\][^[\]]*)*\]/g;

/** A literal as people see it. */
function plain(literal) {
  const text = literal.replace(/\\\n\s*/g, "").replace(/\\(["\\])/g, "$1");
  return text.replace(/\{\{|\}\}|\{[^{}]*\}/g, (part) => ({ "{{": "{", "}}": "}" })[part] ?? "{}");
}

/** A file of the repository, without its tests. */
export async function program(path) {
  const source = await readFile(new URL(path, REPOSITORY), "utf8");
  return source.split(/^#\[cfg\(test\)\]$/m)[0];
}

/** The Rust files in a folder of the repository, and in those below it. */
export async function filesOf(folder) {
  const files = await readdir(new URL(folder, REPOSITORY), { recursive: true });
  return files.filter((file) => file.endsWith(".rs")).map((file) => `${folder}/${file}`);
}

/** What files say: their literals of more than one word. */
export async function sentences(paths) {
  const said = new Set();
  for (const path of paths) {
    const literals = [];
    const marked = (await program(path)).replace(TOKENS, (_, literal) => (literal === undefined ? "" : `"${literals.push(literal) - 1}"`));
    const heard = marked.replace(ATTRIBUTES, "").replace(UNHEARD, "");
    for (const [, at] of heard.matchAll(/"(\d+)"/g)) said.add(plain(literals[at]));
  }
  return [...said].filter((text) => text.trim().includes(" "));
}
