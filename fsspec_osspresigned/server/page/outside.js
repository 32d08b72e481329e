// The world that a transfer needs, in a browser: requests, files, time.
import { UploadError } from "./plan.js";

const SILENCE = 60_000; // milliseconds without a byte until a request counts as lost
const ANSWER = 300_000; // ... from the last byte to the answer

/** Send a signed request; status 0 means that there was no answer. */
export function send(signed, body, { signal, progress } = {}) {
  return new Promise((resolve) => {
    const xhr = new XMLHttpRequest();
    let timer;
    const wait = (time) => {
      clearTimeout(timer);
      timer = setTimeout(() => xhr.abort(), time);
    };
    const abort = () => xhr.abort();
    const finish = (answered) => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      resolve({
        status: answered ? xhr.status : 0,
        text: answered ? xhr.responseText : "",
        header: (name) => (answered && isShown(xhr, name) ? xhr.getResponseHeader(name) : null),
      });
    };
    xhr.open(signed.method, signed.url);
    signed.headers.forEach(([name, value]) => xhr.setRequestHeader(name, value));
    xhr.upload.onprogress = ({ loaded, total }) => {
      progress?.(loaded);
      wait(loaded < total ? SILENCE : ANSWER);
    };
    xhr.upload.onload = () => wait(ANSWER);
    xhr.onload = () => finish(true);
    xhr.onerror = () => finish(false);
    xhr.onabort = () => finish(false);
    signal?.addEventListener("abort", abort);
    if (signal?.aborted) {
      finish(false);
      return;
    }
    wait(body ? SILENCE : ANSWER);
    xhr.send(signed.form ? signed.form(body) : body);
  });
}

/** Asking for a header that is not exposed would write a line to the console. */
function isShown(xhr, name) {
  const lines = xhr.getAllResponseHeaders().split("\r\n");
  return lines.some((line) => line.toLowerCase().startsWith(`${name.toLowerCase()}:`));
}

/** Reads pieces of files beside the page. */
export class Reader {
  constructor(address) {
    this.worker = new Worker(address, { type: "module" });
    this.asked = new Map();
    this.count = 0;
    this.worker.onmessage = ({ data: { id, failure, ...found } }) => {
      const { resolve, reject } = this.asked.get(id);
      this.asked.delete(id);
      if (failure) {
        reject(new UploadError("The file cannot be read, or has changed. Choose it again."));
      } else {
        resolve(found);
      }
    };
    this.worker.onerror = () => {
      const error = new UploadError("This browser cannot read the file. Use a newer one.");
      this.asked.forEach(({ reject }) => reject(error));
      this.asked.clear();
    };
  }

  /** Return a promise of the CRC, and with `keep` of the very bytes that it is of. */
  read(blob, keep) {
    this.count += 1;
    const id = this.count;
    return new Promise((resolve, reject) => {
      this.asked.set(id, { resolve, reject });
      this.worker.postMessage({ id, blob, keep });
    });
  }
}

/** Wait; shorter when the network comes back or the signal says so. */
export function sleep(time, signal) {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      window.removeEventListener("online", end);
      signal?.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, time);
    window.addEventListener("online", end);
    signal?.addEventListener("abort", end);
    if (signal?.aborted) {
      end();
    }
  });
}

/** Return the files of a drop, those in folders with their relative path. */
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const found = [];
  for (const entry of entries.filter(Boolean)) {
    if (entry instanceof File) {
      found.push({ file: entry, path: entry.name });
    } else {
      await walk(entry, found);
    }
  }
  return found;
}

async function walk(entry, found) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    found.push({ file, path: entry.fullPath.replace(/^\/+/u, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) {
      return;
    }
    for (const one of some) {
      await walk(one, found);
    }
  }
}
