// Asks the signer that serves this page: signer protocol 1, several requests in one call.
import { UploadError, waitBefore } from "./plan.js";

const MOST = 100;
const METHODS = {
  PutObject: "PUT",
  UploadPart: "PUT",
  InitiateMultipartUpload: "POST",
  CompleteMultipartUpload: "POST",
  AbortMultipartUpload: "DELETE",
  HeadObject: "HEAD",
};
// The browser sets them itself, and only to what is true.
const BROWSERS_OWN = ["content-length", "host"];

const ADVICE = {
  action_not_granted: "This token does not allow it. Ask whoever gave you the token.",
  forbidden: "This token does not allow writing there. Check bucket and folder.",
  header_refused: "The signer refuses a header that the upload needs.",
  too_large: "The file is larger than this token allows.",
  invalid_request: "The signer does not accept bucket, folder or file name.",
};

/** Return a result of the protocol as a signed request; raise what it refuses. */
export function readResult(result, request, sent, secure) {
  if (result.error) {
    const { code = "", detail = "" } = result.error;
    const status = result.error.status ?? 0;
    if (code === "unavailable" || status >= 500 || status === 429) {
      throw new UploadError("The signer cannot sign now. Try again later.", "again");
    }
    const advice = ADVICE[code] ?? "The signer refused.";
    const error = new UploadError(detail ? `${advice} (${detail})` : advice, "refused");
    error.code = code;
    throw error;
  }
  const wrong = new UploadError("The signer's answer is not usable. Tell its owner.");
  let url;
  try {
    url = new URL(result.url);
  } catch {
    throw wrong;
  }
  const schemes = secure ? ["https:"] : ["https:", "http:"];
  if (
    result.method !== METHODS[request.action] ||
    !schemes.includes(url.protocol) ||
    url.username ||
    url.hash
  ) {
    throw wrong;
  }
  // Browsers resolve "." and ".." in an address; such a name would not be the signed one.
  const path = /^\w+:\/\/[^/?#]*([^?#]*)/u.exec(result.url)[1];
  if (path !== url.pathname) {
    throw new UploadError(
      "A browser cannot send to this name. Use no folder that is called . or .., and only usual characters.",
    );
  }
  const headers = [];
  for (const [name, value] of Object.entries(result.headers ?? {})) {
    const lower = name.toLowerCase();
    if (!BROWSERS_OWN.includes(lower)) {
      headers.push([name, value]);
    } else if (lower === "content-length" && value !== String(request.content_length ?? 0)) {
      throw wrong;
    }
  }
  const signed = { method: result.method, url: result.url, headers };
  if (result.expires_in !== undefined) {
    signed.life = result.expires_in * 1000;
    signed.ends = sent + signed.life;
  }
  return signed;
}

/** Collects what is asked for at about the same time, and asks once. */
export class Signer {
  constructor({ address, token, fetch, sleep, now = Date.now, secure = false }) {
    Object.assign(this, { address, token, fetch, sleep, now, secure });
    this.waiting = [];
    this.most = MOST;
  }

  /** Return a promise of the signed request. */
  sign(request) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ request, resolve, reject });
      if (this.waiting.length === 1) {
        setTimeout(() => this.flush(), 0);
      }
    });
  }

  async flush() {
    const waiting = this.waiting;
    this.waiting = [];
    while (waiting.length) {
      const batch = waiting.splice(0, this.most);
      try {
        if (!(await this.ask(batch))) {
          waiting.unshift(...batch);
        }
      } catch (error) {
        batch.forEach(({ reject }) => reject(error));
      }
    }
  }

  /** Ask for one batch; return false if it has to be smaller. */
  async ask(batch) {
    const body = JSON.stringify({ requests: batch.map(({ request }) => request) });
    for (let tries = 1; ; tries += 1) {
      const sent = this.now();
      const reply = await this.call(body);
      if (reply.results) {
        if (reply.results.length !== batch.length) {
          throw new UploadError("The signer's answer is not complete. Tell its owner.");
        }
        batch.forEach(({ request, resolve, reject }, index) => {
          try {
            resolve(readResult(reply.results[index], request, sent, this.secure));
          } catch (error) {
            reject(error);
          }
        });
        return true;
      }
      if (reply.status === 401) {
        throw new UploadError(
          "The token was not accepted. Paste it again, whole and without spaces.",
          "token",
        );
      }
      if (reply.status === 413 && batch.length > 1) {
        this.most = Math.ceil(batch.length / 2);
        return false;
      }
      const wait = waitBefore(tries);
      const passing = reply.status === 0 || reply.status === 429 || reply.status >= 500;
      if (!passing || wait === undefined) {
        const what = reply.status ? `answered ${reply.status}` : "could not be reached";
        throw new UploadError(`The signer ${what}. Check the network, then try again.`);
      }
      await this.sleep(Math.max(wait, Math.min(reply.after, 60) * 1000));
    }
  }

  async call(body) {
    try {
      const reply = await this.fetch(this.address, {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token()}` },
        body,
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
      });
      if (reply.status === 200) {
        const { results } = await reply.json();
        return Array.isArray(results) ? { results } : { status: 500, after: 0 };
      }
      return { status: reply.status, after: Number(reply.headers.get("Retry-After")) || 0 };
    } catch {
      return { status: 0, after: 0 };
    }
  }
}
