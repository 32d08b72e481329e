import assert from "node:assert/strict";
import test from "node:test";

import { Signer, readResult } from "./page/signer.js";

const PUT = { action: "PutObject", bucket: "b", key: "k", content_length: 3 };
const GOOD = { method: "PUT", url: "https://b.example.com/k?s=1", headers: {}, expires_in: 60 };

function signerOf(answers) {
  const calls = [];
  const signer = new Signer({
    address: "https://sign.example.com/v1/sign",
    token: () => "token",
    now: () => 1000,
    sleep: async () => {},
    fetch: async (_, { body, headers }) => {
      const { requests } = JSON.parse(body);
      calls.push([requests.length, headers.Authorization]);
      const answer = answers.shift() ?? (() => ({ results: requests.map(() => GOOD) }));
      const { status = 200, results, retryAfter = null } = answer(requests);
      return { status, json: async () => ({ results }), headers: { get: () => retryAfter } };
    },
  });
  return { signer, calls };
}

test("what is asked for together goes in one call", async () => {
  const { signer, calls } = signerOf([]);
  const found = await Promise.all([1, 2, 3].map(() => signer.sign(PUT)));
  assert.deepEqual(calls, [[3, "Bearer token"]]);
  assert.deepEqual(found[0], { method: "PUT", url: GOOD.url, headers: [], life: 60000, ends: 61000 });
});

test("no call holds more than a hundred, or more than the signer takes", async () => {
  const full = signerOf([]);
  await Promise.all(Array.from({ length: 150 }, () => full.signer.sign(PUT)));
  assert.deepEqual(full.calls.map(([count]) => count), [100, 50]);
  const small = signerOf([() => ({ status: 413 })]);
  await Promise.all([1, 2, 3, 4].map(() => small.signer.sign(PUT)));
  assert.deepEqual(small.calls.map(([count]) => count), [4, 2, 2]);
});

test("what passes is asked again, what does not is told", async () => {
  const busy = signerOf([() => ({ status: 429, retryAfter: "1" }), () => ({ status: 503 }), () => { throw new TypeError(); }]);
  assert.equal((await busy.signer.sign(PUT)).method, "PUT");
  assert.equal(busy.calls.length, 4);
  const wrong = signerOf([() => ({ status: 401 })]);
  await assert.rejects(wrong.signer.sign(PUT), { kind: "token", message: /not accepted/u });
  const odd = signerOf([() => ({ status: 404 })]);
  await assert.rejects(odd.signer.sign(PUT), /answered 404/u);
  const short = signerOf([() => ({ results: [] })]);
  await assert.rejects(short.signer.sign(PUT), /not complete/u);
  const dead = signerOf(Array.from({ length: 8 }, () => () => { throw new TypeError(); }));
  await assert.rejects(dead.signer.sign(PUT), /could not be reached/u);
});

test("one refused item does not refuse the others", async () => {
  const refusal = { error: { status: 403, code: "forbidden", detail: "outside" } };
  const { signer } = signerOf([() => ({ results: [refusal, GOOD] })]);
  const [first, second] = await Promise.allSettled([signer.sign(PUT), signer.sign(PUT)]);
  assert.equal(first.reason.kind, "refused");
  assert.match(first.reason.message, /outside/u);
  assert.equal(second.status, "fulfilled");
});

test("an answer that is not for the request is refused, without its address", () => {
  for (const wrong of [
    { method: "GET" },
    { url: "ftp://b.example.com/k" },
    { url: "https://u:p@b.example.com/k" },
    { url: "https://b.example.com/k#x" },
    { url: "no address" },
    { headers: { "Content-Length": "4" } },
  ]) {
    assert.throws(() => readResult({ ...GOOD, ...wrong }, PUT, 0, false), /^Error: The signer's answer is not usable/u);
  }
  for (const path of ["a/../k", "a/%2e%2e/k", "./k"]) {
    const url = `https://b.example.com/${path}?s=1`;
    assert.throws(() => readResult({ ...GOOD, url }, PUT, 0, true), /cannot send to this name/u);
  }
  assert.throws(() => readResult({ ...GOOD, url: "http://b.example.com/k" }, PUT, 0, true));
  const sized = { ...GOOD, headers: { "content-length": "3", Host: "b", "x-oss-meta-a": "1" } };
  assert.deepEqual(readResult(sized, PUT, 0, true).headers, [["x-oss-meta-a", "1"]]);
  const later = { error: { status: 503, code: "unavailable" } };
  assert.throws(() => readResult(later, PUT, 0, true), { kind: "again" });
});
