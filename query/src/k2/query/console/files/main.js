// The page: routing of views, theme, API key, shortcuts.
import * as api from "./api.js";
import { el, focus } from "./dom.js";
import { ladder } from "./book.js";
import { completeness } from "./completeness.js";
import { gaps, layers } from "./feeds.js";
import { deadLetters } from "./dead_letters.js";
import { market } from "./market.js";

const VIEWS = [
  ["market", "Market", market],
  ["completeness", "Completeness", completeness],
  ["layers", "Layers", layers],
  ["gaps", "Gaps", gaps],
  ["dead-letters", "Dead letters", deadLetters],
  ["book", "Book", ladder],
];
const STREAMED = ["market", "book"];
const SHORTCUTS = [
  ["1 to 6", "select a view"],
  ["/", "find a symbol"],
  ["Arrow keys, Home, End", "move in a list or the map"],
  ["Enter", "open the selected item"],
  ["Left, right, +, -", "scroll and zoom the bars"],
  ["i", "next bar interval"],
  ["r", "reload"],
  ["d", "toggle dark and light theme"],
  ["k", "API key"],
  ["?", "this list"],
  ["Esc", "close"],
];

const $ = (id) => document.getElementById(id);
const view = $("view");
let running = null;
let shown = "";

/** The page's interface for views. */
function page(signal) {
  return {
    signal,
    live(state, reason = "") {
      $("live").dataset.state = state;
      $("live").textContent = state === "live" ? "live" : "not live";
      $("live").title = reason;
    },
    problem,
    go: (address) => { location.hash = address; },
    /** Run now and then periodically until the view is left; `seconds` returns the interval. Errors are shown. */
    async every(seconds, work) {
      while (!signal.aborted) {
        const visible = !document.hidden;
        if (visible) await showErrors(work, signal);
        await new Promise((done) => setTimeout(done, (visible ? seconds() : 2) * 1000));
      }
    },
    run: (work) => showErrors(work, signal),
  };
}

async function showErrors(work, signal) {
  try {
    await work();
    if (!signal.aborted) problem("");
  } catch (error) {
    if (signal.aborted || error.name === "AbortError") return;
    if (!(error instanceof api.Problem)) console.error(error);
    problem(error.message);
    if (error.status === 401) askForKey(error.message);
  }
}

function problem(message) {
  $("problem").textContent = message;
  $("problem").hidden = !message;
}

function show() {
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const [id, title, draw] = VIEWS.find(([view]) => view === name) ?? VIEWS[0];
  if (id === shown && running?.navigate?.(rest)) return;
  running?.abort.abort();
  const abort = new AbortController();
  shown = id;
  problem("");
  document.title = `${title} · K2`;
  for (const tab of $("tabs").children) {
    tab.setAttribute("aria-selected", String(tab.dataset.view === id));
    tab.tabIndex = tab.dataset.view === id ? 0 : -1;
  }
  view.replaceChildren();
  view.dataset.view = id;
  const context = page(abort.signal);
  context.live("off");
  $("live").hidden = !STREAMED.includes(id);
  running = { abort, ...draw(view, context, rest) };
}

function askForKey(reason) {
  const dialog = $("keys");
  if (dialog.open) return;
  if (reason) $("keys-reason").textContent = `${reason[0].toUpperCase()}${reason.slice(1)}. The key is kept in this tab only.`;
  $("token").value = api.key();
  dialog.returnValue = "";
  dialog.showModal();
  $("token").select();
}

function reload() {
  shown = "";
  show();
}

function toggleTheme() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const theme = dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("k2-theme", theme);
  running?.applyTheme?.();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const number = Number(event.key);
  const action = {
    "?": () => $("shortcuts").showModal(),
    d: toggleTheme,
    k: () => askForKey(""),
    r: reload,
    "/": () => running?.find?.(),
    i: () => running?.interval?.(),
    Escape: () => running?.close?.(),
  }[event.key] ?? (VIEWS[number - 1] && (() => { location.hash = VIEWS[number - 1][0]; }));
  if (!action) return;
  event.preventDefault();
  action();
}

$("tabs").append(...VIEWS.map(([id, title], at) => el("a", {
  role: "tab", href: `#${id}`, "data-view": id, title: `${title} (${at + 1})`,
}, title)));
$("tabs").addEventListener("keydown", (event) => {
  const tabs = [...$("tabs").children];
  const to = tabs[tabs.indexOf(document.activeElement) + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
  if (to) focus(tabs, to);
});
$("shortcut-list").append(...SHORTCUTS.flatMap(([keys, action]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, action)]));
$("theme").addEventListener("click", toggleTheme);
$("key").addEventListener("click", () => askForKey(""));
$("help").addEventListener("click", () => $("shortcuts").showModal());
$("keys").querySelector("form").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.id !== "token") return;
  event.preventDefault();
  $("keys").close("use");
});
$("keys").addEventListener("close", () => {
  const choice = $("keys").returnValue;
  const token = $("token").value.trim();
  $("token").value = "";
  if (choice !== "use" && choice !== "forget") return;
  api.setKey(choice === "use" ? token : "");
  reload();
});
document.addEventListener("keydown", onKey);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => running?.applyTheme?.());
addEventListener("hashchange", show);
show();
