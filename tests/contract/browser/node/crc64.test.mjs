import assert from "node:assert/strict";
import test from "node:test";

import { combine, crc64 } from "./page/crc64.js";

const bytes = (text) => new TextEncoder().encode(text);

test("the check value of CRC-64/XZ", () => {
  assert.equal(crc64(bytes("123456789")), 11051210869376104954n);
  assert.equal(crc64(bytes("")), 0n);
});

test("a CRC goes on from any byte, and two combine", () => {
  const data = Uint8Array.from({ length: 1000 }, (_, n) => (n * 7919) & 255);
  const whole = crc64(data);
  for (const cut of [0, 1, 7, 8, 9, 500, 999, 1000]) {
    const first = crc64(data.subarray(0, cut));
    const second = crc64(data.subarray(cut));
    assert.equal(crc64(data.subarray(cut), first), whole);
    assert.equal(combine(first, second, 1000 - cut), whole);
  }
});

test("one bit more is another CRC", () => {
  const data = new Uint8Array(64);
  const seen = new Set([crc64(data)]);
  for (let bit = 0; bit < 512; bit += 1) {
    data[bit >> 3] ^= 1 << (bit & 7);
    seen.add(crc64(data));
    data[bit >> 3] ^= 1 << (bit & 7);
  }
  assert.equal(seen.size, 513);
});

test("values that Python has computed", () => {
  for (const [length, value] of JSON.parse(process.env.CRC_VALUES)) {
    const data = Uint8Array.from({ length }, (_, n) => (n * n + 3 * n) & 255);
    assert.equal(String(crc64(data)), value);
  }
});
