// The page: what a person sees and does. Text goes in as text, never as markup.
import { GrantSigner, readGrant } from "./grant.js";
import { Journal } from "./journal.js";
import { Reader, droppedFiles, send, sleep } from "./outside.js";
import {
  bytesText,
  destinationIn,
  destinationOf,
  paceText,
} from "./plan.js";
import { Signer } from "./signer.js";
import { Slots, Transfer, closeUpload } from "./transfer.js";

const TOKEN = "osspresigned.token";
const FILES_AT_ONCE = 3;
const REQUESTS_AT_ONCE = 4;
const PAINT_EVERY = 150; // milliseconds
const SAY_EVERY = 5000;

// Addresses of requests are signed: the page keeps no list of them.
performance.setResourceTimingBufferSize(0);
performance.clearResourceTimings();

const at = (id) => document.getElementById(id);
const fields = { token: at("token"), bucket: at("bucket"), folder: at("folder") };
const rows = [];
const queue = [];
let running = 0;
let began = 0;
let sentBefore = 0;
let painted;
let said = 0;
let openBefore;

const outside = {
  send,
  sleep,
  now: Date.now,
  journal: new Journal(storageOr("localStorage")),
  slots: new Slots(REQUESTS_AT_ONCE),
};
const reader = new Reader(new URL("worker.js", import.meta.url));
outside.read = (blob, keep) => reader.read(blob, keep);
const secure = window.location.protocol === "https:";
let signer = new Signer({
  address: new URL("v1/sign", document.baseURI).href,
  token: () => fields.token.value.trim(),
  fetch: (...args) => window.fetch(...args),
  sleep,
  secure,
});
outside.sign = (request) => signer.sign(request);

/** Return a storage of the browser; it may be forbidden. */
function storageOr(name) {
  try {
    return window[name];
  } catch {
    return null;
  }
}

// -- the token ---------------------------------------------------------------------------

function keepToken() {
  const storage = storageOr("sessionStorage");
  try {
    if (at("keep").checked && fields.token.value) {
      storage.setItem(TOKEN, fields.token.value);
    } else {
      storage.removeItem(TOKEN);
    }
  } catch {
    at("keep").checked = false;
  }
}

function recallToken() {
  const kept = storageOr("sessionStorage")?.getItem(TOKEN);
  if (kept) {
    fields.token.value = kept;
    at("keep").checked = true;
  }
}

// -- a grant file ------------------------------------------------------------------------

async function takeGrant(file) {
  try {
    const grant = readGrant(await file.text(), { secure });
    signer = new GrantSigner(grant, { mayPublish: () => at("publish").checked });
    at("publish").checked = false;
    at("by-public").hidden = !grant.isPublic;
    fields.bucket.value = grant.bucket;
    fields.folder.value = grant.prefix;
    fields.bucket.readOnly = true;
    at("by-token").hidden = true;
    at("grant-text").textContent = `${file.name}: until ${new Date(grant.ends).toLocaleString()}`;
    complain("");
  } catch (error) {
    complain(error.kind ? error.message : "The grant file cannot be read. Choose it again.");
  }
}

// -- files -------------------------------------------------------------------------------

class Row {
  constructor(file, path) {
    Object.assign(this, { file, path, state: "ready", note: "", shown: "" });
    this.element = at("row").content.firstElementChild.cloneNode(true);
    const find = (selector) => this.element.querySelector(selector);
    this.bar = find("progress");
    this.text = find(".state");
    this.button = find("button");
    this.where = find(".where");
    find(".name").textContent = path;
    find(".size").textContent = bytesText(file.size);
    this.bar.setAttribute("aria-label", path);
    this.button.addEventListener("click", () => this.press());
    this.paint();
    at("list").append(this.element);
  }

  get sent() {
    return this.state === "stored" ? this.file.size : (this.transfer?.sent ?? 0);
  }

  /** What the bar of all files counts: of a file that failed nothing is in its place. */
  get counted() {
    return isClosed(this) ? 0 : this.sent;
  }

  /** The bucket and key that the file goes to, or went to. */
  get destination() {
    const { bucket, key } = (this.state !== "ready" && this.transfer?.target) || this.target();
    return `${bucket || "bucket"}/${key}`;
  }

  target() {
    const { bucket, prefix } = destinationOf(fields.bucket.value, fields.folder.value);
    return { bucket, key: prefix + this.path };
  }

  paint() {
    const size = this.file.size || 1;
    this.bar.value = this.state === "stored" ? 1 : this.sent / size;
    const texts = {
      ready: "Ready",
      waiting: "Waiting",
      sending: this.note || this.movement(),
      stopping: "Cancelling",
      stored: "Stored and checked",
      failed: this.note,
      cancelled: "Cancelled",
    };
    const labels = { ready: "Remove", waiting: "Cancel", sending: "Cancel", failed: "Try again", cancelled: "Try again" };
    this.element.dataset.state = this.state;
    this.text.textContent = texts[this.state];
    this.where.textContent = `${this.state === "stored" ? "in" : "to"} ${this.destination}`;
    const label = labels[this.state] ?? "";
    this.button.hidden = !label;
    this.button.textContent = label;
    this.button.setAttribute("aria-label", label ? `${label}: ${this.path}` : this.path);
  }

