// CRC-64/XZ (ECMA-182, reflected): what the store answers in x-oss-hash-crc64ecma.
// The loop over the bytes uses two 32-bit halves, because BigInt is a hundred times slower;
// BigInt serves for what happens once a part.

const POLY_HIGH = 0xc96c5795;
const POLY_LOW = 0xd7870f42;
const POLYNOMIAL = 0xc96c5795d7870f42n;
const ALL = 0xffffffffffffffffn;
const ONE = 1n << 63n; // x^0: the highest bit is the lowest power

// Eight tables of 256: LOW[256 * k + b] is what byte b does with k bytes behind it.
const LOW = new Uint32Array(2048);
const HIGH = new Uint32Array(2048);
for (let byte = 0; byte < 256; byte += 1) {
  let low = byte;
  let high = 0;
  for (let bit = 0; bit < 8; bit += 1) {
    const odd = low & 1;
    low = (low >>> 1) | (high << 31);
    high >>>= 1;
    if (odd) {
      low ^= POLY_LOW;
      high ^= POLY_HIGH;
    }
  }
  LOW[byte] = low;
  HIGH[byte] = high;
}
for (let at = 256; at < 2048; at += 1) {
  const low = LOW[at - 256];
  const high = HIGH[at - 256];
  LOW[at] = ((low >>> 8) | (high << 24)) ^ LOW[low & 255];
  HIGH[at] = (high >>> 8) ^ HIGH[low & 255];
}

/** Return the CRC of bytes (a Uint8Array), going on from `start`; both are BigInt. */
export function crc64(bytes, start = 0n) {
  let low = ~Number(start & 0xffffffffn);
  let high = ~Number(start >> 32n);
  const whole = bytes.length - (bytes.length % 8);
  let at = 0;
  for (; at < whole; at += 8) {
    const a =
      low ^ (bytes[at] | (bytes[at + 1] << 8) | (bytes[at + 2] << 16) | (bytes[at + 3] << 24));
    const b =
      high ^ (bytes[at + 4] | (bytes[at + 5] << 8) | (bytes[at + 6] << 16) | (bytes[at + 7] << 24));
    const i = 1792 + (a & 255);
    const j = 1536 + ((a >>> 8) & 255);
    const k = 1280 + ((a >>> 16) & 255);
    const l = 1024 + (a >>> 24);
    const m = 768 + (b & 255);
    const n = 512 + ((b >>> 8) & 255);
    const o = 256 + ((b >>> 16) & 255);
    const p = b >>> 24;
    low = LOW[i] ^ LOW[j] ^ LOW[k] ^ LOW[l] ^ LOW[m] ^ LOW[n] ^ LOW[o] ^ LOW[p];
    high = HIGH[i] ^ HIGH[j] ^ HIGH[k] ^ HIGH[l] ^ HIGH[m] ^ HIGH[n] ^ HIGH[o] ^ HIGH[p];
  }
  for (; at < bytes.length; at += 1) {
    const index = (low ^ bytes[at]) & 255;
    low = ((low >>> 8) | (high << 24)) ^ LOW[index];
    high = (high >>> 8) ^ HIGH[index];
  }
  return (BigInt(~high >>> 0) << 32n) | BigInt(~low >>> 0);
}

function multiply(first, second) {
  let a = first;
  let b = second;
  let product = 0n;
  while (a) {
    if (a & ONE) {
      product ^= b;
    }
    a = (a << 1n) & ALL;
    b = b & 1n ? (b >> 1n) ^ POLYNOMIAL : b >> 1n;
  }
  return product;
}

const shifts = new Map();

/** Return x^(8 * length): what that many following bytes do to a CRC. */
function shift(length) {
  let result = shifts.get(length);
  if (result === undefined) {
    result = ONE;
    let power = ONE >> 8n; // x^8
    for (let left = length; left > 0; left = Math.floor(left / 2)) {
      if (left % 2) {
        result = multiply(power, result);
      }
      power = multiply(power, power);
    }
    shifts.set(length, result);
  }
  return result;
}

/** Return the CRC of A and then B, from the CRC of each and the length of B. */
export function combine(first, second, length) {
  return multiply(shift(length), first) ^ second;
}
