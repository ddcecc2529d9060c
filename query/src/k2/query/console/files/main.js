// The page: views by their address, theme, key, shortcuts.
import * as api from "./api.js";
import { el, focus } from "./dom.js";
import { completeness } from "./completeness.js";
import { gaps, layers } from "./feeds.js";
import { letters } from "./letters.js";
import { market } from "./market.js";

const VIEWS = [
  ["market", "Market", market],
  ["completeness", "Completeness", completeness],
  ["layers", "Layers", layers],
  ["gaps", "Gaps", gaps],
  ["letters", "Dead letters", letters],
];
const SHORTCUTS = [
  ["1 to 5", "the views"],
  ["/", "find a symbol"],
  ["Arrow keys, Home, End", "move in a list or in the map"],
  ["Enter", "open what is marked"],
  ["Left, right, +, -", "move in the bars, and their scale"],
  ["i", "next interval of the bars"],
  ["r", "load again"],
  ["d", "dark or light"],
  ["k", "API key"],
  ["?", "this list"],
  ["Esc", "close"],
];

const $ = (id) => document.getElementById(id);
const view = $("view");
let running = null;
let shown = "";

/** What a view may use of the page. */
function page(signal) {
  return {
    signal,
    live(state, why = "") {
      $("live").dataset.state = state;
      $("live").textContent = state === "live" ? "live" : "not live";
      $("live").title = why;
    },
    problem,
    go: (address) => { location.hash = address; },
    /** Does it now and then again after so many seconds each, until the view is left; what goes wrong is told. */
    async every(seconds, work) {
      while (!signal.aborted) {
        const visible = !document.hidden;
        if (visible) await told(work, signal);
        await new Promise((done) => setTimeout(done, (visible ? seconds() : 2) * 1000));
      }
    },
    told: (work) => told(work, signal),
  };
}

async function told(work, signal) {
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

function problem(words) {
  $("problem").textContent = words;
  $("problem").hidden = !words;
}

function show() {
  const [name, ...rest] = location.hash.slice(1).split("/").map(decodeURIComponent);
  const [id, title, draw] = VIEWS.find(([known]) => known === name) ?? VIEWS[0];
  if (id === shown && running?.moved?.(rest)) return;
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
  const about = page(abort.signal);
  about.live("off");
  $("live").hidden = id !== "market"; // nothing else is streamed
  running = { abort, ...draw(view, about, rest) };
}

function askForKey(why) {
  const dialog = $("keys");
  if (dialog.open) return;
  if (why) $("keys-why").textContent = `${why[0].toUpperCase()}${why.slice(1)}. The key stays in this tab and is forgotten with it.`;
  $("token").value = api.key();
  dialog.returnValue = "";
  dialog.showModal();
  $("token").select();
}

function again() {
  shown = "";
  show();
}

function turn() {
  const dark = getComputedStyle(document.documentElement).colorScheme === "dark";
  const theme = dark ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  localStorage.setItem("k2-theme", theme);
  running?.themed?.();
}

function keyed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const number = Number(event.key);
  const does = {
    "?": () => $("shortcuts").showModal(),
    d: turn,
    k: () => askForKey(""),
    r: again,
    "/": () => running?.find?.(),
    i: () => running?.interval?.(),
    Escape: () => running?.close?.(),
  }[event.key] ?? (VIEWS[number - 1] && (() => { location.hash = VIEWS[number - 1][0]; }));
  if (!does) return;
  event.preventDefault();
  does();
}

$("tabs").append(...VIEWS.map(([id, title], at) => el("a", {
  role: "tab", href: `#${id}`, "data-view": id, title: `${title} (${at + 1})`,
}, title)));
$("tabs").addEventListener("keydown", (event) => {
  const tabs = [...$("tabs").children];
  const to = tabs[tabs.indexOf(document.activeElement) + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
  if (to) focus(tabs, to);
});
$("shortcut-list").append(...SHORTCUTS.flatMap(([keys, does]) => [el("dt", {}, el("kbd", {}, keys)), el("dd", {}, does)]));
$("theme").addEventListener("click", turn);
$("key").addEventListener("click", () => askForKey(""));
$("help").addEventListener("click", () => $("shortcuts").showModal());
$("keys").querySelector("form").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.target.id !== "token") return;
  event.preventDefault();
  $("keys").close("use");
});
$("keys").addEventListener("close", () => {
  const said = $("keys").returnValue;
  const token = $("token").value.trim();
  $("token").value = "";
  if (said !== "use" && said !== "forget") return;
  api.setKey(said === "use" ? token : "");
  again();
});
document.addEventListener("keydown", keyed);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => running?.themed?.());
addEventListener("hashchange", show);
show();
