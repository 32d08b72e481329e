// A grant file: one signed policy, by which whole files go below a prefix in POST forms.
// Its owner is not trusted with the key, the bucket or a public file: the rules are those of
// the Python client.
import { UploadError, fitsOneForm } from "./plan.js";
import { RANGE, allows, demand, readPolicy, timeOf } from "./policy.js";
import { bytesText } from "./texts.js";

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
const ENDPOINT = new RegExp(`^${REGION}\\.aliyuncs\\.com$`, "u");
const BUCKET_HOST = new RegExp(`^(?!s3\\.)([a-z0-9-]+)\\.(?:${REGION})\\.aliyuncs\\.com$`, "u");
const LOCAL = ".localhost";
const ADDRESS = /^(?:localhost|[\d.]+|\[.*\])$/u; // whose buckets are in the path

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
      isPublic: ["x-oss-object-acl", "acl"].some((name) => !["private", "default", undefined].includes(has[name])),
    };
    demand(["https:", "http:"].includes(url.protocol));
  } catch {
    throw new UploadError("badGrant");
  }
  if (secure && !grant.url.startsWith("https:")) {
    throw new UploadError("grantInsecure");
  }
  if (grant.ends <= now) {
    throw new UploadError("grantEnded");
  }
  return grant;
}

/** Return why the policy does not let a file go to a key; undefined if it seems to. */
function refusalOf(conditions, size, values) {
  for (const condition of conditions) {
    const { operator, name, values: wanted } = condition;
    const rule = `${operator} ${wanted.join(", ")}`;
    if (operator === RANGE) {
      if (size < wanted[0] || size > wanted[1]) {
        const [from, to] = wanted.map(bytesText);
        return refusal("grantSize", { from, to });
      }
    } else if (!Object.hasOwn(values, name) || !allows(condition, values[name])) {
      if (name === "key") {
        return refusal("grantName", { rule });
      }
      return name.endsWith("content-type") ? refusal("grantType", { rule }) : refusal("grantUnfit", { name });
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

const refusal = (key, values) => new UploadError(key, "refused", values);

/** Return why a file cannot be sent under a grant, whatever its policy says; undefined if it can. */
function problemOf(grant, bucket, key, size, now, mayPublish) {
  const bytes = new TextEncoder().encode(key).length;
  if (grant.ends <= now) {
    return refusal("grantEnded");
  }
  if (now < grant.starts - SKEW) {
    return refusal("grantEarly");
  }
  if (grant.isPublic && !mayPublish()) {
    return refusal("grantPublic");
  }
  if (bucket !== grant.bucket) {
    return refusal("grantBucket");
  }
  if (/[\r\n\p{Surrogate}]/u.test(key) || key.includes("${")) {
    return refusal("formName");
  }
  if (!bytes || bytes > MAX_KEY || /^[/\\]/u.test(key)) {
    return refusal("badName", { max: MAX_KEY });
  }
  return fitsOneForm(size) ? undefined : refusal("grantWhole");
}

/** Return a function that signs as a signer does; `mayPublish` is asked each time. */
export const grantSigner = (grant, { now = Date.now, mayPublish = () => false } = {}) =>
  async ({ action, bucket, key, content_length: size, optional_headers: wishes = {} }) => {
    if (action !== "PutObject") {
      throw Object.assign(refusal("grantWhole"), { code: "action_not_granted" });
    }
    let problem = problemOf(grant, bucket, key, size, now(), mayPublish);
    if (problem) {
      throw problem;
    }
    // The type of the file itself is no field, so that no policy can find it too many.
    const isNamed = grant.conditions.some(({ name }) => name === TYPE);
    for (const type of new Set([wishes["Content-Type"] ?? ANY_TYPE, ANY_TYPE])) {
      const own = isNamed ? { [TYPE]: type } : {};
      const fields = { key, ...statusField(grant), ...own, ...grant.fields };
      const values = { "content-type": type, ...lowerNames(fields), bucket };
      const unmet = refusalOf(grant.conditions, size, values);
      if (!unmet) {
        return { method: "POST", url: grant.url, headers: [], form: formOf(fields, type) };
      }
      problem ??= unmet;
    }
    throw problem;
  };

/** Return a function that makes the form of some bytes. */
const formOf = (fields, type) => (body) => {
  const data = new FormData();
  Object.entries(fields).forEach(([name, value]) => data.append(name, value));
  data.append(FILE, new Blob([body], { type }), FILE);
  return data;
};
