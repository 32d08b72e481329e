// The upload of one file: in one request or in parts, each byte checked, each failure judged.
import { combine } from "./crc64.js";
import { fingerprint } from "./journal.js";
import {
  MAX_SINGLE,
  UploadError,
  completion,
  elementOf,
  fitsOnePut,
  partSizes,
  partsOf,
  verdictOn,
  waitAfter,
} from "./plan.js";

const CRC_HEADER = "x-oss-hash-crc64ecma";
const LANES = 4;
const MAX_FAILURES = { again: 8, expired: 4, damaged: 3 }; // of each kind, for one request

/** Lets a number of tasks run at the same time; the others wait in order. */
export class Slots {
  constructor(count) {
    this.free = count;
    this.waiting = [];
  }

  async hold(work) {
    if (this.free > 0) {
      this.free -= 1;
    } else {
      await new Promise((resolve) => this.waiting.push(resolve));
    }
    try {
      return await work();
    } finally {
      const next = this.waiting.shift() ?? (() => (this.free += 1));
      next();
    }
  }
}

/**
 * One upload. `outside` is what it needs of the world: sign(request), send(signed, body,
 * {progress, signal}), read(blob, keep), sleep(ms, signal), journal, slots.
 */
export class Transfer {
  constructor(file, target, outside, changed = () => {}) {
    Object.assign(this, { file, target, outside, changed });
    this.name = fingerprint(target, file);
    this.size = file.size;
    this.type = file.type ? { optional_headers: { "Content-Type": file.type } } : {};
    this.moving = new Map(); // part number -> bytes that are out
    this.forget();
  }

  forget() {
    this.uploadId = undefined;
    this.done = new Map(); // part number -> {etag, crc}
    this.proved = new Set(); // numbers of parts with this file's bytes
    this.settled = 0;
  }

  get sent() {
    const moving = [...this.moving.values()].reduce((sum, bytes) => sum + bytes, 0);
    return Math.min(this.settled + moving, this.size);
  }

  /** Return when the object is stored and checked; raise an UploadError otherwise. */
  async run() {
    this.cancelled = false;
    this.paused = false;
    try {
      await (this.size <= MAX_SINGLE ? this.single() : this.multi());
    } catch (error) {
      this.moving.clear();
      if (this.paused && !this.cancelled) {
        throw new UploadError("paused", "paused");
      }
      if (this.cancelled || (this.uploadId && !this.done.size && error.kind !== "token")) {
        await this.abort();
      }
      throw this.cancelled ? new UploadError("cancelled", "cancelled") : error;
    }
  }

  /** Stop, and keep the parts; a request that stores the object is not interrupted. */
  pause() {
    this.paused = !this.isStoring;
    if (this.paused) {
      this.stop.abort();
    }
  }

  cancel() {
    this.cancelled = true;
    this.stop?.abort();
  }

  // -- every request -------------------------------------------------------------------

  begin() {
    this.isStoring = false;
    this.stop = new AbortController();
    this.check();
  }

  check() {
    if (this.cancelled || this.stop.signal.aborted) {
      throw new UploadError("cancelled", "cancelled");
    }
  }

  sign(action, fields) {
    return this.outside.sign({ action, ...this.target, ...fields });
  }

  /** Return what work returns; do it again while its failures may pass. */
  async attempts(work, { number, lost = {} } = {}) {
    const failures = {};
    for (;;) {
      this.check();
      try {
        return await work();
      } catch (error) {
        const { kind, status, after = 0 } = error;
        this.moving.delete(number);
        this.changed();
        this.check();
        lost.reply ||= kind === "again" && status !== undefined;
        failures[kind] = (failures[kind] ?? 0) + 1;
        if (!(failures[kind] < MAX_FAILURES[kind])) {
          throw error;
        }
        if (kind === "again") {
          this.changed("retrying", { count: failures.again });
          await this.outside.sleep(Math.max(waitAfter(failures.again), after), this.stop.signal);
          this.changed();
        }
      }
    }
  }

