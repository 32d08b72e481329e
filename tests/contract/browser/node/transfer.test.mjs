import assert from "node:assert/strict";
import test from "node:test";

import { combine, crc64 } from "./page/crc64.js";
import { Journal } from "./page/journal.js";
import { MIB, UploadError } from "./page/plan.js";
import { explain } from "./page/texts.js";
import { Slots, Transfer, isFree } from "./page/transfer.js";

const TARGET = { bucket: "b", key: "k" };
const CRC = "x-oss-hash-crc64ecma";

class Box {
  getItem() {
    return this.text ?? null;
  }
  setItem(_, text) {
    this.text = text;
  }
}

function fileOf(size) {
  const file = new Blob([new Uint8Array(size)]);
  return Object.assign(file, { name: "k", lastModified: 7 });
}

const says = (pattern) => (error) => {
  assert.match(explain(error), pattern);
  return true;
};

const error = (code, status = 400) => ({ status, text: `<Code>${code}</Code>`, headers: {} });

/** A store and a signer without a network; `faults` are answers by action, first come first. */
function worldOf(faults = {}, refused = []) {
  const world = { log: [], parts: new Map(), waits: 0, box: new Box() };
  const good = async (action, number, body) => {
    const bytes = body instanceof ArrayBuffer ? new Uint8Array(body) : new Uint8Array();
    const headers = { [CRC]: String(crc64(bytes)), ETag: `"${number}"` };
    if (action === "UploadPart") {
      world.parts.set(number, bytes);
    }
    if (action === "CompleteMultipartUpload" || action === "HeadObject") {
      const all = [...world.parts].sort(([a], [b]) => a - b).map(([, part]) => part);
      headers[CRC] = String(all.reduce((sum, part) => combine(sum, crc64(part), part.length), 0n));
    }
    return { status: 200, text: "<UploadId>U</UploadId>", headers };
  };
  world.outside = {
    sign: async ({ action, part_number: number }) => {
      if (refused.includes(action)) {
        throw Object.assign(new UploadError("no", "refused"), { code: "action_not_granted" });
      }
      return { url: "https://b.example.com/k", action, number };
    },
    send: async ({ action, number }, body) => {
      world.log.push(number ? `${action} ${number}` : action);
      const fault = faults[action]?.shift();
      const reply = (typeof fault === "function" ? undefined : fault) ?? (await good(action, number, body));
      if (typeof fault === "function") {
        fault(reply);
      }
      return { ...reply, header: (name) => reply.headers[name] ?? null };
    },
    read: async (blob) => {
      const buffer = await blob.arrayBuffer();
      return { crc: crc64(new Uint8Array(buffer)), buffer };
    },
    sleep: async (time) => {
      world.slept = time;
      world.waits += 1;
    },
    journal: new Journal(world.box),
    slots: new Slots(4),
  };
  world.upload = (size = 17 * MIB) => new Transfer(fileOf(size), TARGET, world.outside);
  world.count = (action) => world.log.filter((entry) => entry.startsWith(action)).length;
  return world;
}

const without = (name) => (reply) => delete reply.headers[name];

test("a file in parts", async () => {
  const world = worldOf();
  const upload = world.upload();
  await upload.run();
  assert.equal(upload.sent, 17 * MIB);
  assert.equal(world.count("UploadPart"), 3);
  assert.deepEqual(world.outside.journal.all(), {});
});

test("an object of which OSS cannot notify the owner is there", async () => {
  const failed = (reply) => Object.assign(reply, error("CallbackFailed", 203), { headers: reply.headers });
  const world = worldOf({ PutObject: [failed], CompleteMultipartUpload: [failed] });
  await world.upload(10).run();
  await world.upload().run();
  assert.deepEqual([world.count("PutObject"), world.count("CompleteMultipartUpload"), world.waits], [1, 1, 0]);
});

test("trouble passes, and has an end", async () => {
  const some = worldOf({ PutObject: [error("", 503), { status: 0, text: "", headers: {} }] });
  await some.upload(10).run();
  assert.equal(some.waits, 2);
  const busy = worldOf();
  const { sign } = busy.outside;
  const answers = [() => Promise.reject(Object.assign(new UploadError("signerBusy", "again"), { after: 30_000 }))];
  busy.outside.sign = (request) => (answers.shift() ?? (() => sign(request)))();
  await busy.upload(10).run();
  assert.deepEqual([busy.waits, busy.slept], [1, 30_000]);
  const much = worldOf({ PutObject: Array.from({ length: 8 }, () => error("ServiceUnavailable", 503)) });
  await assert.rejects(much.upload(10).run(), says(/has trouble \(ServiceUnavailable\)/u));
  assert.equal(much.count("PutObject"), 8);
  const none = worldOf({ PutObject: Array.from({ length: 8 }, () => ({ status: 0, text: "", headers: {} })) });
  await assert.rejects(none.upload(10).run(), says(/CORS rule/u));
});