  movement() {
    return this.sent < this.file.size ? `${bytesText(this.sent)} sent` : "All sent, waiting for the store";
  }

  press() {
    if (this.state === "ready") {
      rows.splice(rows.indexOf(this), 1);
      this.element.remove();
    } else if (this.state === "waiting") {
      queue.splice(queue.indexOf(this), 1);
      this.turn("cancelled");
    } else if (this.state === "sending") {
      this.turn("stopping");
      this.transfer.cancel();
    } else if (checkFields()) {
      this.aim();
      enqueue([this]);
    }
    paint();
  }

  /** Take the destination of now; what was begun for another one is not this upload. */
  aim() {
    const target = this.target();
    if (JSON.stringify(target) !== JSON.stringify(this.transfer?.target)) {
      this.transfer = new Transfer(this.file, target, outside, (note = "") => {
        this.note = note;
        paintSoon();
      });
    }
  }

  turn(state, note = "") {
    this.state = state;
    this.note = note;
    this.paint();
  }

  async run() {
    this.turn("sending");
    try {
      await this.transfer.run();
      this.turn("stored");
    } catch (error) {
      if (error.kind === "cancelled") {
        this.turn("cancelled");
      } else {
        this.turn("failed", error.kind ? error.message : "This page failed. Reload it, then try again.");
        say(`${this.path}: ${this.note}`);
      }
      if (error.kind === "token") {
        refuseToken(error.message);
      }
    }
  }
}

function refuseToken(message) {
  for (const row of queue.splice(0)) {
    row.turn("failed", message);
  }
  complain(message, fields.token);
}

function add(found) {
  for (const { file, path } of found) {
    const known = rows.find((row) => row.path === path && row.state !== "stored");
    if (!known) {
      rows.push(new Row(file, path));
    } else if (isClosed(known)) {
      Object.assign(known, { file, transfer: undefined });
      known.turn("ready");
    }
  }
  complain("");
  paint();
}

// -- one after the other -----------------------------------------------------------------

function enqueue(some) {
  if (!running && !queue.length) {
    began = Date.now();
    sentBefore = rows.reduce((sum, row) => sum + row.sent, 0);
  }
  for (const row of some) {
    row.turn("waiting");
    queue.push(row);
  }
  for (let free = FILES_AT_ONCE - running; free > 0; free -= 1) {
    work();
  }
  paint();
}

async function work() {
  running += 1;
  while (queue.length) {
    await queue.shift().run();
    paint();
  }
  running -= 1;
  paint();
  if (!running) {
    say(summary());
  }
}

const isOpen = (row) => ["waiting", "sending", "stopping"].includes(row.state);
const isClosed = (row) => ["failed", "cancelled"].includes(row.state);

function summary() {
  const count = (state) => rows.filter((row) => row.state === state).length;
  const parts = [`${count("stored")} of ${rows.length} files stored and checked`];
  if (count("failed")) {
    parts.push(`${count("failed")} failed`);
  }
  if (count("cancelled")) {
    parts.push(`${count("cancelled")} cancelled`);
  }
  return parts.join(", ");
}

// -- what is shown -----------------------------------------------------------------------

function paintSoon() {
  painted ??= setTimeout(paint, PAINT_EVERY);
}

function paint() {
  clearTimeout(painted);
  painted = undefined;
  rows.filter((row) => isOpen(row) || row.state === "ready").forEach((row) => row.paint());
  const total = rows.reduce((sum, row) => sum + row.file.size, 0);
  const sent = rows.reduce((sum, row) => sum + row.counted, 0);
  const closed = rows.filter(isClosed);
  const open = rows.filter(isOpen).length;
  const ready = rows.filter((row) => row.state === "ready").length;
  at("uploads").hidden = !rows.length;
  at("whole").value = total ? sent / total : Number(rows.length > 0 && !open && !ready && !closed.length);
  at("uploads").dataset.failed = rows.some((row) => row.state === "failed");
  let text = `${summary()}.`;
  if (open) {
    const left = rows.filter(isOpen).reduce((sum, row) => sum + row.file.size - row.sent, 0);
    const moved = rows.reduce((sum, row) => sum + row.sent, 0) - sentBefore;
    const pace = paceText(moved, Date.now() - began, left);
    text = `${bytesText(sent)} of ${bytesText(total)}${pace}`;
    if (Date.now() - said > SAY_EVERY) {
      say(`${Math.floor((100 * sent) / total || 0)} % sent`);
    }
  } else if (ready) {
    text = `${ready} ready, ${bytesText(total)}.`;
  }
  at("whole-text").textContent = text;
  at("start").disabled = !ready;
  at("start").textContent = ready > 1 ? `Upload ${ready} files` : "Upload";
  at("stop").hidden = !open;
  at("again").hidden = closed.length < 2;
  if (open !== openBefore) {
    openBefore = open;
    paintUnfinished();
  }
}

