// What htmx does not do: the theme, keys, the slider's figure, upload progress, and notices.
"use strict";
const $ = (selector, within = document) => within.querySelector(selector);
const SWITCH = "seprog-shortcuts";

function notice(text) {
  const box = document.createElement("div");
  box.className = "toast bad";
  const words = document.createElement("p");
  words.textContent = text;
  const close = document.createElement("button");
  close.className = "quiet";
  close.dataset.close = "";
  close.textContent = "Close";
  box.append(words, close);
  $("#notice").replaceChildren(box);
}

function toggleTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  document.cookie = `seprog_theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=strict`;
}

document.addEventListener("click", event => {
  const button = event.target.closest("button");
  if (button?.matches("[data-theme-toggle]")) toggleTheme();
  if (button?.dataset.open) document.getElementById(button.dataset.open).showModal();
  if (button?.matches("[data-close]")) button.closest(".toast").remove();
  for (const menu of document.querySelectorAll("details.menu[open]"))
    if (!menu.contains(event.target)) menu.open = false;
});

document.addEventListener("input", event => {
  const output = event.target.type === "range" && $(`output[for=${event.target.id}]`);
  if (output) output.textContent = Number(event.target.value).toFixed(1) + output.dataset.unit;
});

document.addEventListener("change", event => {
  if (event.target.matches("[data-shortcuts]"))
    localStorage.setItem(SWITCH, event.target.checked ? "on" : "off");
});

// --- keys -----------------------------------------------------------------------------------

let led = 0;  // when "g" was pressed

function shortcut(key) {
  if (Date.now() - led < 1500) {
    led = 0;
    $(`nav a[data-key="${CSS.escape(key)}"]`)?.click();
    return true;
  }
  if (key === "g") led = Date.now();
  else if (key === "/") $("[data-focus]")?.focus();
  else if (key === "n") location.href = "/edits/new";
  else if (key === "?") $("#shortcuts")?.showModal();
  else return false;
  return true;
}

document.addEventListener("keydown", event => {
  const { target, key } = event, form = target.closest("form");
  if (key === "Escape") {
    for (const menu of document.querySelectorAll("details.menu[open]")) {
      menu.open = false;
      $("summary", menu).focus();
    }
  }
  const sends = (event.ctrlKey || event.metaKey) || (target.matches("[data-enter]") && !event.shiftKey);
  if (key === "Enter" && sends && form && !event.isComposing && target.matches("textarea, input")) {
    event.preventDefault();
    form.requestSubmit($("button.main", form));
    return;
  }
  const typing = target.matches("input:not([type=radio], [type=checkbox], [type=range]), textarea, select");
  if (typing || event.ctrlKey || event.metaKey || event.altKey || $("dialog[open]")) return;
  if (localStorage.getItem(SWITCH) !== "off" && shortcut(key)) event.preventDefault();
});

// --- htmx -----------------------------------------------------------------------------------

document.addEventListener("htmx:beforeSwap", event => {
  const { xhr } = event.detail;
  const html = (xhr.getResponseHeader("Content-Type") ?? "text/html").startsWith("text/html");
  if (xhr.status >= 400 && !html) {
    event.detail.shouldSwap = false;
    notice(xhr.status === 413 ? "That is more than the server takes at a time." : `The server answered ${xhr.status}.`);
  } else if (xhr.status < 400) $("#notice").replaceChildren();
});
document.addEventListener("htmx:sendError", () => notice("The server cannot be reached."));
document.addEventListener("htmx:timeout", () => notice("The server took too long."));

document.addEventListener("htmx:xhr:progress", event => {
  const bar = document.getElementById(event.target.dataset?.progress);
  if (bar && event.detail.lengthComputable) bar.value = 100 * event.detail.loaded / event.detail.total;
});
for (const [name, hidden] of [["htmx:beforeRequest", false], ["htmx:afterRequest", true]])
  document.addEventListener(name, event => {
    const bar = document.getElementById(event.target.dataset?.progress);
    if (bar) bar.hidden = hidden;
  });

const shortcuts = $("[data-shortcuts]");
if (shortcuts) shortcuts.checked = localStorage.getItem(SWITCH) !== "off";
