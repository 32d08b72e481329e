// One file on its way: in one request or in parts, each byte checked, each failure judged.
import { combine } from "./crc64.js";
import { fingerprint } from "./journal.js";
import {
  SINGLE_MOST,
  UploadError,
  completion,
  elementOf,
  fitsOnePut,
  isStale,
  partSizes,
  partsOf,
  verdictOn,
  waitBefore,
} from "./plan.js";

const CRC_HEADER = "x-oss-hash-crc64ecma";
const LANES = 4;
const AHEAD = 3;
const MOST_SIGNED_AGAIN = 3;
const MOST_DAMAGED = 3;

const NOT_SHOWN =
  "The bucket's CORS rule does not let this page read the store's checksums. " +
  "Its owner must expose ETag and x-oss-hash-crc64ecma.";
const TAKEN =
  "An object of this name is there already and must not be replaced. Choose another folder or name.";
const UNKNOWN =
  "The store's last answer was lost, and this token may not look at objects. The file is most " +
  "likely stored: ask the owner of the bucket, or upload it again.";
const CANCELLED = new UploadError("Cancelled.", "cancelled");

/** Lets so many go on at the same time; the others wait in order. */
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
      const next = this.waiting.shift();
      if (next) {
        next();
      } else {
        this.free += 1;
      }
    }
  }
}

/**
 * One upload. `outside` is what it needs of the world: sign(request), send(signed, body,
 * {progress, signal}), read(blob, keep), sleep(ms, signal), journal, slots, now.
 */
export class Transfer {
  constructor(file, target, outside, changed = () => {}) {
    Object.assign(this, { file, target, outside, changed });
    this.name = fingerprint(target, file);
    this.size = file.size;
    this.moving = new Map(); // part number -> bytes that are out
    this.cancelled = false;
    this.crc = undefined;
    this.forget();
  }

  forget() {
    this.uploadId = undefined;
    this.partSize = undefined;
    this.done = new Map(); // part number -> {etag, crc}
    this.proved = new Set(); // those of this file's bytes
    this.signed = new Map(); // part number -> promise of a signed request
    this.settled = 0;
  }

  get sent() {
    let sum = this.settled;
    for (const bytes of this.moving.values()) {
      sum += bytes;
    }
    return Math.min(sum, this.size);
  }

  /** Return when the object is stored and checked; raise an UploadError otherwise. */
  async run() {
    this.cancelled = false;
    try {
      if (this.size <= SINGLE_MOST) {
        await this.single();
      } else {
        await this.multi();
      }
    } catch (error) {
      this.moving.clear();
      if (this.cancelled || (this.uploadId && !this.done.size && error.kind !== "token")) {
        await this.abort();
      }
      throw this.cancelled ? CANCELLED : error;
    }
  }

  cancel() {
    this.cancelled = true;
    this.stop?.abort();
  }

  begin() {
    if (this.cancelled) {
      throw CANCELLED;
    }
    this.stop = new AbortController();
  }

  request(action, more = {}) {
    return { action, ...this.target, ...more };
  }

  wishes() {
    return this.file.type ? { optional_headers: { "Content-Type": this.file.type } } : {};
  }

  // -- one request ---------------------------------------------------------------------

  async single() {
    this.begin();
    const whole = this.file.slice(0, this.size); // without a type: no header of its own
    await this.outside.slots.hold(async () => {
      const { crc, buffer } = await this.outside.read(whole, this.size <= SINGLE_MOST);
      const request = this.request("PutObject", { content_length: this.size, ...this.wishes() });
      const sign = () => this.outside.sign(request);
      const lost = { reply: false };
      try {
        await this.checked(sign, buffer ?? whole, 1, crc, lost);
      } catch (error) {
        if (error.kind !== "taken") {
          throw error;
        }
        await this.prove(crc, lost.reply ? UNKNOWN : TAKEN);
      }
      this.crc = crc;
      this.settled = this.size;
    });
  }

  /** Send until the store holds what was sent; a damaged body is sent again. */
  async checked(sign, body, number, crc, lost) {
    for (let damaged = 1; ; damaged += 1) {
      const reply = await this.perform(sign, body, { number, lost });
      const stated = reply.header(CRC_HEADER);
      if (stated === null) {
        throw new UploadError(NOT_SHOWN);
      }
      if (stated === String(crc)) {
        return reply;
      }
      if (damaged === MOST_DAMAGED) {
        throw new UploadError("The bytes arrive damaged. Try another network or computer.");
      }
    }
  }

  // -- parts ---------------------------------------------------------------------------

