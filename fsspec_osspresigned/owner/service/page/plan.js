// What is decided without a network and without a page: sizes, names, waits, documents.

export const MIB = 1024 * 1024;
export const MAX_SINGLE = 16 * MIB; // larger files go in parts
export const MAX_PARTS = 10_000;
const MAX_PUT = 5 * 1024 * MIB;
const USUAL_PART = 8 * MIB;
const PART_SIZES = [8, 16, 32, 64, 128, 4, 2, 1].map((size) => size * MIB);
const FIRST_WAIT = 500;
const MAX_WAIT = 20_000;

/** An error with the key of its text; `kind` says what the program may do about it. */
export class UploadError extends Error {
  constructor(key, kind = "final", values = {}) {
    super(key);
    Object.assign(this, { kind, values });
  }
}

export const fitsOnePut = (size) => size <= MAX_PUT;
/** A form has fields before the file, and 5 GiB are for both. */
export const fitsOneForm = (size) => size <= MAX_PUT - 8 * MIB;

/** Return part sizes to propose, the usual one first; the signer's policy may refuse some. */
export function partSizes(size) {
  const smallest = Math.ceil(size / MAX_PARTS / MIB) * MIB;
  const usual = Math.max(USUAL_PART, smallest);
  return [...new Set([usual, ...PART_SIZES.filter((partSize) => partSize >= smallest)])];
}

/** Return the parts of a file: number, start and end (exclusive) in bytes. */
export const partsOf = (size, partSize) =>
  Array.from({ length: Math.ceil(size / partSize) }, (_, index) => ({
    number: index + 1,
    start: index * partSize,
    end: Math.min((index + 1) * partSize, size),
  }));

/** Return the bucket and the prefix of two fields; a folder ends in a slash. */
export function destinationOf(bucket, folder) {
  const clean = folder.trim();
  return { bucket: bucket.trim(), prefix: clean && !clean.endsWith("/") ? `${clean}/` : clean };
}

/** Return token, bucket and folder that stand after the # of the page's address. */
export function destinationIn(hash) {
  const [, token = "", place] = /^#?(?:token=([^&]*)&?)?(.*)$/su.exec(hash);
  try {
    const [bucket, ...rest] = decodeURIComponent(place).split("/");
    return { token, bucket, prefix: rest.join("/") };
  } catch {
    return { token, bucket: "", prefix: "" };
  }
}

/** Return milliseconds to wait after so many failures. */
export const waitAfter = (failures, random = Math.random) =>
  Math.min(MAX_WAIT, FIRST_WAIT * 2 ** (failures - 1)) * (0.5 + random() / 2);

/** Return the text of one element of an XML document; "" if there is none. */
export const elementOf = (document, name) =>
  new RegExp(`<${name}>([^<]{0,300})</${name}>`, "u").exec(document)?.[1] ?? "";

/** Return what a reply to *url* that is no success means: again, expired, gone, mixed, taken or final. */
export function verdictOn(status, document, url = "") {
  const code = elementOf(document, "Code");
  if (status === 0 || status === 408 || status === 429 || status >= 500) {
    return "again";
  }
  const known = { NoSuchUpload: "gone", InvalidPart: "mixed", FileAlreadyExists: "taken" }[code];
  if (known) {
    return known;
  }
  // Keys of STS are forgotten when they end.
  const isForgotten = code === "InvalidAccessKeyId" && /[?&](x-oss-)?security-token=/iu.test(url);
  const isOver = status === 403 && /expired/iu.test(elementOf(document, "Message"));
  if (isForgotten || isOver || code === "SecurityTokenExpired") {
    return "expired";
  }
  return status === 200 ? "again" : "final"; // CompleteMultipartUpload may answer 200 with an error in it
}

/** Return the body of CompleteMultipartUpload. */
export function completion(parts) {
  const rows = parts.map(({ number, etag }) => `<Part><PartNumber>${number}</PartNumber><ETag>${etag}</ETag></Part>`);
  return `<CompleteMultipartUpload>${rows.join("")}</CompleteMultipartUpload>`;
}
