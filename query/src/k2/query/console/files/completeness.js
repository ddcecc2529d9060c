// Symbols by hours: complete, repaired, missing, open, unverifiable.
import * as api from "./api.js";
import { count, el, focus, moment } from "./dom.js";

const HOUR = 3600e3;
const DAYS = [1, 3, 7];
const STATES = [
  ["complete", "every id between the first and the last is there"],
  ["repaired", "complete, with trades fetched again over REST"],
  ["missing", "ids are missing in Gold"],
  ["open", "the hour is not over, or not judged yet"],
  ["unverifiable", "the exchange's ids are not consecutive"],
];

export function completeness(view, page) {
  let days = Number(localStorage.getItem("k2-days") ?? 3);
  const choices = el("div", { role: "group", "aria-label": "Days", class: "choices" }, DAYS.map((n) => el("button", {
    type: "button", "data-days": n, onclick: () => choose(n),
  }, n === 1 ? "1 day" : `${n} days`)));
  const grid = el("div", { role: "grid", id: "map", "aria-label": "Completeness of hours" });
  const detail = el("aside", { id: "detail", "aria-live": "polite" });
  const legend = el("ul", { class: "legend" }, STATES.map(([state, words]) => el("li", { title: words }, el("i", { "data-state": state }), `${state} `, el("b", { "data-count": state }))));
  view.append(el("div", { class: "line" }, el("h1", {}, "Completeness"), el("span", { class: "grow" }), choices), legend, grid, detail);
  grid.addEventListener("keydown", moved);
  grid.addEventListener("focusin", (event) => describe(event.target));
  grid.addEventListener("click", (event) => { if (event.target.matches("[role=gridcell]")) go(event.target); });
  grid.addEventListener("mouseover", (event) => describe(event.target));

  const held = new WeakMap();
  page.every(() => 30, load);

  function choose(n) {
    days = n;
    localStorage.setItem("k2-days", String(n));
    page.told(load);
  }

  async function load() {
    for (const button of choices.children) button.setAttribute("aria-pressed", String(Number(button.dataset.days) === days));
    const end = Math.ceil(Date.now() / HOUR) * HOUR;
    let start = end - days * 24 * HOUR;
    const found = await api.rows("v1/completeness", { start: new Date(start).toISOString() }, page.signal);
    const hours = Array.from({ length: days * 24 }, (_, at) => start + at * HOUR);
    const symbols = new Map();
    for (const row of found) {
      const name = `${row.symbol} ${row.exchange}`;
      if (!symbols.has(name)) symbols.set(name, new Map());
      symbols.get(name).set(Date.parse(row.hour), row);
    }
    for (const [state] of STATES) legend.querySelector(`[data-count=${state}]`).textContent = count(found.filter((row) => row.state === state).length);
    const at = place(document.activeElement);
    grid.style.setProperty("--hours", hours.length);
    grid.replaceChildren(head(hours), ...[...symbols].map(([name, rows]) => line(name, rows, hours)));
    if (!symbols.size) grid.append(el("p", { class: "empty" }, "The audit has judged no hour of these days. `k2 audit` judges them, and in a cluster the hourly audit does."));
    const cells = [...grid.querySelectorAll("[role=gridcell]")];
    const worst = cells.findLast((cell) => cell.dataset.state === "missing") ?? cells.findLast((cell) => cell.dataset.state);
    const back = at && grid.children[at[0]]?.children[at[1]];
    if (back) back.focus();
    if (worst ?? cells[0]) (back ?? worst ?? cells[0]).tabIndex = 0;
    if (worst && !detail.children.length) describe(worst);
  }

  function head(hours) {
    return el("div", { role: "row", class: "head" }, el("span", { role: "columnheader" }, "Hour (UTC)"), hours.map((hour) => {
      const time = new Date(hour);
      const told = time.getUTCHours() === 0 ? time.toISOString().slice(5, 10) : time.getUTCHours() % (days > 1 ? 12 : 3) === 0 ? time.toISOString().slice(11, 13) : "";
      return el("span", { role: "columnheader", "aria-label": time.toISOString().slice(0, 13) }, told);
    }));
  }

  function line(name, rows, hours) {
    const [symbol, exchange] = name.split(" ");
    return el("div", { role: "row" }, el("span", { role: "rowheader" }, symbol, " ", el("small", {}, exchange)), hours.map((hour) => {
      const row = rows.get(hour);
      const when = new Date(hour).toISOString();
      const cell = el("span", { role: "gridcell", tabindex: -1, "data-state": row?.state, "aria-label": `${symbol} ${when.slice(0, 13)}h ${row?.state ?? "no trades"}` });
      held.set(cell, { symbol, exchange, when, row });
      return cell;
    }));
  }

  function place(cell) {
    if (!cell?.matches?.("#map [role=gridcell]")) return null;
    const row = cell.parentElement;
    return [[...grid.children].indexOf(row), [...row.children].indexOf(cell)];
  }

  function moved(event) {
    const at = place(document.activeElement);
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!at || !(step || ["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    const row = step ? grid.children[at[0] + step[0]] : grid.children[at[0]];
    const to = step ? row?.children[at[1] + step[1]] : event.key === "Home" ? row.children[1] : row.lastElementChild;
    if (to?.matches("[role=gridcell]")) go(to);
  }

  function go(cell) {
    for (const each of grid.querySelectorAll("[tabindex='0']")) each.tabIndex = -1;
    focus([cell], cell);
  }

  function describe(cell) {
    const about = held.get(cell);
    if (!about) return;
    const { row } = about;
    const facts = row ? [
      ["state", row.state], ["expected", count(row.expected)], ["present", count(row.present)],
      ["by source", pairs(row.by_source)], ["missing ids", ranges(row.missing)],
      ["judged", moment(row.checked_at)], ["snapshot", row.gold_snapshot_id],
    ] : [["state", "no trades"]];
    detail.replaceChildren(
      el("h2", {}, `${about.symbol} `, el("small", {}, `${about.exchange} · ${about.when.slice(0, 10)} ${about.when.slice(11, 16)}`)),
      el("dl", {}, facts.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    );
  }

  return {};
}

function pairs(found) {
  if (!found) return "";
  const entries = Array.isArray(found) ? found : Object.entries(found);
  return entries.map(([name, n]) => `${name} ${count(n)}`).join(", ");
}

function ranges(found) {
  if (!found?.length) return "";
  const told = found.slice(0, 8).map((range) => {
    if (typeof range === "string") return range;
    const [first, last] = Object.values(range);
    return first === last ? first : `${first} to ${last}`;
  });
  return told.join(", ") + (found.length > 8 ? ` and ${found.length - 8} more ranges` : "");
}
