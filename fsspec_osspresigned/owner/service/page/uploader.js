// The page: what a person sees and does. Text goes in as text, never as markup.
import { grantSigner, readGrant } from "./grant.js";
import { Journal } from "./journal.js";
import { Reader, droppedFiles, send, sleep } from "./outside.js";
import { destinationIn, destinationOf } from "./plan.js";
import { permissionsAt, signerAt } from "./signer.js";
import {
  LANGUAGES,
  bytesText,
  durationText,
  explain,
  permissionText,
  text,
  timeText,
  useLanguage,
} from "./texts.js";
import { Slots, Transfer, abortUpload, isFree } from "./transfer.js";

const FILES_AT_ONCE = 3;
const REQUESTS_AT_ONCE = 4;
const PAINT_EVERY = 150; // milliseconds
const SAY_EVERY = 5000;
const MIN_MEASURED = 3000; // milliseconds before a rate means something

// Addresses of requests are signed: the page keeps no list of them.
performance.setResourceTimingBufferSize(0);
performance.clearResourceTimings();

const at = (id) => document.getElementById(id);
const fields = { token: at("token"), bucket: at("bucket"), folder: at("folder") };
const rows = [];
const fileSlots = new Slots(FILES_AT_ONCE);
let began = 0;
let sentBefore = 0;
let painting;
let spoken = 0;
let grantText;
let permissions; // the promise of what the token permits
let permittedText = () => "";
let problemText = () => "";

/** Return the storage of the browser; it may be forbidden. */
function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}

const reader = new Reader(new URL("worker.js", import.meta.url));
const outside = {
  send,
  sleep,
  journal: new Journal(storage()),
  slots: new Slots(REQUESTS_AT_ONCE),
  read: (blob, keep) => reader.read(blob, keep),
  sign: signerAt(
    new URL("v1/sign", document.baseURI).href,
    () => fields.token.value.trim(),
    (...call) => window.fetch(...call),
  ),
};

// -- files -------------------------------------------------------------------------------

const STATES = {
  ready: ["ready", "remove"],
  waiting: ["waiting", "cancel"],
  sending: ["sent", "cancel"],
  stopping: ["stopping"],
  paused: ["paused", "resume"],
  stored: ["stored"],
  failed: ["pageFailed", "tryAgain"],
  cancelled: ["cancelled", "tryAgain"],
};
const isOpen = ({ state }) => ["waiting", "sending", "stopping"].includes(state);
const isClosed = ({ state }) => ["failed", "cancelled"].includes(state);
const countOf = (state) => rows.filter((row) => row.state === state).length;
const sumOf = (some, amountOf) => some.reduce((sum, row) => sum + amountOf(row), 0);
const newRow = () => at("row").content.firstElementChild.cloneNode(true);

/** Give a row of a list its texts, bar and button. */
function fill(element, { name, size, where = "", share, state, label }) {
  const texts = { ".name": name, ".size": bytesText(size), ".where": where, ".state": state };
  Object.entries(texts).forEach(([selector, value]) => {
    element.querySelector(selector).textContent = value;
  });
  const bar = element.querySelector("progress");
  bar.value = share;
  bar.setAttribute("aria-label", name);
  const button = element.querySelector("button");
  button.hidden = !label;
  button.textContent = label;
  button.setAttribute("aria-label", text("labelled", { label, name }));
}

class Row {
  constructor(file, path) {
    this.path = path;
    this.element = newRow();
    this.element.querySelector("button").addEventListener("click", () => this.press());
    at("list").append(this.element);
    this.take(file);
  }

  /** Take a file that waits for the button. */
  take(file) {
    Object.assign(this, { file, transfer: undefined });
    this.turn("ready");
  }

  get sent() {
    return this.state === "stored" ? this.file.size : (this.transfer?.sent ?? 0);
  }

  get target() {
    const { bucket, prefix } = destinationOf(fields.bucket.value, fields.folder.value);
    return { bucket, key: prefix + this.path };
  }

  /** Show a state; the note of its time is a function, because the language may change. */
  turn(state, note) {
    Object.assign(this, { state, note });
    this.paint();
  }

