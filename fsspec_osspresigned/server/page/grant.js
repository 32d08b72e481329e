// A grant file: one signed policy, by which whole files go below a prefix in POST forms.
// Its owner is not trusted with the key, the bucket or a public file: the rules are those of
// the Python client.
import { UploadError, bytesText, fitsOneForm } from "./plan.js";
import { RANGE, allows, demand, readPolicy, timeOf } from "./policy.js";

const TYPE = "x-oss-content-type"; // what OSS stores; it wins over the file's own type
const ANY_TYPE = "application/octet-stream";
const STATUS = "success_action_status";
const STATUSES = ["200", "204", "201"]; // what OSS can answer to a stored form
const FILE = "file"; // the field with the bytes, which OSS wants last
// Fields that the page fills in itself, and one that proves no upload.
const REPLACED = ["key", FILE, "bucket", "success_action_redirect"];

const ALGORITHM = "OSS4-HMAC-SHA256";
const TERMINATOR = "aliyun_v4_request";
const V4 = ["x-oss-signature-version", "x-oss-credential", "x-oss-date"];
const MAX_V4_LIFE = 7 * 24 * 3_600_000; // milliseconds
const SKEW = 15 * 60_000; // milliseconds that two clocks may differ
const MAX_KEY = 1023; // bytes

const BUCKET = /^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/u;
const REGION = "(?:oss-[a-z0-9-]+|[a-z]{2}-[a-z0-9-]+\\.oss(?:-internal)?)";
const BOX = "cb-[a-z0-9-]+\\.[a-z0-9-]+\\.oss-cloudbox";
const ENDPOINT = new RegExp(`^${REGION}\\.aliyuncs\\.com$`, "u");
const BUCKET_HOST = new RegExp(`^(?!s3\\.)([a-z0-9-]+)\\.(?:${REGION}|${BOX})\\.aliyuncs\\.com$`, "u");
const LOCAL = ".localhost";
const ADDRESS = /^(?:localhost|[\d.]+|\[.*\])$/u; // whose buckets are in the path

const TOO_LARGE = "A grant takes whole files only, of 5 GiB less 8 MiB at most.";
const UNUSABLE = "This is no grant file, or not a whole one. Ask its owner for it again.";

/** Return fields by their names in lower case, as OSS compares them. */
const lowerNames = (fields) =>
  Object.entries(fields).reduce(
    (lower, [name, value]) => Object.assign(lower, { [name.toLowerCase()]: value }),
    Object.create(null),
  );

/** Return the fields that are sent as they are, each once. */
function fieldsOf(given, conditions) {
  const fields = new Map();
  for (const [name, value] of Object.entries(given)) {
    demand(typeof value === "string");
    const lower = name.toLowerCase();
    fields.set(lower, [lower.startsWith("x-oss-") ? lower : name, value]);
  }
  // A field that can have one value only need not be handed out.
  for (const { operator, name, values } of conditions) {
    if (["eq", "in"].includes(operator) && values.length === 1 && !fields.has(name)) {
      fields.set(name, [name, values[0]]);
    }
  }
  REPLACED.forEach((name) => fields.delete(name));
  return Object.fromEntries(fields.values());
}

/** Return the first moment of a signature; raise if OSS would refuse its fields. */
function startOf(has, conditions) {
  if ("ossaccesskeyid" in has && !(V4[1] in has)) {
    demand(has.signature);
    return 0;
  }
  const [version, credential, date] = V4.map((name) => has[name]);
  demand(has["x-oss-signature"] && version === ALGORITHM && credential && date);
  const [day, , , end] = credential.split("/").slice(-4);
  demand(end === TERMINATOR && day.length === 8 && date.startsWith(day));
  demand(V4.every((name) => conditions.some((condition) => condition.name === name)));
  return timeOf(date.replace(/^(....)(..)(..)T(..)(..)(..)Z$/u, "$1-$2-$3T$4:$5:$6Z"));
}

