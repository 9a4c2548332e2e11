// The console's own words, from its source, so that tests name buttons as their pages do.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ROOT } from "./stage.mjs";

const FILES = { en: "en.rs", "zh-CN": "zh.rs" };

function read(file) {
  const source = readFileSync(join(ROOT, "broker/src/console/words", file), "utf8");
  return new Map([...source.matchAll(/^ +(\w+):\s*"((?:[^"\\]|\\.)*)",$/gm)].map(([, name, text]) => [name, JSON.parse(`"${text}"`)]));
}

/** A function from a word's name to what it is in this language. */
export function wordsOf(language) {
  const words = read(FILES[language]);
  return (name) => {
    assert.ok(words.has(name), `there is no word ${name} in ${FILES[language]}`);
    return words.get(name);
  };
}
