// What is needed to go on after a reload: never a URL, never a token.

const NAME = "osspresigned.uploads";
const OLDEST = 30 * 24 * 3600 * 1000;

/** Return the name under which an upload is kept: where it goes, and which file it is. */
export function fingerprint(target, file) {
  return JSON.stringify([target.bucket, target.key, file.name, file.size, file.lastModified]);
}

/** Uploads under way, in a Storage; when there is none or it is full, nothing is kept. */
export class Journal {
  constructor(storage, now = Date.now) {
    this.storage = storage;
    this.now = now;
  }

  all() {
    let found;
    try {
      found = JSON.parse(this.storage.getItem(NAME)) ?? {};
    } catch {
      return {};
    }
    const entries = Object.entries(found).filter(([, one]) => this.now() - one.at < OLDEST);
    return Object.fromEntries(entries);
  }

  get(name) {
    return this.all()[name];
  }

  put(name, entry) {
    this.write({ ...this.all(), [name]: { ...entry, at: this.now() } });
  }

  /** Remember a part, unless the upload was forgotten meanwhile. */
  addPart(name, uploadId, number, part) {
    const entry = this.get(name);
    if (entry?.uploadId === uploadId) {
      this.put(name, { ...entry, parts: { ...entry.parts, [number]: part } });
    }
  }

  remove(name) {
    const { [name]: _, ...rest } = this.all();
    this.write(rest);
  }

  write(entries) {
    try {
      this.storage.setItem(NAME, JSON.stringify(entries));
    } catch {
      // A full or forbidden store costs only the resumption.
    }
  }
}
