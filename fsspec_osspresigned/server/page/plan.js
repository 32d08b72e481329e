// What is decided without a network and without a page: sizes, names, waits, documents.

export const MIB = 1024 * 1024;
export const SINGLE_MOST = 16 * MIB; // larger files go in parts
export const MAX_PARTS = 10_000;
const MAX_PUT = 5 * 1024 * MIB;
const USUAL_PART = 8 * MIB;
const PART_SIZES = [8, 16, 32, 64, 128, 4, 2, 1].map((size) => size * MIB);
const MAX_TRIES = 8;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 20_000;

/** An error that a person can do something about; `kind` says what the program may do. */
export class UploadError extends Error {
  constructor(message, kind = "final") {
    super(message);
    this.kind = kind;
  }
}

export const fitsOnePut = (size) => size <= MAX_PUT;
/** A form has fields before the file, and 5 GiB are for both. */
export const fitsOneForm = (size) => size <= MAX_PUT - 8 * MIB;

/** Return part sizes to propose, the usual one first; the signer's policy may refuse some. */
export function partSizes(size) {
  const least = Math.ceil(size / MAX_PARTS / MIB) * MIB;
  const usual = Math.max(USUAL_PART, least);
  return [...new Set([usual, ...PART_SIZES.filter((one) => one >= least)])];
}

/** Return the parts of a file: number, first byte and the one after the last. */
export function partsOf(size, partSize) {
  const parts = [];
  for (let start = 0; start < size; start += partSize) {
    parts.push({ number: parts.length + 1, start, end: Math.min(start + partSize, size) });
  }
  return parts;
}

/** Return bucket and folder of a text such as "bucket/folder/"; a folder ends in a slash. */
export function destinationOf(bucket, folder) {
  const clean = folder.trim();
  return { bucket: bucket.trim(), prefix: clean && !clean.endsWith("/") ? `${clean}/` : clean };
}

/** Return bucket and folder that stand behind the # of the page's address. */
export function destinationIn(hash) {
  let text = hash.replace(/^#/u, "");
  try {
    text = decodeURIComponent(text);
  } catch {
    return { bucket: "", prefix: "" };
  }
  const [bucket, ...rest] = text.split("/");
  return { bucket, prefix: rest.join("/") };
}

/** Return milliseconds before try number `tries` + 1; undefined when it is enough. */
export function waitBefore(tries, random = Math.random) {
  if (tries >= MAX_TRIES) {
    return undefined;
  }
  return Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** (tries - 1)) * (0.5 + random() / 2);
}

/** Return whether a signed request should be used no more: OSS looks at it on arrival. */
export function isStale(signed, now) {
  if (signed.ends === undefined) {
    return false;
  }
  return signed.ends - now < Math.min(30_000, signed.life / 4);
}

/** Return the text of one element of an error document; "" if there is none. */
export function elementOf(document, name) {
  const found = new RegExp(`<${name}>([^<]{0,300})</${name}>`, "u").exec(document);
  return found ? found[1] : "";
}

/** Return what a reply to *url* that is no success means: again, expired, gone, mixed, taken or final. */
export function verdictOn(status, document, url = "") {
  const code = elementOf(document, "Code");
  const message = elementOf(document, "Message");
  if (status === 0 || status === 408 || status === 429 || status >= 500) {
    return "again";
  }
  if (code === "NoSuchUpload") {
    return "gone";
  }
  if (code === "InvalidPart") {
    return "mixed";
  }
  if (code === "FileAlreadyExists") {
    return "taken";
  }
  // Keys of STS are forgotten when they end.
  const isForgotten = code === "InvalidAccessKeyId" && /[?&](x-oss-)?security-token=/iu.test(url);
  const isOver = code === "SecurityTokenExpired" || (status === 403 && /expired/iu.test(message));
  if (isForgotten || isOver) {
    return "expired";
  }
  if (status === 200 && code) {
    return "again"; // CompleteMultipartUpload may answer 200 with an error in it
  }
  return "final";
}

/** Return the body of CompleteMultipartUpload. */
export function completion(parts) {
  const rows = parts.map(
    ({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`,
  );
  return `<CompleteMultipartUpload>${rows.join("")}</CompleteMultipartUpload>`;
}

/** Return a number of bytes as people write it. */
export function bytesText(count) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[unit]}`;
}

const LEAST_MEASURED = 3000; // milliseconds before a rate means something

/** Return rate and time left of *moved* bytes in *milliseconds*; "" while that is a guess. */
export function paceText(moved, milliseconds, left) {
  if (milliseconds < LEAST_MEASURED || moved <= 0) {
    return "";
  }
  const rate = (moved / milliseconds) * 1000;
  return `, ${bytesText(rate)} a second, about ${durationText(left / rate)} left`;
}

/** Return how long something will still take, as people say it; "" if that is unknown. */
export function durationText(seconds) {
  if (!Number.isFinite(seconds)) {
    return "";
  }
  if (seconds < 90) {
    return `${Math.max(1, Math.round(seconds))} s`;
  }
  return seconds < 5400 ? `${Math.round(seconds / 60)} min` : `${Math.round(seconds / 3600)} h`;
}
