// What is needed to resume after a reload: never a URL, never a token.

const NAME = "osspresigned.uploads";
const MAX_AGE = 30 * 24 * 3600 * 1000; // milliseconds

/** Return the name under which an upload is kept: where it goes, and which file it is. */
export const fingerprint = ({ bucket, key }, { name, size, lastModified }) =>
  JSON.stringify([bucket, key, name, size, lastModified]);

/** Uploads under way, in a Storage; without one, or in a full one, nothing is kept. */
export class Journal {
  constructor(storage, now = Date.now) {
    Object.assign(this, { storage, now });
  }

  all() {
    try {
      const entries = Object.entries(JSON.parse(this.storage.getItem(NAME)) ?? {});
      return Object.fromEntries(entries.filter(([, { at }]) => this.now() - at < MAX_AGE));
    } catch {
      return {};
    }
  }

  get(name) {
    return this.all()[name];
  }

  /** Keep an entry; undefined removes it. */
  put(name, entry) {
    try {
      const kept = { ...this.all(), [name]: entry && { ...entry, at: this.now() } };
      this.storage.setItem(NAME, JSON.stringify(kept));
    } catch {
      // A full or forbidden storage only prevents resuming.
    }
  }

  /** Keep a part, unless its upload was removed meanwhile. */
  addPart(name, uploadId, number, part) {
    const entry = this.get(name);
    if (entry?.uploadId === uploadId) {
      this.put(name, { ...entry, parts: { ...entry.parts, [number]: part } });
    }
  }
}
