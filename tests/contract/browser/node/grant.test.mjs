import assert from "node:assert/strict";
import test from "node:test";

import { grantSigner, readGrant } from "./page/grant.js";
import { explain } from "./page/texts.js";

const V4 = {
  "x-oss-signature-version": "OSS4-HMAC-SHA256",
  "x-oss-credential": "id/20261127/cn-hangzhou/oss/aliyun_v4_request",
  "x-oss-date": "20261127T090000Z",
};
const NAMED = Object.entries(V4).map(([name, value]) => ({ [name]: value }));
const SIGNED = { ...V4, "x-oss-signature": "0".repeat(64) };
const END = Date.parse("2026-11-27T10:00:00Z");
const NOW = END - 60_000;
const PUT = { action: "PutObject", bucket: "examplebucket", key: "in/a.txt", content_length: 5 };

function textOf({ conditions = [], more = {}, expiration = "2026-11-27T10:00:00Z", ...changed } = {}) {
  const policy = { expiration, conditions: [{ bucket: "examplebucket" }, ["starts-with", "$key", "in/"], ...NAMED, ...conditions] };
  const fields = { policy: Buffer.from(JSON.stringify(policy)).toString("base64"), ...SIGNED, ...more };
  const url = "https://examplebucket.example.com/";
  return JSON.stringify({ version: 1, url, bucket: "examplebucket", prefix: "in/", fields, ...changed });
}

const says = (pattern) => (error) => {
  assert.match(explain(error), pattern);
  return true;
};
const signerOf = (given, now = NOW) => grantSigner(readGrant(textOf(given), { now: NOW }), { now: () => now });
const refused = (given, asked, pattern) => assert.rejects(signerOf(given)({ ...PUT, ...asked }), says(pattern));

test("what is no grant file, ended or not to be sent to is told", () => {
  const wrong = [
    "",
    "no JSON",
    "[]",
    textOf({ version: 2 }),
    textOf({ url: "nowhere" }),
    textOf({ url: "https://user@examplebucket.example.com/" }),
    textOf({ fields: { policy: "!" } }),
    textOf({ fields: {} }),
    textOf({ more: { success_action_status: 200 } }),
    textOf({ expiration: "soon" }),
  ];
  for (const text of wrong) {
    assert.throws(() => readGrant(text, { now: NOW }), says(/not a complete grant file/u), text);
  }
  assert.throws(() => readGrant(textOf(), { now: END }), says(/has expired/u));
  const plain = textOf({ url: "http://127.0.0.1:9000/examplebucket/" });
  assert.throws(() => readGrant(plain, { now: NOW, secure: true }), says(/only to https/u));
  assert.equal(readGrant(plain, { now: NOW }).bucket, "examplebucket");
});

test("a form has the key first, the file last, and the type of the file", async () => {
  const signed = await signerOf({ more: { success_action_status: "200" } })({
    ...PUT,
    optional_headers: { "Content-Type": "text/plain" },
  });
  assert.equal(signed.method, "POST");
  assert.equal(signed.url, "https://examplebucket.example.com/");
  assert.deepEqual(signed.headers, []);
  const form = signed.form(new TextEncoder().encode("hello"));
  assert.deepEqual([...form.keys()], ["key", "policy", ...Object.keys(SIGNED), "success_action_status", "file"]);
  assert.equal(form.get("key"), "in/a.txt");
  assert.equal(form.get("file").type, "text/plain");
  assert.equal(await form.get("file").text(), "hello");
});

test("a field for the type is sent where the policy asks for one", async () => {
  const conditions = [["in", "$x-oss-content-type", ["image/png", "image/jpeg"]]];
  const asked = { ...PUT, optional_headers: { "Content-Type": "image/png" } };
  const { form } = await signerOf({ conditions })(asked);
  assert.equal(form("").get("x-oss-content-type"), "image/png");
  await refused({ conditions }, {}, /files of this type: in image\/png, image\/jpeg/u);
  const pinned = { conditions: [["eq", "$X-Oss-Content-Type", "text/csv"]], more: { "x-oss-content-type": "text/csv" } };
  const other = await signerOf(pinned)(asked);
  assert.equal(other.form("").get("x-oss-content-type"), "text/csv");
  await refused({ conditions: [["not-in", "$content-type", ["application/octet-stream"]]] }, {}, /of this type/u);
});

test("a dollar sign is written with a backslash in a policy", async () => {
  const policy = (prefix) => `{"expiration": "2026-11-27T10:00:00Z", "conditions": [["starts-with", "$key", "${prefix}"], ${NAMED.map((one) => JSON.stringify(one))}]}`;
  for (const prefix of ["in$/", "in\\$/", "in\\\\$/"]) {
    const fields = { policy: Buffer.from(policy(prefix)).toString("base64"), ...SIGNED };
    const signed = await signerOf({ fields })({ ...PUT, key: "in$/a" });
    assert.equal(signed.form("").get("key"), "in$/a");
    await refused({ fields }, {}, /starts-with in\$\//u);
  }
});

test("what the policy does not allow is refused before any byte", async () => {
  await refused({}, { key: "out/a.txt" }, /this name: starts-with in\//u);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: OSS has its own placeholder
  await refused({}, { key: "in/${filename}" }, /Rename/u);
  await refused({}, { key: "in/a\nb" }, /Rename/u);
  await refused({}, { bucket: "other" }, /another bucket/u);
  await refused({ bucket: "another" }, { bucket: "another" }, /does not fit this page \(bucket\)/u);
  await refused({ conditions: [["content-length-range", 1, 4]] }, {}, /files of 1 B to 4 B/u);
  await refused({ conditions: [["starts-with", "$x-oss-meta-by", ""]] }, {}, /\(x-oss-meta-by\)/u);
  await refused({}, { content_length: 5 * 1024 ** 3 }, /at most 5 GiB less 8 MiB/u);
  await refused({}, { key: "" }, /at most 1023 bytes/u);
  await assert.rejects(signerOf({}, END - 80 * 60_000)(PUT), says(/not valid yet/u));
  await refused({}, { action: "InitiateMultipartUpload" }, /is sent whole/u);
  await assert.rejects(signerOf({}, END)(PUT), says(/has expired/u));
});

test("a public file needs the word of the person", async () => {
  const grant = readGrant(textOf({ more: { "x-oss-object-acl": "public-read" } }), { now: NOW });
  let mayPublish = false;
  const signer = grantSigner(grant, { now: () => NOW, mayPublish: () => mayPublish });
  await assert.rejects(signer(PUT), says(/Tick the box/u));
  mayPublish = true;
  assert.equal((await signer(PUT)).form("").get("x-oss-object-acl"), "public-read");
});