  paint() {
    const { state, file } = this;
    const [key, label] = STATES[state];
    const { bucket, key: name } = (state !== "ready" && this.transfer?.target) || this.target;
    const place = bucket ? `${bucket}/${name}` : name;
    const usual = state === "sending" && this.sent >= file.size ? "allSent" : key;
    this.element.dataset.state = state;
    fill(this.element, {
      name: this.path,
      size: file.size,
      where: text(state === "stored" ? "storedIn" : "goesTo", { place }),
      share: state === "stored" ? 1 : this.sent / (file.size || 1),
      state: this.note?.() ?? text(usual, { size: bytesText(this.sent) }),
      label: label ? text(label) : "",
    });
  }

  press() {
    if (this.state === "ready") {
      rows.splice(rows.indexOf(this), 1);
      this.element.remove();
    } else if (this.state === "waiting") {
      this.turn("cancelled");
    } else if (this.state === "sending") {
      this.turn("stopping");
      this.transfer.cancel();
    } else {
      enqueue([this]);
    }
    paint();
  }

  /** Return the upload to the destination of now; one that was begun for another is dropped. */
  aim() {
    const { target } = this;
    if (JSON.stringify(target) !== JSON.stringify(this.transfer?.target)) {
      this.transfer = new Transfer(this.file, target, outside, (key, values) => {
        this.note = key && (() => text(key, values));
        painting ??= setTimeout(paint, PAINT_EVERY);
      });
    }
    return this.transfer;
  }

  /** Run an upload, if nothing has happened to the row while it waited. */
  async run(transfer) {
    if (this.state !== "waiting" || this.transfer !== transfer) {
      return;
    }
    this.turn("sending");
    try {
      await transfer.run();
      this.time = new Date().toISOString();
      this.turn("stored");
    } catch (error) {
      if (["cancelled", "paused"].includes(error.kind)) {
        this.turn(error.kind);
        return;
      }
      this.turn("failed", () => explain(error));
      say(text("labelled", { label: this.path, name: this.note() }));
      if (error.kind === "token") {
        rows.filter(({ state }) => state === "waiting").forEach((row) => row.turn("failed", this.note));
        complain(this.note, fields.token);
      }
    }
  }
}

function add(chosen) {
  for (const { file, path } of chosen) {
    const known = rows.find((row) => row.path === path && row.state !== "stored");
    if (!known) {
      rows.push(new Row(file, path));
    } else if (!isOpen(known)) {
      known.take(file);
    }
  }
  complain();
  paint();
}

/** Return whether the person agrees to replace what some rows, each with its upload, may replace. */
async function mayReplace(aimed) {
  try {
    const found = await permissions;
    if (!found?.actions.includes("HeadObject") || found.overwrite === false) {
      return true; // nothing can be asked, or nothing is replaced
    }
  } catch (error) {
    if (error.kind === "token") {
      return true; // nothing will be signed
    }
  }
  const slots = new Slots(REQUESTS_AT_ONCE);
  const free = await Promise.all(aimed.map(([, { target }]) => slots.hold(() => isFree(outside, target))));
  const names = aimed.filter((_, index) => !free[index]).map(([{ path }]) => path);
  const shown = names.slice(0, 10).join(", ") + (names.length > 10 ? ", …" : "");
  return !names.length || window.confirm(text("replaces", { count: names.length, names: shown }));
}

/** Upload some rows, if the fields are filled in and the person agrees. */
async function enqueue(some) {
  if (!checkFields()) {
    return;
  }
  const isFirst = !rows.some(isOpen);
  const aimed = some.map((row) => [row, row.aim()]);
  some.forEach((row) => row.turn("waiting"));
  paint();
  const isAgreed = await mayReplace(aimed);
  if (isFirst) {
    began = Date.now();
    sentBefore = sumOf(rows, ({ sent }) => sent);
  }
  for (const [row, transfer] of aimed) {
    if (isAgreed) {
      fileSlots.hold(() => row.run(transfer)).then(settle);
    } else if (row.state === "waiting") {
      row.turn("ready");
    }
  }
  paint();
  paintUnfinished();
}

