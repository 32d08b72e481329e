import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { LANGUAGES, TEXTS, bytesText, durationText, explain, text, useLanguage } from "./page/texts.js";

const read = (name) => readFileSync(new URL(`page/${name}`, import.meta.url), "utf-8");
const withoutComments = (script) => script.replace(/^ *\/\*\*[\s\S]*?\*\/|(?<=^|\s)\/\/ .*$/gmu, "");
const scripts = readdirSync(new URL("page", import.meta.url))
  .filter((name) => name.endsWith(".js") && name !== "texts.js")
  .map((name) => [name, withoutComments(read(name))]);
const markup = read("index.html");
const valuesIn = (template) => [...template.matchAll(/\{(\w+)\}/gu)].map(([, name]) => name).sort();

test("each text exists in both languages, with the same values", () => {
  for (const [key, texts] of Object.entries(TEXTS)) {
    assert.equal(texts.length, Object.keys(LANGUAGES).length, key);
    const [english, chinese] = texts;
    assert.deepEqual(valuesIn(english), valuesIn(chinese), key);
    assert.doesNotMatch(english, /\p{Script=Han}/u, key);
    if (/\p{L}/u.test(english.replace(/\{\w+\}/gu, ""))) {
      const wordless = ["progress"]; // "3 of 4" is 3/4 in Chinese
      assert.ok(wordless.includes(key) || /\p{Script=Han}/u.test(chinese), key);
    }
  }
});

test("each key that is used has a text, and each text is used", () => {
  const all = [...scripts.map(([, script]) => script), read("texts.js").split("let language")[1]].join("\n");
  const named = [
    ...all.matchAll(/(?:\btext|\brefusal|UploadError)\(\s*"(\w+)"/gu),
    ...markup.matchAll(/data-(?:text|label)="(\w+)"/gu),
  ].map(([, key]) => key);
  assert.deepEqual(named.filter((key) => !Object.hasOwn(TEXTS, key)), []);
  const literals = new Set([...named, ...[...all.matchAll(/"(\w+)"/gu)].map(([, key]) => key)]);
  assert.deepEqual(Object.keys(TEXTS).filter((key) => !literals.has(key)), []);
});

test("no text stands outside of the table", () => {
  for (const [name, script] of scripts) {
    const literals = script.match(/"[^"\n]*"|`[^`]*`/gu) ?? [];
    const texts = literals.filter((literal) => /\p{L}{2,} \p{L}{2,}|\p{Script=Han}/u.test(literal));
    assert.deepEqual(texts, [], name);
    assert.doesNotMatch(script, /textContent = ["`][^"`]/u, name);
  }
  const shown = markup.replace(/<noscript>[\s\S]*<\/noscript>/u, "").replace(/<[^>]*>/gu, "");
  assert.equal(shown.trim(), "");
  assert.doesNotMatch(markup, /(?:title|alt|aria-label)="/u);
});

test("the language follows a tag", () => {
  for (const [tag, language] of [["zh-TW", "zh-CN"], ["ZH", "zh-CN"], ["fr", "en"], [undefined, "en"], ["en-GB", "en"]]) {
    assert.equal(useLanguage(tag), language);
    assert.equal(text("title"), TEXTS.title[Object.keys(LANGUAGES).indexOf(language)]);
  }
});

test("an error says more where there is more", () => {
  const error = { kind: "final", message: "refused", values: { code: "AccessDenied", id: "5F" } };
  assert.equal(explain(error), "The store refused (AccessDenied). Tell the owner of the bucket. Request 5F.");
  useLanguage("zh");
  assert.equal(explain(error), "OSS 拒绝了请求（AccessDenied），请联系 Bucket 拥有者。请求ID：5F。");
  useLanguage("en");
  assert.equal(explain(new TypeError("x is undefined")), "This page failed. Reload it, then try again.");
});

test("numbers for people", () => {
  assert.equal(bytesText(0), "0 B");
  assert.equal(bytesText(1023), "1023 B");
  assert.equal(bytesText(1536), "1.5 KiB");
  assert.equal(bytesText(30 * 2 ** 20), "30 MiB");
  assert.equal(bytesText(3 * 2 ** 50), "3072 TiB");
  assert.equal(durationText(0.1), "1 sec");
  assert.equal(durationText(600), "10 min");
  assert.equal(durationText(7200), "2 hr");
  useLanguage("zh");
  assert.equal(durationText(600), "10分钟");
  useLanguage("en");
});