test("what has expired is signed again, but not for ever", async () => {
  const expired = { status: 403, text: "<Code>AccessDenied</Code><Message>Request has expired.</Message>", headers: {} };
  const world = worldOf({ UploadPart: [expired, expired] });
  await world.upload().run();
  assert.equal(world.waits, 0);
  const always = worldOf({ PutObject: Array.from({ length: 9 }, () => expired) });
  await assert.rejects(always.upload(10).run(), says(/each new signed URL has expired/u));
  assert.equal(always.count("PutObject"), 4);
  assert.equal(always.waits, 0);
});

test("a store that shows no checksum proves nothing", async () => {
  await assert.rejects(worldOf({ PutObject: [without(CRC)] }).upload(10).run(), says(/must expose ETag/u));
  await assert.rejects(worldOf({ UploadPart: [without("ETag")] }).upload().run(), says(/must expose ETag/u));
});

test("an upload that is gone begins again, once", async () => {
  const once = worldOf({ UploadPart: [error("NoSuchUpload", 404)] });
  await once.upload().run();
  assert.equal(once.count("InitiateMultipartUpload"), 2);
  const twice = worldOf({ CompleteMultipartUpload: [error("InvalidPart"), error("InvalidPart")] });
  await assert.rejects(twice.upload().run(), says(/dropped the upload twice/u));
});

test("no such upload at the end may be a success: look", async () => {
  const gone = () => error("NoSuchUpload", 404);
  const there = worldOf({ CompleteMultipartUpload: [gone()] });
  await there.upload().run();
  assert.equal(there.count("HeadObject"), 1);
  const blind = worldOf({ CompleteMultipartUpload: [gone()] }, ["HeadObject"]);
  await assert.rejects(blind.upload().run(), says(/most likely stored/u));
  const absent = worldOf({ CompleteMultipartUpload: [gone()], HeadObject: [{ status: 404, text: "", headers: {} }] });
  await absent.upload().run();
  assert.equal(absent.count("InitiateMultipartUpload"), 2);
  const other = (reply) => Object.assign(reply.headers, { [CRC]: "1" });
  const another = worldOf({ CompleteMultipartUpload: [gone()], HeadObject: [other] });
  await assert.rejects(another.upload().run(), says(/already exists/u));
  const forbidden = worldOf({ CompleteMultipartUpload: [gone()], HeadObject: [{ status: 403, text: "", headers: {} }] });
  await assert.rejects(forbidden.upload().run(), says(/most likely stored/u));
});

test("a name that is taken", async () => {
  const taken = () => error("FileAlreadyExists", 409);
  const blind = worldOf({ PutObject: [taken()] }, ["HeadObject"]);
  await assert.rejects(blind.upload(10).run(), says(/already exists/u));
  const lost = worldOf({ PutObject: [{ status: 0, text: "", headers: {} }, taken()] }, ["HeadObject"]);
  await assert.rejects(lost.upload(10).run(), says(/most likely stored/u));
  const same = worldOf({ CompleteMultipartUpload: [taken()] });
  await same.upload().run();
  assert.equal(same.count("AbortMultipartUpload"), 1);
});

test("a whole that differs from its parts is no success", async () => {
  const other = (reply) => Object.assign(reply.headers, { [CRC]: "1" });
  const world = worldOf({ CompleteMultipartUpload: [other] });
  await assert.rejects(world.upload().run(), says(/differs from the file/u));
  assert.deepEqual(world.outside.journal.all(), {});
  await worldOf({ CompleteMultipartUpload: [without(CRC)] }).upload().run();
});

test("a failure keeps the parts, and the next run sends the others", async () => {
  const world = worldOf({ CompleteMultipartUpload: [error("AccessDenied", 403)] });
  const upload = world.upload();
  await assert.rejects(upload.run(), says(/refused \(AccessDenied\)/u));
  assert.equal(Object.keys(world.outside.journal.get(upload.name).parts).length, 3);
  assert.doesNotMatch(world.box.text, /:\/\//u);
  await upload.run();
  assert.equal(world.count("UploadPart"), 3);
  assert.equal(world.count("InitiateMultipartUpload"), 1);
});

test("cancelling removes what was sent", async () => {
  const world = worldOf();
  const upload = world.upload();
  const { send } = world.outside;
  world.outside.send = async (signed, body) => {
    const reply = await send(signed, body);
    if (signed.action === "UploadPart") {
      upload.cancel();
    }
    return reply;
  };
  await assert.rejects(upload.run(), { kind: "cancelled" });
  assert.equal(world.count("AbortMultipartUpload"), 1);
  assert.equal(world.count("Complete"), 0);
  assert.deepEqual(world.outside.journal.all(), {});
});

test("a name is free only if the store says so", async () => {
  const replies = [404, 200, 403, 429, 503, 0].map((status) => error("", status));
  const { outside } = worldOf({ HeadObject: [...replies] });
  const found = [];
  for (const _ of replies) {
    found.push(await isFree(outside, TARGET));
  }
  assert.deepEqual(found, [true, false, false, false, false, false]);
  assert.equal(await isFree(worldOf({}, ["HeadObject"]).outside, TARGET), false);
});
