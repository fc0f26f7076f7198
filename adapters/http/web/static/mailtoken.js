// The script of the pages besides htmx: a button that copies, and a clock that counts down.
"use strict";

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText(source.textContent.trim());
    button.textContent = button.dataset.copied;
  } catch {
    // Without the permission to copy, the script at least selects the text.
    getSelection().selectAllChildren(source);
  }
});

// The content of a chosen file goes into the field beside it.
document.addEventListener("change", async (event) => {
  const { into, format } = event.target.dataset;
  const [file] = event.target.files ?? [];
  if (!into || !file) return;
  document.getElementById(into).value = await file.text();
  const suffix = file.name.split(".").pop().toLowerCase().replace("yml", "yaml");
  const formats = document.getElementById(format);
  if ([...formats.options].some((one) => one.value === suffix)) formats.value = suffix;
});

// Names for the word that is being typed, where there are more than the page holds.
const SUGGEST_AFTER_MS = 150;
let suggesting;

async function suggest(field) {
  const typed = field.value;
  const [before, word] = typed.match(/^(.*[\s,])?(.*)$/s).slice(1);
  const answer = await fetch(`/suggestions/${field.list.dataset.suggestions}?q=${encodeURIComponent(word)}`);
  if (!answer.ok || answer.redirected || field.value !== typed) return;
  const names = await answer.json();
  field.list.replaceChildren(...names.map((name) => new Option("", `${before ?? ""}${name}`)));
}

for (const kind of ["input", "focusin"]) {
  document.addEventListener(kind, ({ target }) => {
    if (!target.list?.dataset.suggestions) return;
    clearTimeout(suggesting);
    suggesting = setTimeout(suggest, SUGGEST_AFTER_MS, target);
  });
}

function left(milliseconds) {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

function countDown() {
  for (const clock of document.querySelectorAll("[data-countdown]")) {
    clock.textContent = left(new Date(clock.dateTime) - Date.now());
  }
}

if (document.querySelector("[data-countdown]")) {
  countDown();
  setInterval(countDown, 1000);
}

// Instants in the reader's time zone. Without this script they are in UTC, as the page says.
const WRITTEN = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});

const TO_THE_SECOND = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit",
  timeZoneName: "short",
});

function localTimes(root) {
  for (const one of root.querySelectorAll("time[data-local]")) {
    const written = one.dataset.local === "seconds" ? TO_THE_SECOND : WRITTEN;
    one.textContent = written.format(new Date(one.dateTime));
  }
}

function instantField(field) {
  const [label] = field.labels;
  label.textContent = label.dataset.zoneLabel.replace("{zone}", Intl.DateTimeFormat().resolvedOptions().timeZone);
  const text = new URLSearchParams(location.search).get(field.name) ?? "";
  const asked = new Date(/(Z|[+-]\d\d:\d\d)$/.test(text) ? text : `${text}Z`);
  if (!Number.isNaN(asked.valueOf())) {
    field.value = new Date(asked - asked.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
  }
  field.form.addEventListener("formdata", (event) => {
    if (field.value) event.formData.set(field.name, new Date(field.value).toISOString());
  });
}

localTimes(document);
document.querySelectorAll("form[data-instants] input[type=datetime-local]").forEach(instantField);

// Parts that follow what happens elsewhere: each is read again when the service says that a status has changed.
const LIVE = "[data-live]";
const AT_MOST_EVERY_MS = 1000;

function alike(part, element) {
  if (!element || element === document.body) return null;
  return [...part.querySelectorAll(element.tagName)].find((one) => one.textContent === element.textContent);
}

// What the person has opened stays open.
function keepOpen(part, fresh) {
  const before = part.querySelectorAll("details");
  fresh.querySelectorAll("details").forEach((one, index) => { one.open = before[index]?.open ?? one.open; });
}

async function readAgain() {
  const answer = await fetch(location.href);
  if (!answer.ok || answer.redirected) return;
  const read = new DOMParser().parseFromString(await answer.text(), "text/html");
  localTimes(read);
  for (const part of document.querySelectorAll(LIVE)) {
    const fresh = read.getElementById(part.id);
    if (!fresh) continue;
    keepOpen(part, fresh);
    if (fresh.innerHTML === part.innerHTML) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    if (focused?.matches("input, select, textarea")) continue;
    part.replaceWith(fresh);
    htmx.process(fresh);
    if (focused) alike(fresh, focused)?.focus();
  }
}

function follow() {
  let source, due;
  const later = () => {
    due ??= setTimeout(() => {
      due = undefined;
      readAgain();
    }, AT_MOST_EVERY_MS);
  };
  const listen = () => {
    source = new EventSource("/api/v1/events");
    // What happened between the page and the beginning of the stream is in neither.
    source.addEventListener("ready", later);
    source.addEventListener("reset", later);
    source.addEventListener("status", (event) => {
      if (JSON.parse(event.data).event !== "Token.Renewed") later();
    });
  };
  // A hidden page keeps no connection: a browser has few of them for all pages of a service.
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (!document.hidden) listen();
  });
  addEventListener("pagehide", () => source.close());
  listen();
  // Counts change without an event.
  const seconds = document.querySelector("[data-again-seconds]")?.dataset.againSeconds;
  if (seconds) setInterval(() => { if (!document.hidden) later(); }, seconds * 1000);
}

