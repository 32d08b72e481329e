// A grant file: one signed policy, by which whole files go below a prefix in POST forms.
import { UploadError, bytesText, fitsOnePut } from "./plan.js";

const TYPE = "x-oss-content-type"; // what OSS stores; it wins over the file's own type
const FILE = "file"; // the field with the bytes, which OSS wants last
const UNUSABLE = "This is no grant file, or not a whole one. Ask its owner for it again.";

/** Return a text or list of texts with "$" for the "\$" that a policy has instead. */
const plain = (value) =>
  Array.isArray(value) ? value.map(plain) : value.replaceAll("\\$", "$");

/** Return the conditions of a policy as [operator, field, value], fields in lower case. */
function conditionsOf(text) {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const written = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  // Some write it with one backslash, which is no JSON.
  const policy = JSON.parse(written.split("\\\\").map(plain).join("\\\\"));
  const ends = Date.parse(policy.expiration);
  if (!Number.isFinite(ends)) {
    throw new TypeError("no end");
  }
  const conditions = policy.conditions.flatMap((one) =>
    Array.isArray(one) ? [one] : Object.entries(one).map(([name, value]) => ["eq", name, value]),
  );
  const named = conditions.map(([operator, first, ...rest]) =>
    operator === "content-length-range"
      ? [operator, "", [first, ...rest]]
      : [operator, String(first).replace(/^\$/u, "").toLowerCase(), plain(rest[0])],
  );
  return { ends, conditions: named };
}

/** Return a grant of the text of its file; raise what makes it of no use here. */
export function readGrant(text, { secure = false, now = Date.now() } = {}) {
  let grant;
  try {
    const { version, url, bucket, prefix = "", fields } = JSON.parse(text);
    const isWhole = version === 1 && Object.values(fields).every((value) => typeof value === "string");
    grant = { url: new URL(url), bucket: String(bucket), prefix: String(prefix), fields };
    Object.assign(grant, conditionsOf(fields.policy));
    if (!isWhole || grant.url.username || grant.url.search || grant.url.hash) {
      throw new TypeError("not the shape");
    }
  } catch {
    throw new UploadError(UNUSABLE);
  }
  if (!(secure ? ["https:"] : ["https:", "http:"]).includes(grant.url.protocol)) {
    throw new UploadError("This page sends by https alone, and the grant leads elsewhere.");
  }
  if (grant.ends <= now) {
    throw new UploadError("The grant has ended. Ask its owner for a new one.");
  }
  return grant;
}

/** Return why the policy does not let a file go to a key; undefined if it seems to. */
function refusalOf(conditions, size, values) {
  for (const [operator, name, wanted] of conditions) {
    const found = values[name];
    const named = [wanted].flat().join(", ");
    if (operator === "content-length-range") {
      if (size < wanted[0] || size > wanted[1]) {
        return `The grant takes files of ${wanted.map(bytesText).join(" to ")}.`;
      }
    } else if (
      found === undefined ||
      (operator === "eq" && found !== wanted) ||
      (operator === "starts-with" && !found.startsWith(wanted)) ||
      (operator === "in" && !wanted.includes(found)) ||
      (operator === "not-in" && wanted.includes(found))
    ) {
      if (name === "key") {
        return `The grant does not allow this name: ${operator} ${named}.`;
      }
      return name.endsWith("content-type")
        ? `The grant does not allow files of this type: ${operator} ${named}.`
        : `The grant does not fit this page (${name}). Tell its owner.`;
    }
  }
  return undefined;
}

/** Signs as a signer does, by the one signature of a grant. */
export class GrantSigner {
  constructor(grant, now = Date.now) {
    Object.assign(this, { grant, now });
    this.life = grant.ends - now();
  }

  async sign({ action, bucket, key, content_length: size, optional_headers: wishes = {} }) {
    const { url, ends, conditions } = this.grant;
    const refuse = (message, code) => {
      throw Object.assign(new UploadError(message, "refused"), { code });
    };
    if (action !== "PutObject") {
      refuse("A grant takes whole files only, of 5 GiB at most.", "action_not_granted");
    }
    if (ends <= this.now()) {
      refuse("The grant has ended. Choose a new one.");
    }
    if (/[\r\n]/u.test(key) || key.includes("${")) {
      refuse("A form would change this name. Rename the file.");
    }
    const fields = { key, ...this.grant.fields };
    const lower = () =>
      Object.fromEntries(Object.entries(fields).map(([name, value]) => [name.toLowerCase(), value]));
    // The type of the file itself is no field, so that no policy can find it too many.
    const type = wishes["Content-Type"] ?? "application/octet-stream";
    if (conditions.some(([, name]) => name === TYPE) && !(TYPE in lower())) {
      fields[TYPE] = type;
    }
    const refusal =
      bucket === this.grant.bucket
        ? refusalOf(conditions, size, { "content-type": type, ...lower(), bucket })
        : "The grant is for another bucket.";
    if (refusal) {
      refuse(refusal);
    }
    const form = (body) => {
      const data = new FormData();
      Object.entries(fields).forEach(([name, value]) => data.append(name, value));
      data.append(FILE, new Blob([body], { type }), FILE);
      return data;
    };
    return { method: "POST", url: url.href, headers: [], form, life: this.life, ends };
  }
}