function say(text) {
  said = Date.now();
  at("live").textContent = text;
}

function complain(message, field) {
  at("problem").textContent = message;
  at("problem").hidden = !message;
  Object.values(fields).forEach((one) => one.removeAttribute("aria-invalid"));
  if (field) {
    field.setAttribute("aria-invalid", "true");
    field.focus();
  }
}

function checkFields() {
  const token = fields.token.value.trim();
  if (!at("by-token").hidden && !/^[\x21-\x7e]+$/u.test(token)) {
    complain(token ? "The token holds blanks or odd characters. Paste it again." : "Paste your token first.", fields.token);
    return false;
  }
  if (!/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/u.test(fields.bucket.value.trim())) {
    complain("Say which bucket: small letters, digits and dashes.", fields.bucket);
    return false;
  }
  if (/^[\s]*[/\\]/u.test(fields.folder.value)) {
    complain("The folder must not begin with a slash.", fields.folder);
    return false;
  }
  complain("");
  return true;
}

function paintUnfinished() {
  const busy = new Set(rows.filter(isOpen).map((row) => row.transfer?.name));
  const entries = Object.entries(outside.journal.all()).filter(([name]) => !busy.has(name));
  const names = JSON.stringify(entries.map(([name, { parts }]) => [name, Object.keys(parts).length]));
  at("unfinished").hidden = !entries.length;
  if (at("unfinished-list").dataset.names === names) {
    return;
  }
  at("unfinished-list").dataset.names = names;
  at("unfinished-list").replaceChildren(
    ...entries.map(([name, entry]) => {
      const [bucket, key, , size] = JSON.parse(name);
      const element = at("row").content.firstElementChild.cloneNode(true);
      const bytes = Math.min(size, Object.keys(entry.parts).length * entry.partSize);
      element.querySelector(".name").textContent = `${bucket}/${key}`;
      element.querySelector(".size").textContent = bytesText(size);
      element.querySelector("progress").value = bytes / size;
      element.querySelector("progress").setAttribute("aria-label", `Sent of ${key}`);
      element.querySelector(".state").textContent = `${bytesText(bytes)} sent before`;
      const button = element.querySelector("button");
      button.textContent = "Give up";
      button.setAttribute("aria-label", `Give up: ${key}`);
      button.addEventListener("click", () => giveUp(name, entry));
      return element;
    }),
  );
}

async function giveUp(name, entry) {
  if (!checkFields()) {
    return;
  }
  outside.journal.remove(name);
  paintUnfinished();
  const closed = await closeUpload(outside, entry.target, entry.uploadId);
  say(closed ? "Given up, and what was sent is removed." : "Given up. What was sent stays until the owner of the bucket removes it.");
}

// -- what a person does ------------------------------------------------------------------

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const ready = rows.filter((row) => row.state === "ready");
  if (ready.length && checkFields()) {
    keepToken();
    ready.forEach((row) => row.aim());
    enqueue(ready);
  }
});

at("again").addEventListener("click", () => {
  const closed = rows.filter(isClosed);
  if (checkFields()) {
    keepToken();
    closed.forEach((row) => row.aim());
    enqueue(closed);
  }
});

at("stop").addEventListener("click", () => {
  rows.filter((row) => row.state === "waiting" || row.state === "sending").forEach((row) => row.press());
});

for (const id of ["files", "directory"]) {
  at(id).addEventListener("change", () => {
    add([...at(id).files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
    at(id).value = ""; // so that the same file can be chosen again
  });
}

for (const type of ["dragenter", "dragover", "dragleave", "drop"]) {
  window.addEventListener(type, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", type === "dragenter" || type === "dragover");
  });
}
window.addEventListener("drop", async (event) => {
  try {
    add(await droppedFiles(event.dataTransfer));
  } catch {
    complain("Something in there cannot be read. Choose the files with the button.");
  }
});

at("grant").addEventListener("change", () => {
  const [file] = at("grant").files;
  at("grant").value = "";
  if (file) {
    takeGrant(file);
  }
});
document.addEventListener("securitypolicyviolation", () => {
  complain("This page must not send to where the grant leads. Ask its owner for the right page.");
});
at("keep").addEventListener("change", keepToken);
fields.bucket.addEventListener("input", paint);
fields.folder.addEventListener("input", paint);
fields.token.addEventListener("input", () => at("keep").checked && keepToken());

window.addEventListener("beforeunload", (event) => {
  if (rows.some(isOpen)) {
    event.preventDefault();
  }
});

const linked = destinationIn(window.location.hash);
fields.bucket.value = linked.bucket;
fields.folder.value = linked.prefix;
recallToken();
paint();
document.documentElement.dataset.ready = "yes";