  /** Sign and send a request; return its reply, which is a success and states *crc*. */
  perform(action, { fields, body = null, number, crc, lost } = {}) {
    const progress = (bytes) => {
      if (number) {
        this.moving.set(number, bytes);
        this.changed();
      }
    };
    const work = async () => {
      const signed = await this.sign(action, fields);
      this.check();
      const reply = await this.outside.send(signed, body, { signal: this.stop.signal, progress });
      // 203: the object is there, but OSS could not notify the owner's server.
      const hasError = reply.status !== 203 && elementOf(reply.text, "Code");
      const isSuccess = reply.status >= 200 && reply.status < 300 && !hasError;
      if (!isSuccess) {
        throw refusalOf(reply, signed.url);
      }
      const stated = reply.header(CRC_HEADER);
      if (crc !== undefined && stated !== String(crc)) {
        throw stated === null ? new UploadError("notExposed") : new UploadError("damaged", "damaged");
      }
      return reply;
    };
    return this.attempts(work, { number, lost });
  }

  /** Return if the object is there with our bytes; `otherwise` is the error if we may not look. */
  async prove(crc, otherwise) {
    let stated;
    try {
      stated = (await this.perform("HeadObject")).header(CRC_HEADER);
    } catch (error) {
      if (error.status === 404) {
        throw new UploadError("absent", "gone");
      }
      if (error.kind !== "refused" && error.status !== 403) {
        throw error;
      }
      stated = null;
    }
    if (stated !== String(crc)) {
      await this.abort();
      throw new UploadError(stated === null ? otherwise : "taken");
    }
  }

  // -- one request ---------------------------------------------------------------------

  async single() {
    this.begin();
    this.isStoring = true;
    const whole = this.file.slice(0, this.size); // without a type: no header of its own
    await this.outside.slots.hold(async () => {
      const { crc, buffer } = await this.outside.read(whole, this.size <= MAX_SINGLE);
      this.crc = crc;
      const fields = { content_length: this.size, ...this.type };
      const lost = {};
      try {
        await this.perform("PutObject", { fields, body: buffer ?? whole, number: 1, crc, lost });
      } catch (error) {
        if (error.kind !== "taken") {
          throw error;
        }
        await this.prove(crc, lost.reply ? "unknown" : "taken");
      }
      this.settled = this.size;
    });
  }

  // -- parts ---------------------------------------------------------------------------

  async multi() {
    const entry = this.outside.journal.get(this.name);
    if (entry && !this.uploadId) {
      this.uploadId = entry.uploadId;
      this.partSize = entry.partSize;
      this.done = new Map(Object.entries(entry.parts).map(([number, part]) => [Number(number), part]));
    }
    for (let isSecond = false; ; isSecond = true) {
      this.begin();
      try {
        if (!this.uploadId && !(await this.initiate())) {
          await this.single();
          return;
        }
        await this.sendParts();
        await this.complete();
        this.outside.journal.put(this.name);
        return;
      } catch (error) {
        if (error.kind !== "gone" && error.kind !== "mixed") {
          throw error;
        }
        await this.abort();
        if (isSecond) {
          throw new UploadError("uploadGone");
        }
      }
    }
  }

  /** Open an upload; return false if the signer signs none and one request will do. */
  async initiate() {
    let reply;
    try {
      reply = await this.perform("InitiateMultipartUpload", { fields: this.type });
    } catch (error) {
      if (error.code === "action_not_granted" && fitsOnePut(this.size)) {
        return false;
      }
      throw error;
    }
    this.uploadId = elementOf(reply.text, "UploadId");
    if (!this.uploadId) {
      throw new UploadError("badReply");
    }
    this.partSize = await this.agreedPartSize();
    const { uploadId, partSize, target } = this;
    this.outside.journal.put(this.name, { uploadId, partSize, target, parts: {} });
    return true;
  }

  /** Have the first and the last part signed: what the policy refuses is refused before any byte. */
  async agreedPartSize() {
    let refusal;
    for (const size of partSizes(this.size)) {
      const parts = partsOf(this.size, size);
      const ends = [parts[0], parts.at(-1)].map((part) => this.fieldsOf(part));
      try {
        await this.attempts(() => Promise.all(ends.map((fields) => this.sign("UploadPart", fields))));
        return size;
      } catch (error) {
        if (error.code !== "too_large") {
          throw error;
        }
        refusal ??= error;
      }
    }
    throw refusal;
  }