  async multi() {
    const entry = this.outside.journal.get(this.name);
    if (entry && !this.uploadId) {
      this.uploadId = entry.uploadId;
      this.partSize = entry.partSize;
      this.done = new Map(Object.entries(entry.parts).map(([n, part]) => [Number(n), part]));
    }
    for (let again = false; ; again = true) {
      this.begin();
      try {
        if (!this.uploadId && !(await this.initiate())) {
          await this.single();
          return;
        }
        await this.sendParts();
        await this.complete();
        this.outside.journal.remove(this.name);
        return;
      } catch (error) {
        if (error.kind !== "gone" && error.kind !== "mixed") {
          throw error;
        }
        await this.abort();
        if (again) {
          throw new UploadError("The store dropped the upload twice. Try again.");
        }
      }
    }
  }

  /** Open an upload; return false if the signer signs none and one request will do. */
  async initiate() {
    const request = this.request("InitiateMultipartUpload", this.wishes());
    let reply;
    try {
      reply = await this.perform(() => this.outside.sign(request), null);
    } catch (error) {
      if (error.code === "action_not_granted" && fitsOnePut(this.size)) {
        return false;
      }
      throw error;
    }
    this.uploadId = elementOf(reply.text, "UploadId");
    if (!this.uploadId) {
      throw new UploadError("The store's answer is not usable. Try again.");
    }
    this.partSize = await this.agreedPartSize();
    const { uploadId, partSize } = this;
    this.outside.journal.put(this.name, { uploadId, partSize, target: this.target, parts: {} });
    return true;
  }

  /** Have two parts signed first: what the policy refuses is refused before any byte. */
  async agreedPartSize() {
    const [usual, ...others] = partSizes(this.size);
    const sign = (size) => {
      const parts = partsOf(this.size, size);
      return Promise.all([this.signPart(parts[0]), this.signPart(parts.at(-1))]);
    };
    try {
      await sign(usual);
      return usual;
    } catch (error) {
      if (error.code !== "too_large") {
        throw error;
      }
      const tried = await Promise.allSettled(others.map(sign));
      const found = tried.findIndex(({ status }) => status === "fulfilled");
      if (found < 0) {
        throw error;
      }
      return others[found];
    }
  }

  signPart({ number, start, end }) {
    return this.outside.sign(
      this.request("UploadPart", {
        upload_id: this.uploadId,
        part_number: number,
        content_length: end - start,
      }),
    );
  }

  /** Return the signature of a part; ask for those of the next ones in the same call. */
  async signedPart(part, parts) {
    const known = await this.signed.get(part.number)?.catch(() => undefined);
    if (known && !isStale(known, this.outside.now())) {
      return known;
    }
    this.signed.delete(part.number);
    const next = parts.slice(part.number, part.number + AHEAD);
    for (const one of [part, ...next.filter(({ number }) => !this.done.has(number))]) {
      if (!this.signed.has(one.number)) {
        const promise = this.signPart(one);
        promise.catch(() => this.signed.delete(one.number));
        this.signed.set(one.number, promise);
      }
    }
    return this.signed.get(part.number);
  }

