// Reads pieces of files and computes their CRC-64 beside the page, so that it stays alive.
import { crc64 } from "./crc64.js";

const STEP = 4 * 1024 * 1024;

self.onmessage = async ({ data: { id, blob, keep } }) => {
  try {
    if (keep) {
      const buffer = await blob.arrayBuffer();
      const crc = crc64(new Uint8Array(buffer));
      self.postMessage({ id, crc, buffer }, [buffer]);
      return;
    }
    let crc = 0n;
    for (let at = 0; at < blob.size; at += STEP) {
      crc = crc64(new Uint8Array(await blob.slice(at, at + STEP).arrayBuffer()), crc);
    }
    self.postMessage({ id, crc });
  } catch (error) {
    self.postMessage({ id, failure: error.name });
  }
};
