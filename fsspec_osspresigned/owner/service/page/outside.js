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
    xhr.open(signed.method, signed.url);
    signed.headers.forEach(([name, value]) => xhr.setRequestHeader(name, value));
    xhr.upload.onprogress = ({ loaded, total }) => {
      progress?.(loaded);
      wait(loaded < total ? SILENCE : ANSWER);
    };
    xhr.upload.onload = () => wait(ANSWER);
    xhr.onloadend = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      // Asking the request for a header that is not exposed would write a line to the console.
      const lines = xhr.getAllResponseHeaders().split("\r\n").filter(Boolean);
      const headers = new Headers(lines.map((line) => /^([^:]+): ?(.*)$/u.exec(line).slice(1)));
      resolve({ status: xhr.status, text: xhr.responseText, header: (name) => headers.get(name) });
    };
    signal?.addEventListener("abort", abort);
    wait(body ? SILENCE : ANSWER);
    xhr.send(signed.form ? signed.form(body) : body);
  });
}

/** Reads pieces of files beside the page. */
export class Reader {
  constructor(address) {
    this.worker = new Worker(address, { type: "module" });
    this.asked = new Map();
    this.count = 0;
    this.worker.onmessage = ({ data: { id, failure, ...piece } }) => {
      const { resolve, reject } = this.asked.get(id);
      this.asked.delete(id);
      if (failure) {
        reject(new UploadError("unreadable"));
      } else {
        resolve(piece);
      }
    };
    this.worker.onerror = () => {
      this.asked.forEach(({ reject }) => reject(new UploadError("oldBrowser")));
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

/** Wait; the signal ends it. */
export function sleep(time, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, time);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

/** Return the files of a drop, those in folders with their relative path. */
export async function droppedFiles(transfer) {
  const items = [...transfer.items].filter(({ kind }) => kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
  const files = [];
  for (const entry of entries.filter(Boolean)) {
    if (entry instanceof File) {
      files.push({ file: entry, path: entry.name });
    } else {
      await walk(entry, files);
    }
  }
  return files;
}

async function walk(entry, files) {
  if (entry.isFile) {
    const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
    files.push({ file, path: entry.fullPath.replace(/^\/+/u, "") });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const entries = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!entries.length) {
      return;
    }
    for (const child of entries) {
      await walk(child, files);
    }
  }
}
