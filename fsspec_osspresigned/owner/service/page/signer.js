// Asks the signer that serves this page: signer protocol 1.
import { UploadError } from "./plan.js";

// The browser sets them itself, and only to what is true.
const BROWSERS_OWN = ["content-length", "host"];

const ADVICE = {
  action_not_granted: "notGranted",
  forbidden: "forbidden",
  header_refused: "headerRefused",
  too_large: "tooLarge",
  quota_exceeded: "quotaUsed",
  invalid_request: "badRequest",
};

/** Return a result of the protocol as a signed request; raise what it refuses. */
export function readResult({ error, method, url, headers = {} }) {
  if (error) {
    const { code = "", status = 0, detail } = error;
    if (code === "unavailable" || status >= 500 || status === 429) {
      throw new UploadError("signerBusy", "again");
    }
    throw Object.assign(new UploadError(ADVICE[code] ?? "signerRefused", "refused", { detail }), { code });
  }
  // Browsers resolve "." and ".." in an address; such a name would not be the signed one.
  const path = /^\w+:\/\/[^/?#]*([^?#]*)/u.exec(url)[1];
  if (path !== new URL(url).pathname) {
    throw new UploadError("oddName");
  }
  const sent = Object.entries(headers).filter(([name]) => !BROWSERS_OWN.includes(name.toLowerCase()));
  return { method, url, headers: sent };
}

const PRIVATE = { cache: "no-store", credentials: "omit", redirect: "error", referrerPolicy: "no-referrer" };

/** Return what a token permits; undefined if the signer has no such call. Other replies raise. */
export async function permissionsAt(address, token, fetch) {
  let reply;
  try {
    reply = await fetch(address, { ...PRIVATE, headers: { Authorization: `Bearer ${token}` } });
    if (reply.status === 200) {
      return await reply.json();
    }
  } catch {
    throw new UploadError("signerSilent", "again");
  }
  if (reply.status === 404) {
    return undefined;
  }
  throw await refusalOf(reply);
}

/** Return the error of a reply that signs nothing; of a token that is not accepted, with its reason. */
async function refusalOf(reply) {
  const { status, headers } = reply;
  if (status === 401) {
    const { detail } = await reply.json().catch(() => ({}));
    return new UploadError("tokenRefused", "token", { detail });
  }
  const kind = status === 429 || status >= 500 ? "again" : "final";
  const after = Math.min(60, Number(headers.get("Retry-After")) || 0) * 1000;
  return Object.assign(new UploadError("signerAnswered", kind, { status }), { after });
}

/** Return a function that signs one request; `token` is asked each time. */
export const signerAt = (address, token, fetch) => async (request) => {
  let reply;
  let results;
  try {
    reply = await fetch(address, {
      ...PRIVATE,
      method: "POST",
      headers: { "Content-Type": "application/json", Authorization: `Bearer ${token()}` },
      body: JSON.stringify({ requests: [request] }),
    });
    results = reply.status === 200 && (await reply.json()).results;
  } catch {
    throw new UploadError("signerSilent", "again");
  }
  if (results) {
    return readResult(results[0]);
  }
  throw await refusalOf(reply);
};
