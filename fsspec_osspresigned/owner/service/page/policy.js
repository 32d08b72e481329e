// A POST policy: its end, and its conditions, read as strictly as the Python client does.

export const RANGE = "content-length-range";
const LISTS = ["in", "not-in"];
const SINGLES = ["eq", "starts-with"];
const TIME = /^\d{4}-\d\d-\d\dT[\d:.]{1,16}Z$/u;
const isText = (value) => typeof value === "string";
const isSize = (value) => Number.isSafeInteger(value) && value >= 0;

/** Raise what makes a text no policy or no grant, unless something holds. */
export function demand(holds) {
  if (!holds) {
    throw new TypeError();
  }
}

/** Return a time such as 2026-11-27T10:00:00Z in milliseconds; raise if it is none. */
export function timeOf(text) {
  const time = isText(text) && TIME.test(text) ? Date.parse(text) : NaN;
  demand(Number.isFinite(time));
  return time;
}

/** Return a text with "$" for the "\$" that a policy has instead. */
const plain = (text) => text.replaceAll("\\$", "$");

/** Return a condition as {operator, name, values}, the name in lower case. */
function conditionOf(item) {
  const whole = Array.isArray(item) ? item : ["eq", ...Object.entries(item).flat()];
  const [operator, first, second] = whole;
  demand(whole.length === 3);
  if (operator === RANGE) {
    demand(isSize(first) && isSize(second) && first <= second);
    return { operator, name: RANGE, values: [first, second] };
  }
  const isList = LISTS.includes(operator);
  demand(isList || SINGLES.includes(operator));
  demand(isText(first) && Array.isArray(second) === isList && [second].flat().every(isText));
  const name = first.replace(/^\$/u, "").toLowerCase();
  demand(name && (name !== "bucket" || operator === "eq"));
  return { operator, name, values: [second].flat().map(plain) };
}

/** Return the end and the conditions of a policy in base64. */
export function readPolicy(text) {
  const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const written = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  // Some write it with one backslash, which is no JSON.
  const policy = JSON.parse(written.split("\\\\").map(plain).join("\\\\"));
  demand(Object.keys(policy).every((name) => ["expiration", "conditions"].includes(name)));
  demand(Array.isArray(policy.conditions) && policy.conditions.length);
  return { ends: timeOf(policy.expiration), conditions: policy.conditions.map(conditionOf) };
}

/** Return whether a condition lets its field have a value. */
export function allows({ operator, values }, value) {
  if (operator === "starts-with") {
    return value.startsWith(values[0]);
  }
  return values.includes(value) !== (operator === "not-in");
}