if (document.querySelector(LIVE)) follow();

// What was typed outlives a session that is over: it is kept in this tab until the page after the form is there, and
// filled in again after a sign-in. The edition that it was typed over is kept too, so what somebody else changed
// meanwhile is told. It is never sent by itself, and no secret is kept.
const KEPT = "mailtoken-input";
const UNKEPT = "[type=hidden]:not([name=edition]), [type=password], [type=file], [autocomplete=one-time-code], [data-secret]";

function isSignIn(path) {
  return path.startsWith("/sign-in") || path === "/setup";
}

function keep(form) {
  sessionStorage.removeItem(KEPT);
  const fields = [...form.elements].filter((one) => one.name && !one.matches(UNKEPT));
  if (!fields.length) return;
  const values = fields.map((one) => [one.name, /checkbox|radio/.test(one.type) ? one.checked : one.value, one.value]);
  // A page that answers a form has an address at which it can't be read again.
  const page = form.dataset.page ?? location.pathname + location.search;
  const kept = { page, action: form.getAttribute("action"), values };
  sessionStorage.setItem(KEPT, JSON.stringify(kept));
}

function fillIn(form, values) {
  for (const [name, value, choice] of values) {
    for (const field of form.elements) {
      if (field.name !== name || field.disabled) continue;
      const before = [field.value, field.checked];
      if (typeof value !== "boolean") field.value = value;
      else if (field.value === choice) field.checked = value;
      if (field.value !== before[0] || field.checked !== before[1]) {
        field.closest("details")?.setAttribute("open", "");
      }
    }
  }
}

function giveBack() {
  const kept = JSON.parse(sessionStorage.getItem(KEPT) ?? "null");
  if (!kept) return;
  if (isSignIn(location.pathname)) {
    sessionStorage.setItem(KEPT, JSON.stringify({ ...kept, isLost: true }));
    for (const next of document.querySelectorAll("input[name=next]")) next.value = kept.page;
    for (const link of document.querySelectorAll("a[href^='/sign-in/oidc']")) {
      link.href = `/sign-in/oidc?next=${encodeURIComponent(kept.page)}`;
    }
    return;
  }
  sessionStorage.removeItem(KEPT);
  if (!kept.isLost || kept.page !== location.pathname + location.search) return;
  const form = [...document.forms].find((one) => one.getAttribute("action") === kept.action);
  if (!form) return;
  fillIn(form, kept.values);
  document.getElementById("main").prepend(document.getElementById("input-back").content.cloneNode(true));
}

giveBack();
document.addEventListener("submit", (event) => {
  const form = event.target;
  // A field may be called action, and then form.action is that field.
  const action = new URL(form.getAttribute("action") ?? "", location.href);
  if (form.getAttribute("method") === "post" && !isSignIn(action.pathname)) keep(form);
});
