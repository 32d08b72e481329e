import assert from "node:assert/strict";
import test from "node:test";

import { Journal, fingerprint } from "./page/journal.js";
import * as plan from "./page/plan.js";

const { MIB } = plan;

test("parts cover a file once, in at most 10,000", () => {
  for (const size of [1, MIB, 8 * MIB, 8 * MIB + 1, 30 * MIB, 48 * 1024 * 1024 * MIB]) {
    for (const partSize of plan.partSizes(size)) {
      const parts = plan.partsOf(size, partSize);
      assert.ok(parts.length <= plan.MAX_PARTS);
      assert.equal(parts[0].start, 0);
      assert.equal(parts.at(-1).end, size);
      parts.slice(1).forEach((part, n) => assert.equal(part.start, parts[n].end));
    }
  }
  assert.equal(plan.partSizes(30 * MIB)[0], 8 * MIB);
});

test("a destination", () => {
  assert.deepEqual(plan.destinationOf(" b ", " in/2026 "), { bucket: "b", prefix: "in/2026/" });
  assert.deepEqual(plan.destinationOf("b", ""), { bucket: "b", prefix: "" });
  assert.deepEqual(plan.destinationIn("#b/in/x%20y/"), { token: "", bucket: "b", prefix: "in/x y/" });
  const invited = { token: "a-B_9", bucket: "b", prefix: "in/&=x/" };
  assert.deepEqual(plan.destinationIn("#token=a-B_9&b/in/%26%3Dx/"), invited);
  assert.deepEqual(plan.destinationIn("#token=a-B_9"), { token: "a-B_9", bucket: "", prefix: "" });
  assert.deepEqual(plan.destinationIn("#%"), { token: "", bucket: "", prefix: "" });
  assert.deepEqual(plan.destinationIn(""), { token: "", bucket: "", prefix: "" });
});

test("waits grow to a limit", () => {
  const waits = [1, 2, 3, 4, 5, 6, 7].map((tries) => plan.waitAfter(tries, () => 1));
  assert.deepEqual(waits, [500, 1000, 2000, 4000, 8000, 16000, 20000]);
  assert.equal(plan.waitAfter(1, () => 0), 250);
});

test("what a reply means", () => {
  const document = (code, message = "") => `<Error><Code>${code}</Code><Message>${message}</Message></Error>`;
  const cases = [
    [0, "", "again"],
    [503, "", "again"],
    [429, "", "again"],
    [404, document("NoSuchUpload"), "gone"],
    [400, document("InvalidPart"), "mixed"],
    [409, document("FileAlreadyExists"), "taken"],
    [403, document("AccessDenied", "Request has expired."), "expired"],
    [403, document("SecurityTokenExpired"), "expired"],
    [403, document("AccessDenied"), "final"],
    [400, document("EntityTooLarge"), "final"],
    [200, document("InternalError"), "again"],
  ];
  for (const [status, text, verdict] of cases) {
    assert.equal(plan.verdictOn(status, text), verdict);
  }
  const unknown = document("InvalidAccessKeyId");
  for (const name of ["security-token", "x-oss-security-token"]) {
    assert.equal(plan.verdictOn(403, unknown, `https://h/k?a=1&${name}=t`), "expired");
  }
  assert.equal(plan.verdictOn(403, unknown, "https://h/k?a=1"), "final");
});

test("the document that completes an upload", () => {
  assert.equal(
    plan.completion([{ number: 1, etag: '"A"' }, { number: 2, etag: '"B"' }]),
    '<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>"A"</ETag></Part>' +
      '<Part><PartNumber>2</PartNumber><ETag>"B"</ETag></Part></CompleteMultipartUpload>',
  );
});

class Box {
  constructor() {
    this.text = null;
  }
  getItem() {
    return this.text;
  }
  setItem(_, text) {
    this.text = text;
  }
}

test("a journal keeps parts, forgets what is old, and works without a store", () => {
  let now = 1000;
  const journal = new Journal(new Box(), () => now);
  const name = fingerprint({ bucket: "b", key: "k" }, { name: "k", size: 3, lastModified: 7 });
  journal.put(name, { uploadId: "U", partSize: 2, parts: {} });
  journal.addPart(name, "U", 1, { etag: "e", crc: "1" });
  journal.addPart(name, "another", 2, { etag: "f", crc: "2" });
  assert.deepEqual(journal.get(name).parts, { 1: { etag: "e", crc: "1" } });
  now += 31 * 24 * 3600 * 1000;
  assert.equal(journal.get(name), undefined);
  journal.put(name);
  assert.deepEqual(journal.all(), {});
  const none = new Journal(null);
  none.put(name, {});
  assert.deepEqual(none.all(), {});
});