/** Give the person a file with what was stored, as proof. */
function saveReceipt() {
  const stored = rows.filter(({ state }) => state === "stored");
  const lines = stored.map(({ transfer: { target, size, crc }, time }) =>
    JSON.stringify({ path: `${target.bucket}/${target.key}`, size, crc64: String(crc), time }),
  );
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`]));
  link.download = "receipt.jsonl";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), SAY_EVERY);
}

function settle() {
  paint();
  paintUnfinished();
  if (!rows.some(isOpen)) {
    say(summary());
    if (permissions) {
      askPermissions(); // of a quota, less is left
    }
  }
}

// -- what is shown -----------------------------------------------------------------------

function summary() {
  const failed = countOf("failed");
  const cancelled = countOf("cancelled");
  return [
    text("summary", { stored: countOf("stored"), all: rows.length }),
    failed ? text("countFailed", { count: failed }) : "",
    cancelled ? text("countCancelled", { count: cancelled }) : "",
  ].join("");
}

/** Return how much is sent, and when it means something the rate and the time left. */
function movement(sent, total) {
  const moved = sumOf(rows, (row) => row.sent) - sentBefore;
  const time = Date.now() - began;
  const shown = text("progress", { sent: bytesText(sent), total: bytesText(total) });
  if (time < MIN_MEASURED || moved <= 0) {
    return shown;
  }
  const rate = (moved / time) * 1000;
  const left = sumOf(rows.filter(isOpen), (row) => row.file.size - row.sent);
  return shown + text("pace", { rate: bytesText(rate), time: durationText(left / rate) });
}

function paint() {
  clearTimeout(painting);
  painting = undefined;
  rows.filter(isOpen).forEach((row) => row.paint());
  const total = sumOf(rows, ({ file }) => file.size);
  // Of a file that failed nothing is in its place.
  const sent = sumOf(rows, (row) => (isClosed(row) ? 0 : row.sent));
  const isBusy = rows.some(isOpen);
  const ready = countOf("ready");
  const startable = ready + countOf("failed") + countOf("paused");
  const isDone = rows.length > 0 && !startable && !isBusy;
  const again = countOf("paused") ? "resume" : "tryAgain";
  const usual = isDone ? text("addMore") : text(startable && !ready ? again : "upload");
  at("uploads").hidden = !rows.length;
  at("uploads").dataset.failed = countOf("failed") > 0;
  at("whole").value = total ? sent / total : Number(rows.length > 0 && rows.length === countOf("stored"));
  at("start").disabled = !startable && !isDone;
  at("pause").hidden = !rows.some(({ state }) => ["waiting", "sending"].includes(state));
  at("receipt").hidden = isBusy || !countOf("stored");
  at("start").textContent = startable > 1 ? text("uploadMany", { count: startable }) : usual;
  at("stop").hidden = !isBusy;
  if (isBusy) {
    at("whole-text").textContent = movement(sent, total);
    if (Date.now() - spoken > SAY_EVERY) {
      say(text("percent", { count: Math.floor((100 * sent) / total || 0) }));
    }
  } else {
    at("whole-text").textContent = ready ? text("countReady", { count: ready, size: bytesText(total) }) : summary();
  }
}

function paintUnfinished() {
  const busy = rows.filter(isOpen).map(({ transfer }) => transfer.name);
  const entries = Object.entries(outside.journal.all()).filter(([name]) => !busy.includes(name));
  at("unfinished").hidden = !entries.length;
  at("unfinished-list").replaceChildren(
    ...entries.map(([name, { target, parts, partSize, uploadId }]) => {
      const size = JSON.parse(name)[3];
      const sent = Math.min(size, Object.keys(parts).length * partSize);
      const element = newRow();
      fill(element, {
        name: `${target.bucket}/${target.key}`,
        size,
        share: sent / size,
        state: text("sentBefore", { size: bytesText(sent) }),
        label: text("giveUp"),
      });
      element.querySelector("button").addEventListener("click", async () => {
        if (checkFields()) {
          outside.journal.put(name);
          paintUnfinished();
          say(text((await abortUpload(outside, target, uploadId)) ? "givenUp" : "partsStay"));
        }
      });
      return element;
    }),
  );
}

function paintTexts() {
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
  at("grant-text").textContent = grantText?.() ?? text("grantHelp");
  at("permitted").textContent = permittedText();
  at("problem").textContent = problemText();
  rows.forEach((row) => row.paint());
  paint();
  paintUnfinished();
}

function say(spokenText) {
  spoken = Date.now();
  at("live").textContent = spokenText;
}

/** Show a problem, and the field that it is about; a function, because the language may change. */
function complain(problem = () => "", field = undefined) {
  problemText = problem;
  at("problem").textContent = problem();
  at("problem").hidden = !problem();
  Object.values(fields).forEach((input) => input.removeAttribute("aria-invalid"));
  field?.setAttribute("aria-invalid", "true");
  field?.focus();
}

function checkFields() {
  const token = fields.token.value.trim();
  let problem;
  if (!grantText && !/^[\x21-\x7e]+$/u.test(token)) {
    problem = [token ? "oddToken" : "needToken", fields.token];
  } else if (!/^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$/u.test(fields.bucket.value.trim())) {
    problem = ["needBucket", fields.bucket];
  } else if (/^\s*[/\\]/u.test(fields.folder.value)) {
    problem = ["slashFirst", fields.folder];
  }
  complain(problem && (() => text(problem[0])), problem?.[1]);
  return !problem;
}

// -- what a person does ------------------------------------------------------------------

/** Show what the token permits, if the signer tells; fill in a place that is the only one. */
async function askPermissions() {
  const token = fields.token.value.trim();
  const address = new URL("v1/permissions", document.baseURI).href;
  permissions = token ? permissionsAt(address, token, (...call) => window.fetch(...call)) : undefined;
  let found;
  let refusal;
  try {
    found = await permissions;
  } catch (error) {
    refusal = error;
  }
  if (token !== fields.token.value.trim()) {
    return; // another one was pasted meanwhile
  }
  const asked = Date.now();
  permittedText = () => (refusal ? explain(refusal) : found ? permissionText(found, asked) : "");
  if (found?.prefixes.length === 1 && !fields.bucket.value && !fields.folder.value) {
    const [bucket, ...rest] = found.prefixes[0].split("/");
    fields.bucket.value = bucket;
    fields.folder.value = rest.join("/");
  }
  at("by-hand").hidden = isInvited && found !== undefined && fields.bucket.value !== "";
  paintTexts();
}

async function takeGrant(file) {
  try {
    const grant = readGrant(await file.text(), { secure: window.location.protocol === "https:" });
    outside.sign = grantSigner(grant, { mayPublish: () => at("publish").checked });
    at("publish").checked = false;
    at("by-public").hidden = !grant.isPublic;
    fields.bucket.value = grant.bucket;
    fields.folder.value = grant.prefix;
    fields.bucket.readOnly = true;
    permissions = undefined;
    permittedText = () => "";
    at("by-token").hidden = true;
    grantText = () => text("grantUntil", { name: file.name, time: timeText(grant.ends) });
    complain();
    paintTexts();
  } catch (error) {
    complain(() => (error.kind ? explain(error) : text("unreadable")));
  }
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const startable = rows.filter(({ state }) => ["ready", "failed", "paused"].includes(state));
  if (startable.length) {
    enqueue(startable);
  } else {
    at("files").click();
  }
});

at("pause").addEventListener("click", () => {
  rows.filter(({ state }) => state === "waiting").forEach((row) => row.turn("paused"));
  rows.filter(({ state }) => state === "sending").forEach((row) => row.transfer.pause());
  paint();
});

at("receipt").addEventListener("click", saveReceipt);

at("stop").addEventListener("click", () => {
  rows.filter(({ state }) => ["waiting", "sending"].includes(state)).forEach((row) => row.press());
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
    complain(() => text("badDrop"));
  }
});

at("grant").addEventListener("change", () => {
  const [file] = at("grant").files;
  at("grant").value = "";
  if (file) {
    takeGrant(file);
  }
});
fields.token.addEventListener("change", askPermissions);
document.addEventListener("securitypolicyviolation", () => complain(() => text("grantElsewhere")));
for (const input of [fields.bucket, fields.folder]) {
  input.addEventListener("input", () => rows.forEach((row) => row.paint()));
}

window.addEventListener("beforeunload", (event) => {
  if (rows.some(isOpen)) {
    event.preventDefault();
  }
});

// An invitation that is opened in the tab of the page.
window.addEventListener("hashchange", () => window.location.reload());

function speak(tag) {
  document.documentElement.lang = useLanguage(tag);
  at("language").value = document.documentElement.lang;
  paintTexts();
}

at("language").append(...Object.entries(LANGUAGES).map(([tag, name]) => new Option(name, tag)));
at("language").addEventListener("change", () => speak(at("language").value));
const linked = destinationIn(window.location.hash);
const isInvited = linked.token !== "";
fields.token.value = linked.token;
fields.bucket.value = linked.bucket;
fields.folder.value = linked.prefix;
speak(navigator.language);
document.documentElement.dataset.ready = "yes";
if (isInvited) {
  askPermissions();
}
