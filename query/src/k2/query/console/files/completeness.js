// Map of symbols by hours, for each channel: complete, repaired, missing, open, unverifiable.
import * as api from "./api.js";
import { count, el, focus, moment } from "./dom.js";

const HOUR = 3600e3;
const DAYS = [1, 3, 7];
const CHANNELS = ["trades", "quotes", "book"];
const STATES = [ // and what they mean of trades, and of quotes and books, which the ledger judges by seconds
  ["complete", "every id from the first to the last is in Gold", "every second is verified"],
  ["repaired", "complete, with trades backfilled over REST", "only trades can be backfilled"],
  ["missing", "ids are missing in Gold", "seconds are suspect, or without a connection"],
  ["open", "the hour has not ended, or is not audited yet", "the hour has not ended, or is not audited yet"],
  ["unverifiable", "the exchange's ids are not consecutive", "the exchange sends nothing that could prove it"],
];

export function completeness(view, page) {
  let days = Number(localStorage.getItem("k2-days") ?? 3);
  const choices = el("div", { role: "group", "aria-label": "Days", class: "choices" }, DAYS.map((n) => el("button", {
    type: "button", "data-days": n, onclick: () => choose(n),
  }, n === 1 ? "1 day" : `${n} days`)));
  let channel = CHANNELS.find((each) => each === localStorage.getItem("k2-channel")) ?? CHANNELS[0];
  const channels = el("div", { role: "group", "aria-label": "Channel", class: "choices" }, CHANNELS.map((each) => el("button", {
    type: "button", "data-channel": each, onclick: () => chooseChannel(each),
  }, each)));
  const grid = el("div", { role: "grid", id: "map", "aria-label": "Completeness of hours" });
  const detail = el("aside", { id: "detail", "aria-live": "polite" });
  const legend = el("ul", { class: "legend" }, STATES.map(([state]) => el("li", { "data-legend": state }, el("i", { "data-state": state }), `${state} `, el("b", { "data-count": state }))));
  view.append(el("div", { class: "line" }, el("h1", {}, "Completeness"), el("span", { class: "grow" }), channels, choices), legend, grid, detail);
  grid.addEventListener("keydown", onKey);
  grid.addEventListener("focusin", (event) => describe(event.target));
  grid.addEventListener("click", (event) => { if (event.target.matches("[role=gridcell]")) select(event.target); });
  grid.addEventListener("mouseover", (event) => describe(event.target));

  const hourOf = new WeakMap();
  page.every(() => 30, load);

  function choose(n) {
    days = n;
    localStorage.setItem("k2-days", String(n));
    page.run(load);
  }

  function chooseChannel(each) {
    channel = each;
    localStorage.setItem("k2-channel", each);
    detail.replaceChildren();
    page.run(load);
  }

  async function load() {
    for (const button of channels.children) button.setAttribute("aria-pressed", String(button.dataset.channel === channel));
    for (const [state, ...meanings] of STATES) legend.querySelector(`[data-legend=${state}]`).title = meanings[channel === "trades" ? 0 : 1];
    for (const button of choices.children) button.setAttribute("aria-pressed", String(Number(button.dataset.days) === days));
    const end = Math.ceil(Date.now() / HOUR) * HOUR;
    let start = end - days * 24 * HOUR;
    const audited = await api.rows("v1/completeness", { channel, start: new Date(start).toISOString() }, page.signal);
    const hours = Array.from({ length: days * 24 }, (_, at) => start + at * HOUR);
    const symbols = new Map();
    for (const row of audited) {
      const name = `${row.symbol} ${row.exchange}`;
      if (!symbols.has(name)) symbols.set(name, new Map());
      symbols.get(name).set(Date.parse(row.hour), row);
    }
    for (const [state] of STATES) legend.querySelector(`[data-count=${state}]`).textContent = count(audited.filter((row) => row.state === state).length);
    const at = position(document.activeElement);
    grid.style.setProperty("--hours", hours.length);
    grid.replaceChildren(head(hours), ...[...symbols].map(([name, rows]) => line(name, rows, hours)));
    if (!symbols.size) grid.append(el("p", { class: "empty" }, "No hour of these days has been audited. Run `k2 audit`; in a cluster, the hourly audit does."));
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
      const label = time.getUTCHours() === 0 ? time.toISOString().slice(5, 10) : time.getUTCHours() % (days > 1 ? 12 : 3) === 0 ? time.toISOString().slice(11, 13) : "";
      return el("span", { role: "columnheader", "aria-label": time.toISOString().slice(0, 13) }, label);
    }));
  }

  function line(name, rows, hours) {
    const [symbol, exchange] = name.split(" ");
    return el("div", { role: "row" }, el("span", { role: "rowheader" }, symbol, " ", el("small", {}, exchange)), hours.map((hour) => {
      const row = rows.get(hour);
      const when = new Date(hour).toISOString();
      const cell = el("span", { role: "gridcell", tabindex: -1, "data-state": row?.state, "aria-label": `${symbol} ${when.slice(0, 13)}h ${row?.state ?? `no ${channel}`}` });
      hourOf.set(cell, { symbol, exchange, when, row });
      return cell;
    }));
  }

  function position(cell) {
    if (!cell?.matches?.("#map [role=gridcell]")) return null;
    const row = cell.parentElement;
    return [[...grid.children].indexOf(row), [...row.children].indexOf(cell)];
  }

  function onKey(event) {
    const at = position(document.activeElement);
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!at || !(step || ["Home", "End"].includes(event.key))) return;
    event.preventDefault();
    const row = step ? grid.children[at[0] + step[0]] : grid.children[at[0]];
    const to = step ? row?.children[at[1] + step[1]] : event.key === "Home" ? row.children[1] : row.lastElementChild;
    if (to?.matches("[role=gridcell]")) select(to);
  }

  function select(cell) {
    for (const each of grid.querySelectorAll("[tabindex='0']")) each.tabIndex = -1;
    focus([cell], cell);
  }

  function describe(cell) {
    const hour = hourOf.get(cell);
    if (!hour) return;
    const { row } = hour;
    const facts = row ? [
      ["state", row.state], ["expected", count(row.expected)], ["actual", count(row.actual)],
      ["seconds", pairs(row.seconds)], ["by source", pairs(row.by_source)], ["missing ids", ranges(row.missing)],
      ["audited", moment(row.checked_at)], ["snapshot", row.gold_snapshot_id],
    ] : [["state", `no ${channel}`]];
    detail.replaceChildren(
      el("h2", {}, `${hour.symbol} `, el("small", {}, `${hour.exchange} · ${hour.when.slice(0, 10)} ${hour.when.slice(11, 16)}`)),
      el("dl", {}, facts.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    );
  }

  return {};
}

function pairs(counts) {
  if (!counts) return "";
  const entries = Array.isArray(counts) ? counts : Object.entries(counts);
  return entries.map(([name, n]) => `${name} ${count(n)}`).join(", ");
}

function ranges(missing) {
  if (!missing?.length) return "";
  const shown = missing.slice(0, 8).map((range) => {
    if (typeof range === "string") return range;
    const [first, last] = Object.values(range);
    return first === last ? first : `${first} to ${last}`;
  });
  return shown.join(", ") + (missing.length > 8 ? ` and ${missing.length - 8} more ranges` : "");
}