  async sendParts() {
    const parts = partsOf(this.size, this.partSize);
    const left = parts.filter(({ number }) => !this.proved.has(number));
    let failure;
    const lane = async () => {
      while (left.length && !failure) {
        const part = left.shift();
        try {
          await this.outside.slots.hold(() => this.sendPart(part, parts));
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

  async sendPart(part, parts) {
    const { number, start, end } = part;
    this.check();
    const { crc, buffer } = await this.outside.read(this.file.slice(start, end), true);
    this.check();
    // Name, size and date of a file may be right and its bytes others.
    if (this.done.get(number)?.crc !== String(crc)) {
      const lost = { reply: false };
      const sign = () => this.signedPart(part, parts);
      const reply = await this.checked(sign, buffer, number, crc, lost);
      const etag = reply.header("ETag");
      if (etag === null) {
        throw new UploadError(NOT_SHOWN);
      }
      const stored = { etag, crc: String(crc) };
      this.done.set(number, stored);
      this.outside.journal.addPart(this.name, this.uploadId, number, stored);
    }
    this.proved.add(number);
    this.signed.delete(number);
    this.moving.delete(number);
    this.settled += end - start;
    this.changed();
  }

  async complete() {
    const parts = partsOf(this.size, this.partSize);
    const named = parts.map(({ number }) => ({ number, etag: this.done.get(number).etag }));
    const crc = parts.reduce(
      (sum, { number, start, end }) =>
        combine(sum, BigInt(this.done.get(number).crc), end - start),
      0n,
    );
    const body = new Blob([completion(named)]);
    const request = this.request("CompleteMultipartUpload", {
      upload_id: this.uploadId,
      content_length: body.size,
    });
    this.crc = crc;
    let reply;
    try {
      reply = await this.perform(() => this.outside.sign(request), body);
    } catch (error) {
      // Browsers send a request again by themselves when a connection breaks. So the store
      // may have done it already, and this is its answer to the second one.
      if (error.kind === "gone") {
        await this.prove(crc, UNKNOWN);
        return;
      }
      if (error.kind === "taken") {
        await this.prove(crc, TAKEN);
        await this.abort();
        return;
      }
      throw error;
    }
    const stated = reply.header(CRC_HEADER);
    if (stated !== null && stated !== String(crc)) {
      this.outside.journal.remove(this.name);
      this.forget();
      throw new UploadError("The object in the store differs from the file. Upload it again.");
    }
  }

  /** Close the upload in the store, as far as the signer lets us. */
  async abort() {
    const { uploadId } = this;
    this.outside.journal.remove(this.name);
    this.forget();
    if (uploadId) {
      await closeUpload(this.outside, this.target, uploadId);
    }
  }

  // -- every request -------------------------------------------------------------------

  check() {
    if (this.cancelled || this.stop.signal.aborted) {
      throw CANCELLED;
    }
  }

  /** Look whether the object is there with our bytes; `otherwise` is for who may not look. */
  async prove(crc, otherwise) {
    let reply;
    try {
      const request = this.request("HeadObject");
      reply = await this.perform(() => this.outside.sign(request), null);
    } catch (error) {
      if (error.kind === "refused" || error.status === 403) {
        await this.abort();
        throw new UploadError(otherwise);
      }
      throw error.status === 404 ? new UploadError("Not stored. Try again.", "gone") : error;
    }
    const stated = reply.header(CRC_HEADER);
    if (stated !== String(crc)) {
      await this.abort();
      throw new UploadError(stated === null ? otherwise : TAKEN);
    }
  }

  /** Sign, send and judge until there is a success, or nothing left to try. */
  async perform(sign, body, { number = 0, lost = {} } = {}) {
    let signedAgain = 0;
    for (let tries = 1; ; tries += 1) {
      this.check();
      const error = await this.attempt(sign, body, number);
      if (!(error instanceof UploadError)) {
        return error;
      }
      this.moving.delete(number);
      this.changed();
      this.check();
      if (error.kind === "expired" && signedAgain < MOST_SIGNED_AGAIN) {
        signedAgain += 1;
        tries -= 1;
        this.signed.delete(number);
        continue;
      }
      const wait = error.kind === "again" ? waitBefore(tries) : undefined;
      lost.reply ||= error.kind === "again" && error.status !== undefined;
      if (wait === undefined) {
        throw error;
      }
      this.changed(`Waiting to try again (${tries})`);
      await this.outside.sleep(wait, this.stop.signal);
      this.changed();
    }
  }

  /** Return a reply that is a success, or the error. */
  async attempt(sign, body, number) {
    try {
      const signed = await sign();
      this.check();
      const reply = await this.outside.send(signed, body, {
        signal: this.stop.signal,
        progress: (bytes) => {
          if (number) {
            this.moving.set(number, bytes);
            this.changed();
          }
        },
      });
      const isSuccess = reply.status >= 200 && reply.status < 300;
      if (isSuccess && !elementOf(reply.text, "Code")) {
        return reply;
      }
      return refusalOf(reply, signed.url);
    } catch (error) {
      if (error instanceof UploadError) {
        return error;
      }
      throw error;
    }
  }
}

/** Abort an upload as far as the signer lets us; return whether the store said yes. */
export async function closeUpload(outside, target, uploadId) {
  try {
    const request = { action: "AbortMultipartUpload", ...target, upload_id: uploadId };
    const reply = await outside.send(await outside.sign(request), null, {});
    return reply.status === 204 || reply.status === 404;
  } catch {
    return false; // the bucket's lifecycle rule has the last word
  }
}

function refusalOf(reply, url) {
  const kind = verdictOn(reply.status, reply.text, url);
  const code = elementOf(reply.text, "Code");
  const id = elementOf(reply.text, "RequestId") || reply.header("x-oss-request-id");
  let text = `The store refused (${code || reply.status}). Tell the owner of the bucket.`;
  if (reply.status === 0) {
    text =
      `${new URL(url).host} could not be reached. Check the network, then try again. If it never works, ` +
      "the bucket needs a CORS rule for this page.";
  } else if (kind === "again") {
    text = `The store has trouble (${code || reply.status}). Try again later.`;
  } else if (kind === "expired") {
    text = "The store says that each new permission has expired. Tell the owner of the signer.";
  }
  const error = new UploadError(id ? `${text} Request ${id}.` : text, kind);
  error.status = reply.status;
  return error;
}
