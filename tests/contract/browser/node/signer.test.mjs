import assert from "node:assert/strict";
import test from "node:test";

import { permissionsAt, readResult, signerAt } from "./page/signer.js";
import { explain } from "./page/texts.js";

const PUT = { action: "PutObject", bucket: "b", key: "k", content_length: 3 };
const GOOD = { method: "PUT", url: "https://b.example.com/k?s=1", headers: {}, expires_in: 60 };

function ask(answer) {
  const sign = signerAt("https://sign.example.com/v1/sign", () => "token", async (address, call) => {
    assert.equal(address, "https://sign.example.com/v1/sign");
    assert.equal(call.headers.Authorization, "Bearer token");
    assert.deepEqual(JSON.parse(call.body), { requests: [PUT] });
    const { status = 200, results, after = null } = answer();
    return { status, json: async () => ({ results }), headers: { get: () => after } };
  });
  return sign(PUT);
}

test("a request is signed in one call", async () => {
  const signed = await ask(() => ({ results: [GOOD] }));
  assert.deepEqual(signed, { method: "PUT", url: GOOD.url, headers: [] });
});

test("what may pass is told from what does not", async () => {
  const fail = () => {
    throw new TypeError();
  };
  const cases = [
    [() => ({ status: 429, after: "7" }), "again", 7000],
    [() => ({ status: 503, after: "900" }), "again", 60_000],
    [() => ({ status: 503, after: "soon" }), "again", 0],
    [() => ({ status: 404 }), "final", 0],
  ];
  for (const [answer, kind, after] of cases) {
    await assert.rejects(ask(answer), { kind, after });
  }
  await assert.rejects(ask(fail), { kind: "again" });
  await assert.rejects(ask(() => ({ status: 401 })), { kind: "token" });
});

test("only a signer without the call does not tell what a token permits", async () => {
  const tell = (status) => async () => ({ status, json: async () => ({ actions: [] }), headers: { get: () => null } });
  const ask = (fetch) => permissionsAt("https://sign.example.com/v1/permissions", "token", fetch);
  assert.deepEqual(await ask(tell(200)), { actions: [] });
  assert.equal(await ask(tell(404)), undefined);
  await assert.rejects(ask(tell(401)), { kind: "token" });
  await assert.rejects(ask(tell(503)), { kind: "again" });
  await assert.rejects(
    ask(async () => {
      throw new TypeError();
    }),
    { kind: "again" },
  );
});

test("a refusal says why", async () => {
  const refusal = { error: { status: 403, code: "forbidden", detail: "outside" } };
  await assert.rejects(ask(() => ({ results: [refusal] })), (error) => {
    assert.deepEqual([error.kind, error.code], ["refused", "forbidden"]);
    assert.match(explain(error), /does not allow writing there.*outside/u);
    return true;
  });
  const later = { error: { status: 503, code: "unavailable" } };
  await assert.rejects(ask(() => ({ results: [later] })), { kind: "again" });
});

test("a name that a browser would change is refused", () => {
  for (const path of ["a/../k", "a/%2e%2e/k", "./k"]) {
    const url = `https://b.example.com/${path}?s=1`;
    assert.throws(() => readResult({ ...GOOD, url }), { message: "oddName" });
  }
});

test("the browser itself sends length and host", () => {
  const sized = { ...GOOD, headers: { "content-length": "3", Host: "b", "x-oss-meta-a": "1" } };
  assert.deepEqual(readResult(sized).headers, [["x-oss-meta-a", "1"]]);
});
