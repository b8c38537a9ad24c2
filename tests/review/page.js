"use strict";
// Everything can be read without this; it filters, and lets the keyboard go from one difference to the next.
const all = (selector, from = document) => [...from.querySelectorAll(selector)];
const one = (id) => document.getElementById(id);
const root = document.documentElement;
const files = all(".file");

// A page opened from a file may be denied storage.
const kept = {
  get: (name) => { try { return localStorage.getItem(`review.${name}`); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem(`review.${name}`, value); } catch { /* not kept */ } },
};

const themes = ["system", "light", "dark"];
function setTheme(theme) {
  if (theme === "system") delete root.dataset.theme;
  else root.dataset.theme = theme;
  one("theme").textContent = `Theme: ${theme}`;
  kept.set("theme", theme);
}
setTheme(themes.includes(kept.get("theme")) ? kept.get("theme") : "system");
one("theme").onclick = () => setTheme(themes[(themes.indexOf(root.dataset.theme || "system") + 1) % themes.length]);

function setUnified(unified) {
  root.classList.toggle("unified", unified);
  one("layout").textContent = unified ? "Side by side" : "Unified";
  kept.set("unified", unified ? "yes" : "no");
}
setUnified(kept.get("unified") === "yes");
one("layout").onclick = () => setUnified(!root.classList.contains("unified"));

const visible = () => files.filter((file) => !file.hidden);
function nameFold() {
  one("fold").textContent = visible().every((file) => file.open) ? "Fold all" : "Unfold all";
}
one("fold").onclick = () => {
  const open = !visible().every((file) => file.open);
  for (const file of visible()) file.open = open;
};
document.addEventListener("toggle", nameFold, true);

function filter() {
  const wanted = one("search").value.trim().toLowerCase();
  const profile = one("profile").value;
  const concerns = (element) => !profile || element.dataset.profiles.split(" ").includes(profile);
  for (const file of files) {
    file.hidden = !concerns(file) || !file.dataset.find.toLowerCase().includes(wanted);
    // A variant is read beside the whole file that it is compared with.
    const variant = all(".variant", file).some(concerns);
    for (const hunk of all(".hunk", file)) hunk.hidden = !concerns(hunk) && !(variant && !hunk.classList.contains("variant"));
  }
  for (const entry of all("nav li[data-of]")) entry.hidden = files[entry.dataset.of].hidden;
  for (const folder of all("nav li:not([data-of])").reverse()) {
    folder.hidden = all("li[data-of]", folder).every((entry) => entry.hidden);
  }
  const shown = visible().length;
  one("shown").textContent = shown === files.length ? "" : `${shown} of ${files.length} files`;
  nameFold();
}
one("search").oninput = filter;
one("profile").onchange = filter;
filter();

// Where there is no room beside the differences, the tree would push them away.
if (matchMedia("(max-width: 60rem)").matches) document.querySelector("nav > details").open = false;

function open(file) {
  file.open = true;
  file.querySelector("summary").focus({ preventScroll: true });
  file.scrollIntoView({ block: "start" });
}
document.querySelector("nav").addEventListener("click", (event) => {
  const entry = event.target.closest("li[data-of]");
  if (!entry || !event.target.closest("a")) return;
  event.preventDefault();
  history.replaceState(null, "", `#file-${entry.dataset.of}`);
  open(files[entry.dataset.of]);
});
const linked = location.hash.match(/^#file-(\d+)$/);
if (linked && files[linked[1]]) open(files[linked[1]]);

// The next or previous of the elements, seen from where the focus is, or else from the top of the window.
function step(elements, forward, focus) {
  if (!elements.length) return;
  const from = document.activeElement?.closest(".hunk, .file");
  let next;
  if (from) {
    const after = elements.filter((e) => from.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_FOLLOWING);
    const before = elements.filter((e) => e !== from && from.compareDocumentPosition(e) & Node.DOCUMENT_POSITION_PRECEDING);
    next = forward ? after.find((e) => e !== from) : before.at(-1);
  } else {
    next = forward ? elements[0] : elements.at(-1);
  }
  if (next) focus(next);
}
const toFile = (forward) => step(visible(), forward, (file) => {
  file.querySelector("summary").focus({ preventScroll: true });
  file.scrollIntoView({ block: "nearest" });
});
const toHunk = (forward) => step(all(".hunk").filter((hunk) => !hunk.hidden && !hunk.closest(".file").hidden), forward, (hunk) => {
  hunk.closest(".file").open = true;
  hunk.focus({ preventScroll: true });
  hunk.scrollIntoView({ block: "start" });
});
const help = () => one("keys").showModal();
one("help").onclick = help;

const keys = {
  j: () => toFile(true),
  k: () => toFile(false),
  n: () => toHunk(true),
  p: () => toHunk(false),
  e: () => one("fold").click(),
  u: () => one("layout").click(),
  t: () => one("theme").click(),
  "/": () => one("search").focus(),
  "?": help,
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, dialog")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