  fieldsOf({ number, start, end }) {
    return { upload_id: this.uploadId, part_number: number, content_length: end - start };
  }

  async sendParts() {
    const left = partsOf(this.size, this.partSize).filter(({ number }) => !this.proved.has(number));
    let failure;
    const lane = async () => {
      while (left.length && !failure) {
        const part = left.shift();
        try {
          await this.outside.slots.hold(() => this.sendPart(part));
        } catch (error) {
          failure ??= error;
          this.stop.abort();
        }
      }
    };
    await Promise.all(Array.from({ length: LANES }, lane));
    if (failure) {
      throw failure;
    }
  }

  async sendPart(part) {
    const { number, start, end } = part;
    this.check();
    const { crc, buffer } = await this.outside.read(this.file.slice(start, end), true);
    // Name, size and date of a file may be right and its bytes others.
    if (this.done.get(number)?.crc !== String(crc)) {
      const fields = this.fieldsOf(part);
      const reply = await this.perform("UploadPart", { fields, body: buffer, number, crc });
      const stored = { etag: reply.header("ETag"), crc: String(crc) };
      if (stored.etag === null) {
        throw new UploadError("notExposed");
      }
      this.done.set(number, stored);
      this.outside.journal.addPart(this.name, this.uploadId, number, stored);
    }
    this.proved.add(number);
    this.moving.delete(number);
    this.settled += end - start;
    this.changed();
  }

  async complete() {
    this.isStoring = true;
    let crc = 0n;
    const named = partsOf(this.size, this.partSize).map(({ number, start, end }) => {
      const { etag, crc: own } = this.done.get(number);
      crc = combine(crc, BigInt(own), end - start);
      return { number, etag };
    });
    this.crc = crc;
    const body = new Blob([completion(named)]);
    const fields = { upload_id: this.uploadId, content_length: body.size };
    let reply;
    try {
      reply = await this.perform("CompleteMultipartUpload", { fields, body });
    } catch (error) {
      // A browser may repeat a request by itself when a connection breaks. So the store may
      // have completed the upload already, and this is its reply to the second request.
      if (error.kind === "gone") {
        await this.prove(crc, "unknown");
        return;
      }
      if (error.kind === "taken") {
        await this.prove(crc, "taken");
        await this.abort();
        return;
      }
      throw error;
    }
    const stated = reply.header(CRC_HEADER);
    if (stated !== null && stated !== String(crc)) {
      this.outside.journal.put(this.name);
      this.forget();
      throw new UploadError("differs");
    }
  }

  /** Abort the upload in the store, as far as the signer lets us. */
  async abort() {
    const { uploadId } = this;
    this.outside.journal.put(this.name);
    this.forget();
    if (uploadId) {
      await abortUpload(this.outside, this.target, uploadId);
    }
  }
}

/** Return whether no object has a name; false too if the signer or the store does not say. */
export async function isFree(outside, target) {
  try {
    const { status } = await outside.send(await outside.sign({ action: "HeadObject", ...target }), null, {});
    return status === 404;
  } catch {
    return false;
  }
}

/** Abort an upload as far as the signer lets us; return whether its parts are gone. */
export async function abortUpload(outside, target, uploadId) {
  try {
    const signed = await outside.sign({ action: "AbortMultipartUpload", ...target, upload_id: uploadId });
    const { status } = await outside.send(signed, null, {});
    return status === 204 || status === 404;
  } catch {
    return false; // the bucket's lifecycle rule removes the parts
  }
}

function refusalOf(reply, url) {
  const { status, text } = reply;
  const kind = verdictOn(status, text, url);
  const key = { again: status === 0 ? "unreachable" : "trouble", expired: "expired" }[kind] ?? "refused";
  const id = elementOf(text, "RequestId") || reply.header("x-oss-request-id");
  const values = { code: elementOf(text, "Code") || status, host: new URL(url).host, id };
  return Object.assign(new UploadError(key, kind, values), { status });
}