/** Return the root of a bucket at a URL; raise if the URL is for another one, or no root. */
function rootOf(url, bucket) {
  const { hostname, pathname } = url;
  const isEndpoint = ENDPOINT.test(hostname);
  let path = pathname.slice(1);
  let seen = BUCKET_HOST.exec(hostname)?.[1];
  if (hostname.endsWith(LOCAL)) {
    seen = hostname.slice(0, -LOCAL.length);
  }
  const isInPath = isEndpoint || ADDRESS.test(hostname);
  if (isInPath) {
    [, seen, path] = /^([^/]*)(.*)$/u.exec(path);
  }
  demand(/^\/*$/u.test(path) && (seen || bucket) === bucket);
  if (isEndpoint) {
    return `${url.protocol}//${bucket}.${url.host}/`;
  }
  return isInPath ? `${url.origin}/${bucket}/` : `${url.origin}/`;
}

/** Return a grant of the text of its file; raise what makes it of no use here. */
export function readGrant(text, { secure = false, now = Date.now() } = {}) {
  let grant;
  try {
    const { version, url: address, bucket, prefix = "", expires, fields: given } = JSON.parse(text);
    const url = new URL(address);
    demand(version === 1 && BUCKET.test(bucket) && typeof prefix === "string");
    demand(!url.username && !/[?#]/u.test(address));
    const { ends, conditions } = readPolicy(given.policy);
    const fields = fieldsOf(given, conditions);
    const has = lowerNames(fields);
    const starts = startOf(has, conditions);
    grant = {
      url: rootOf(url, bucket),
      bucket,
      prefix,
      fields,
      conditions,
      starts,
      ends: Math.min(
        ends,
        starts ? starts + MAX_V4_LIFE : Infinity,
        expires === undefined ? Infinity : timeOf(expires),
      ),
      // Whether everybody can read what is stored.
      isPublic: ["x-oss-object-acl", "acl"].some((name) => has[name]?.startsWith("public")),
    };
    demand(["https:", "http:"].includes(url.protocol));
  } catch {
    throw new UploadError(UNUSABLE);
  }
  if (secure && !grant.url.startsWith("https:")) {
    throw new UploadError("This page sends by https alone, and the grant leads elsewhere.");
  }
  if (grant.ends <= now) {
    throw new UploadError("The grant has ended. Ask its owner for a new one.");
  }
  return grant;
}

/** Return why the policy does not let a file go to a key; undefined if it seems to. */
function refusalOf(conditions, size, values) {
  for (const condition of conditions) {
    const { operator, name, values: wanted } = condition;
    const named = wanted.join(", ");
    if (operator === RANGE) {
      if (size < wanted[0] || size > wanted[1]) {
        return `The grant takes files of ${wanted.map(bytesText).join(" to ")}.`;
      }
    } else if (!Object.hasOwn(values, name) || !allows(condition, values[name])) {
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

/** Return a field with a status of success, if the policy wants one that the grant lacks. */
function statusField({ conditions, fields }) {
  const named = conditions.filter(({ name }) => name === STATUS);
  const status = STATUSES.find((value) => named.every((condition) => allows(condition, value)));
  return !named.length || !status || STATUS in lowerNames(fields) ? {} : { [STATUS]: status };
}

/** Return why no form can store a file of a name; undefined if one can. */
function problemOf(key, size) {
  const bytes = new TextEncoder().encode(key).length;
  if (/[\r\n\p{Surrogate}]/u.test(key) || key.includes("${")) {
    return "A form would change this name. Rename the file.";
  }
  if (!bytes || bytes > MAX_KEY || /^[/\\]/u.test(key)) {
    return `A name has at most ${MAX_KEY} bytes, and does not begin with a slash. Rename the file.`;
  }
  return fitsOneForm(size) ? undefined : TOO_LARGE;
}

/** Signs as a signer does, by the one signature of a grant; `mayPublish` is asked each time. */
export class GrantSigner {
  constructor(grant, { now = Date.now, mayPublish = () => false } = {}) {
    Object.assign(this, { grant, now, mayPublish });
    this.life = grant.ends - now();
  }

  async sign({ action, bucket, key, content_length: size, optional_headers: wishes = {} }) {
    const { url, starts, ends, conditions } = this.grant;
    const refuse = (message, code) => {
      throw Object.assign(new UploadError(message, "refused"), { code });
    };
    if (action !== "PutObject") {
      refuse(TOO_LARGE, "action_not_granted");
    }
    if (ends <= this.now()) {
      refuse("The grant has ended. Choose a new one.");
    }
    if (this.now() < starts - SKEW) {
      refuse("The grant is not valid yet. Check the clock of this device.");
    }
    if (this.grant.isPublic && !this.mayPublish()) {
      refuse("The grant lets everybody read the files. Tick the box below the grant if they may.");
    }
    const problem = bucket === this.grant.bucket ? problemOf(key, size) : "The grant is for another bucket.";
    if (problem) {
      refuse(problem);
    }
    // The type of the file itself is no field, so that no policy can find it too many.
    const isNamed = conditions.some(({ name }) => name === TYPE);
    let refusal;
    for (const type of new Set([wishes["Content-Type"] ?? ANY_TYPE, ANY_TYPE])) {
      const own = isNamed ? { [TYPE]: type } : {};
      const fields = { key, ...statusField(this.grant), ...own, ...this.grant.fields };
      const unmet = refusalOf(conditions, size, { "content-type": type, ...lowerNames(fields), bucket });
      if (!unmet) {
        return { method: "POST", url, headers: [], form: formOf(fields, type), life: this.life, ends };
      }
      refusal ??= unmet;
    }
    return refuse(refusal);
  }
}

/** Return a function that makes the form of some bytes. */
const formOf = (fields, type) => (body) => {
  const data = new FormData();
  Object.entries(fields).forEach(([name, value]) => data.append(name, value));
  data.append(FILE, new Blob([body], { type }), FILE);
  return data;
};
