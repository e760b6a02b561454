// What the page does beyond what works without it: it renews what is live, copies SQL, and has two keys.
"use strict";

// A text that is being written is read along.
const EVERY_MS = document.getElementById("text") ? 1000 : 5000;
// A panel that is being looked up is asked for again soon, and then less and less often.
const SOON_MS = 300;
const live = document.getElementById("live");
let etag = null;
let is_on = sessionStorage.getItem("paused") === null;

function show_live(text) {
  live.textContent = text;
  live.setAttribute("aria-pressed", String(is_on));
}

function set_live(on) {
  is_on = on;
  if (on) sessionStorage.removeItem("paused");
  else sessionStorage.setItem("paused", "1");
  show_live(on ? "Live" : "Paused");
}

// Somebody who types, or has marked text, is not disturbed.
function is_in_use(element) {
  const active = document.activeElement;
  const marked = document.getSelection();
  return (element.contains(active) && active.matches("input, select, textarea"))
    || (!marked.isCollapsed && element.contains(marked.anchorNode));
}

function renew(page, selector) {
  for (const old of document.querySelectorAll(selector)) {
    const found = page.getElementById(old.id);
    if (!found || found.outerHTML === old.outerHTML || is_in_use(old)) continue;
    const opened = [...old.querySelectorAll("details")].map((details) => details.open);
    const focused = [...old.querySelectorAll("a, button, summary, [tabindex]")].indexOf(document.activeElement);
    const scrolled = [...old.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
    const next = document.importNode(found, true);
    old.replaceWith(next);
    prepare(next);
    next.querySelectorAll("details").forEach((details, place) => { details.open = opened[place] === true; });
    next.querySelectorAll(".scroll").forEach((box, place) => { box.scrollLeft = scrolled[place] || 0; });
    if (focused >= 0) next.querySelectorAll("a, button, summary, [tabindex]")[focused]?.focus({ preventScroll: true });
  }
}

// The page as it is now, or nothing if it is as a known one.
async function ask(known) {
  const headers = known ? { "If-None-Match": known } : {};
  const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "error" });
  if (answer.status === 304) return null;
  if (answer.status !== 200) throw new Error(String(answer.status));
  return { etag: answer.headers.get("ETag"), page: new DOMParser().parseFromString(await answer.text(), "text/html") };
}

async function look() {
  if (!is_on || document.hidden) return;
  try {
    const now = await ask(etag);
    if (now) {
      etag = now.etag;
      renew(now.page, "[data-live]");
    }
    show_live("Live");
  } catch {
    show_live("No answer");
  }
}

// Also while the page is paused: what was not there yet is no change that disturbs anybody.
async function look_for_what_is_awaited(after_ms) {
  if (!document.querySelector("[data-awaited]")) return;
  await new Promise((resolve) => setTimeout(resolve, after_ms));
  try {
    renew((await ask(null)).page, "[data-awaited], #as-of");
  } catch {
    // Without an answer it is asked again.
  }
  look_for_what_is_awaited(Math.min(after_ms * 2, EVERY_MS));
}

function prepare(root) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const code = button.parentElement.querySelector("code");
  // Without TLS there is no clipboard: then the text is marked, and an older command copies it.
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(code.textContent);
  } else {
    document.getSelection().selectAllChildren(code);
    document.execCommand("copy");
  }
  button.textContent = "Copied";
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea")) return;
  if (event.key === "/") {
    event.preventDefault();
    const search = document.getElementById("find");
    if (search) search.focus();
    else location.href = "/events#find";
  } else if (event.key === "p" && live) {
    set_live(!is_on);
  }
});

prepare(document);
look_for_what_is_awaited(SOON_MS);
if (location.hash === "#find") document.getElementById("find")?.focus();
if (live) {
  live.hidden = false;
  set_live(is_on);
  live.addEventListener("click", () => set_live(!is_on));
  setInterval(look, EVERY_MS);
}
